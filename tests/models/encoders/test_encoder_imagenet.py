"""ImageNet weights: where they are looked for, what is concluded, and that the libraries' own loaders find them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models  # type: ignore[import-untyped]

from inversion.errors import WeightsError
from inversion.files import file_sha256
from inversion.models.encoders import ENCODERS, EncoderCut, WeightsSource, imagenet_status, pretrained_files
from inversion.models.encoders.build import build_encoder

VGG = EncoderCut("vgg16", "block1")
RESNET = EncoderCut("resnet34", "layer1")
PVT = EncoderCut("pvt_v2_b2", "stage1")
VIT = EncoderCut("vit_small", "block1")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited before asking a server again; nothing waits."""
    waited: list[float] = []
    monkeypatch.setattr("inversion.retry.sleep", waited.append)
    return waited


@pytest.fixture
def no_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torchvision and Hugging Face; gives torchvision's folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "huggingface"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server() -> Iterator[Callable[[int], str]]:
    """``server(404)``: the address of a server that answers every HEAD request so; at 299 it lacks safetensors."""
    status = 200

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404 if "model.safetensors" in self.path and status == 299 else status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()

    def address(answer: int) -> str:
        nonlocal status
        status = answer
        return f"http://127.0.0.1:{httpd.server_port}"

    yield address
    httpd.shutdown()
    httpd.server_close()


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this address the server of both libraries' weights."""
    for name, spec in ENCODERS.items():
        if spec.weights_url:
            moved = replace(spec, weights_url=f"{address}/{spec.weights_url.rpartition('/')[2]}")
            monkeypatch.setitem(ENCODERS, name, moved)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                        address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")


def test_the_addresses_are_torchvisions_own() -> None:
    for spec in ENCODERS.values():
        assert spec.weights_url == (models.get_weight(spec.weights).url if spec.source == "torchvision" else "")


@pytest.mark.parametrize("environment", [{"TORCH_HOME": "/a/b"}, {"XDG_CACHE_HOME": "/c"}, {"TORCH_HOME": "~/t"}, {}])
def test_torchvisions_cache_is_where_torch_says(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pretrained_files.torch_checkpoints() == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.parametrize("cut", [VGG, RESNET, PVT, VIT], ids=str)
@pytest.mark.parametrize(("answer", "status"), [(200, "downloadable"), (204, "downloadable")])
def test_an_answer_below_400_means_downloadable(
        cut: EncoderCut, answer: int, status: str, no_caches: Path, server: Callable[[int], str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(server(answer), monkeypatch)
    assert imagenet_status(cut) == status


@pytest.mark.parametrize("cut", [VGG, PVT], ids=str)
@pytest.mark.parametrize("answer", [403, 404, 500])
def test_an_error_of_the_server_is_told_with_url_and_status(
        cut: EncoderCut, answer: int, no_caches: Path, server: Callable[[int], str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    address = server(answer)
    point_to(address, monkeypatch)
    with pytest.raises(WeightsError, match=rf"{address}/\S+ answered with HTTP status {answer}"):
        imagenet_status(cut)


def test_a_repository_with_only_the_second_file_is_downloadable(
        no_caches: Path, server: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(server(299), monkeypatch)  # 404 for model.safetensors, 299 for pytorch_model.bin
    assert imagenet_status(PVT) == "downloadable"


@pytest.mark.parametrize("cut", [VGG, PVT], ids=str)
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://does-not-exist.invalid"])
def test_a_connection_that_does_not_come_about_means_unreachable(
        cut: EncoderCut, address: str, no_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(address, monkeypatch)
    assert imagenet_status(cut) == "unreachable"


def test_a_server_that_does_not_answer_is_unreachable_after_the_time_limit(
        no_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(pretrained_files, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        assert imagenet_status(VGG) == "unreachable"


def test_hugging_face_offline_mode_means_unreachable_without_asking(
        no_caches: Path, server: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(server(200), monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (imagenet_status(PVT), imagenet_status(VGG)) == ("unreachable", "downloadable")


@pytest.mark.parametrize("cut", [VGG, PVT], ids=str)
def test_weights_out_of_reach_fail_at_once_and_say_what_to_do(
        cut: EncoderCut, no_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(WeightsError, match=rf"{cut.encoder} \(\S+\) are not cached.*TORCH_HOME and HF_HOME"):
        build_encoder(cut, WeightsSource(cut.encoder, "imagenet"), 64)


@pytest.mark.parametrize("cut", [VGG, RESNET], ids=str)
def test_weights_in_torchvisions_cache_are_found_and_loaded(
        cut: EncoderCut, no_caches: Path, original: Callable[[str], Any],
        monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://127.0.0.1:9", monkeypatch)
    whole = original(cut.encoder)
    name = f"{cut.encoder}-{file_sha256(whole.pth)[:8]}.pth"
    monkeypatch.setitem(ENCODERS, cut.encoder, replace(cut.spec, weights_url=f"http://127.0.0.1:9/{name}"))
    (no_caches / name).symlink_to(whole.pth)
    assert imagenet_status(cut) == "cached"
    encoder = build_encoder(cut, WeightsSource(cut.encoder, "imagenet"), 64)
    assert torch.equal(encoder(whole.images), whole.features[cut.layer])


@pytest.mark.parametrize("content", [b"", b"torn"])
def test_a_broken_file_in_torchvisions_cache_is_named(content: bytes, no_caches: Path) -> None:
    (no_caches / "vgg16-397923af.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=f"vgg16 cannot be loaded from {no_caches}"):
        build_encoder(VGG, WeightsSource("vgg16", "imagenet"), 64)


def test_a_file_of_other_weights_in_torchvisions_cache_is_refused(
        no_caches: Path, original: Callable[[str], Any]) -> None:
    whole = original("vgg16").pth
    (no_caches / "vgg16-397923af.pth").symlink_to(whole)
    beginning = file_sha256(whole)[:8]
    with pytest.raises(WeightsError, match=rf"vgg16-397923af.pth has other content .* begins with {beginning} .*"
                                           rf"delete {whole}"):
        build_encoder(VGG, WeightsSource("vgg16", "imagenet"), 64)


def fake_repository(home: Path, repository: str, file: Path) -> None:
    """Hugging Face's cache as it looks after a download."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / "model.safetensors").symlink_to(file)


PROGRAM = """
import json, sys, torch
from safetensors.torch import save_file
from inversion.models.encoders import EncoderCut, WeightsSource, imagenet_status
from inversion.models.encoders.build import build_encoder
folder, texts = sys.argv[1], sys.argv[2:]
for text in texts:
    cut = EncoderCut(*text.split(":"))
    status = imagenet_status(cut)
    encoder = build_encoder(cut, WeightsSource(cut.encoder, "imagenet"), 64)
    save_file(encoder.trunk_state(), f"{folder}/{cut.encoder}.safetensors")
    print(json.dumps([text, status]))
"""


def test_weights_in_hugging_faces_cache_are_found_and_loaded_offline(
        tmp_path: Path, original: Callable[[str], Any]) -> None:
    wholes = {cut: original(cut.encoder) for cut in (PVT, VIT)}
    for cut, whole in wholes.items():
        fake_repository(tmp_path / "home", f"timm/{cut.spec.model}", whole.safetensors)
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), *map(str, wholes)], env=environment,
                          capture_output=True, text=True, check=False)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[str(cut), "cached"] for cut in wholes], \
        done.stderr
    for cut, whole in wholes.items():
        loaded, expected = load_file(tmp_path / f"{cut.encoder}.safetensors"), load_file(whole.safetensors)
        assert len(loaded) > 10
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_an_incomplete_file_in_hugging_faces_cache_is_an_error_not_random_weights(
        tmp_path: Path, no_caches: Path, original: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://127.0.0.1:9", monkeypatch)
    state = load_file(original("pvt_v2_b2").safetensors)
    del state["stages.0.blocks.0.attn.q.weight"]
    save_file(state, tmp_path / "incomplete.safetensors")
    fake_repository(tmp_path, f"timm/{PVT.spec.model}", tmp_path / "incomplete.safetensors")
    (tmp_path / "hub").rename(tmp_path / "huggingface")
    assert imagenet_status(PVT) == "cached"
    with pytest.raises(WeightsError, match=r"pvt_v2_b2 .* cannot be loaded.*stages\.0\.blocks\.0\.attn\.q\.weight"):
        build_encoder(PVT, WeightsSource("pvt_v2_b2", "imagenet"), 64)
