"""ImageNet weights from servers that are busy, cut connections or refuse, and from caches that were made otherwise."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save

from inversion.errors import WeightsError
from inversion.losses.lpips_weights import TrunkSource, find_trunk
from inversion.models.encoders import ENCODERS, EncoderCut, WeightsSource, imagenet_status, pretrained_files
from inversion.models.encoders.build import Encoder, build_encoder

VGG = EncoderCut("vgg16", "block1")
VIT = EncoderCut("timm/test_vit.r160_in1k", "block1")
REPOSITORY = VIT.encoder
ALL_AT_ONCE = 10**9


@dataclass
class Origin:
    """Serves ``files`` by path. ``head`` and ``get`` hold statuses to answer with first; 0 hangs up without one."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    head: list[int] = field(default_factory=list)
    get: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int = ALL_AT_ONCE
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def asked(self, method: str) -> int:
        return sum(asked == method for asked, _, _ in self.requests)


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    """A server of both libraries' weights."""
    state = Origin()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(state.head, body=False)

        def do_GET(self) -> None:
            self._answer(state.get, body=True)

        def _answer(self, statuses: list[int], body: bool) -> None:
            self.close_connection = True
            state.requests.append((self.command, self.path, self.headers.get("Authorization")))
            content = state.files.get(self.path, b"")
            status = statuses.pop(0) if statuses else 200 if content else 404
            if not status:
                return
            begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if begin and status == 200 else status)
            headers = state.headers if status != 200 else {
                "Content-Length": str(len(content) - begin), "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Repo-Commit": "1" * 40, "Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            for name, value in (headers if status == 200 else headers | {"Content-Length": "0"}).items():
                self.send_header(name, value)
            self.send_header("Connection", "close")  # as it does; a client that keeps the connection would race with it
            self.end_headers()
            if body and status == 200:
                self.wfile.write(content[begin: begin + state.cut_after])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", state.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                        state.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches: ``torch/hub/checkpoints`` and ``huggingface`` in this folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited; nothing waits."""
    waited: list[float] = []
    monkeypatch.setattr("inversion.retry.sleep", waited.append)
    monkeypatch.setattr("inversion.download.CHUNK_BYTES", 10_000)
    return waited


@pytest.fixture
def vgg_file(tmp_path: Path, random_encoder: Callable[..., Encoder], origin: Origin, monkeypatch: pytest.MonkeyPatch
             ) -> bytes:
    """What the cut needs of VGG16, as torchvision's server has it: its name holds the beginning of its SHA-256."""
    torch.save(random_encoder("vgg16:block1").trunk_state(), tmp_path / "vgg.pth")
    content = (tmp_path / "vgg.pth").read_bytes()
    name = f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(ENCODERS, "vgg16", replace(VGG.spec, weights_url=f"{origin.url}/{name}"))
    origin.files[f"/{name}"] = content
    return content


@pytest.fixture
def vit_file(tmp_path: Path, origin: Origin) -> bytes:
    """A whole small model of timm's, as Hugging Face has it."""
    torch.manual_seed(4)
    content = save(timm.create_model("test_vit").state_dict())
    origin.files[f"/{REPOSITORY}/resolve/main/model.safetensors"] = content
    return content


@pytest.fixture
def vit(vit_file: bytes, tmp_path: Path, from_file: Callable[..., Encoder]) -> Encoder:
    """The encoder with these weights, given as a file."""
    (tmp_path / "vit.safetensors").write_bytes(vit_file)
    return from_file(str(VIT), tmp_path / "vit.safetensors")


def build(cut: EncoderCut) -> Encoder:
    return build_encoder(cut, WeightsSource(cut.encoder, "imagenet"), 64)


def same(one: Encoder, other: Encoder) -> bool:
    left, right = one.trunk_state(), other.trunk_state()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.usefixtures("caches", "vit_file", "vgg_file")
@pytest.mark.parametrize("cut", [VGG, VIT], ids=str)
class TestAsking:
    """Whether the weights are available, before anything starts."""

    @pytest.mark.parametrize("statuses", [[429], [503, 502], [500, 504, 408], [0, 503]], ids=str)
    def test_a_busy_server_is_asked_again(
            self, cut: EncoderCut, statuses: list[int], origin: Origin, pauses: list[float]) -> None:
        origin.head = [*statuses]
        assert imagenet_status(cut) == "downloadable"
        assert pauses == [0.5, 1.0, 2.0][: len(statuses)]
        assert origin.asked("HEAD") == len(statuses) + 1

    def test_it_is_left_alone_for_as_long_as_it_asks(
            self, cut: EncoderCut, origin: Origin, pauses: list[float]) -> None:
        origin.head, origin.headers = [429], {"Retry-After": "7"}
        assert imagenet_status(cut) == "downloadable"
        assert pauses == [7.0]

    @pytest.mark.parametrize(("headers", "message", "times"), [
        ({}, "4 times in a row: try again later, .*weights=FILE", 4),
        ({"Retry-After": "3600"}, "with Retry-After: 3600: try again later", 1),
    ])
    def test_it_is_given_up_with_what_it_answered(
            self, cut: EncoderCut, headers: dict[str, str], message: str, times: int, origin: Origin) -> None:
        origin.head, origin.headers = [429] * 9, headers
        with pytest.raises(WeightsError, match=rf"answered with HTTP status 429 \(Too Many Requests\) {message}"):
            imagenet_status(cut)
        assert origin.asked("HEAD") == times

    def test_a_server_that_always_hangs_up_is_named(self, cut: EncoderCut, origin: Origin) -> None:
        origin.head = [0] * 9
        with pytest.raises(WeightsError, match="ended the connection without an answer 4 times in a row"):
            imagenet_status(cut)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refusal_is_final_and_says_what_to_do(self, cut: EncoderCut, status: int, origin: Origin) -> None:
        origin.head, origin.headers = [status] * 9, {"X-Error-Message": "Access to it is restricted"}
        remedy = r"is restricted\. Accept its terms at .*HF_TOKEN" if cut is VIT else r"does not let you in: .*FILE"
        with pytest.raises(WeightsError, match=rf"answered with HTTP status {status} .*{remedy}"):
            imagenet_status(cut)
        assert origin.asked("HEAD") == 1


def test_hugging_face_is_told_the_users_token(
        caches: Path, vit_file: bytes, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert imagenet_status(VIT) == "downloadable"
    assert [token for _, _, token in origin.requests] == ["Bearer hf_mine"]


def test_a_download_that_is_refused_for_now_and_cut_is_resumed(
        caches: Path, vgg_file: bytes, origin: Origin, random_encoder: Callable[..., Encoder]) -> None:
    origin.get, origin.cut_after = [503, 200, 429], len(vgg_file) // 3
    assert same(build(VGG), random_encoder("vgg16:block1"))
    folder = caches / "torch" / "hub" / "checkpoints"
    assert [path.read_bytes() for path in folder.glob("*.pth*") if path.suffix != ".lock"] == [vgg_file]
    asked = len(origin.requests)
    assert imagenet_status(VGG) == "cached"
    build(VGG)
    assert len(origin.requests) == asked


def test_a_download_of_other_content_is_refused_and_not_kept(caches: Path, vgg_file: bytes, origin: Origin) -> None:
    origin.files = {path: content[::-1] for path, content in origin.files.items()}
    with pytest.raises(WeightsError, match=r"wrong content \(SHA-256 \w+, expected \w+\); it was removed"):
        build(VGG)
    assert not list((caches / "torch").rglob("*.pth"))


def test_a_download_that_stays_refused_ends_in_one_line(caches: Path, vgg_file: bytes, origin: Origin) -> None:
    origin.get = [503] * 20
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(the server answered 503 .*save the file as"):
        build(VGG)


def test_a_download_from_hugging_face_is_tried_again(
        caches: Path, vit_file: bytes, vit: Encoder, origin: Origin, pauses: list[float]) -> None:
    origin.get = [503, 502]
    assert same(build(VIT), vit)
    assert pauses == [0.5, 1.0]
    origin.requests.clear()
    assert imagenet_status(VIT) == "cached"
    assert same(build(VIT), vit)
    assert origin.requests == []


def test_a_download_from_hugging_face_whose_server_hangs_up_is_tried_again(
        caches: Path, vit_file: bytes, vit: Encoder, origin: Origin, pauses: list[float]) -> None:
    origin.head = [200, 0]  # ours, and the library's own, which it does not repeat
    assert same(build(VIT), vit)
    assert pauses == [0.5]


def test_a_download_that_hugging_face_refuses_ends_in_one_line(caches: Path, vit_file: bytes, origin: Origin) -> None:
    origin.get = [503] * 20
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be downloaded from Hugging Face "
                                           r"\(HTTP status 503 \(Service Unavailable\) 4 times in a row\): try again"):
        build(VIT)


def snapshot(caches: Path, revision: str, content: bytes, modified: int) -> Path:
    """What ``snapshot_download(revision=...)`` leaves: no reference to main."""
    file = caches / "huggingface" / "models--timm--test_vit.r160_in1k" / "snapshots" / revision / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    os.utime(file, (modified, modified))
    return file


def test_another_revision_in_the_cache_is_used_without_asking(
        caches: Path, vit_file: bytes, vit: Encoder, origin: Origin) -> None:
    snapshot(caches, "2" * 40, b"older", modified=1_000)
    newest = snapshot(caches, "1" * 40, vit_file, modified=2_000)
    assert pretrained_files.cached_file(pretrained_files.Location(repo=REPOSITORY)) == newest
    assert imagenet_status(VIT) == "cached"
    assert same(build(VIT), vit)
    assert origin.requests == []


def test_a_revision_that_was_asked_for_is_not_replaced_by_another(caches: Path, vit_file: bytes) -> None:
    snapshot(caches, "2" * 40, vit_file, modified=1_000)
    assert pretrained_files.cached_file(pretrained_files.Location(repo=f"{REPOSITORY}@{'1' * 40}")) is None


@pytest.mark.parametrize(("keep", "what"), [(0, "it is empty"), (500, "cut short"), (-10, "cut short")])
def test_a_download_that_was_cut_short_in_hugging_faces_cache_is_named_with_the_file_to_delete(
        caches: Path, vit_file: bytes, vit: Encoder, origin: Origin, keep: int, what: str) -> None:
    build(VIT)
    cached = pretrained_files.cached_file(pretrained_files.Location(repo=REPOSITORY))
    assert cached is not None
    blob = cached.resolve()
    blob.write_bytes(vit_file[:keep])
    with pytest.raises(WeightsError, match=rf"test_vit\.r160_in1k \(timm's .*{what}.*delete {blob}, and it is"):
        build(VIT)
    blob.unlink()  # as we said
    assert same(build(VIT), vit)


def test_a_download_of_lpips_network_that_was_cut_short_is_named(caches: Path, origin: Origin) -> None:
    file = caches / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    file.write_bytes(b"PK\x03\x04 torn")
    assert find_trunk("auto") == TrunkSource()
    with pytest.raises(WeightsError, match=rf"AlexNet, for LPIPS, cannot be loaded .*cut short.* delete {file}"):
        TrunkSource().load()
