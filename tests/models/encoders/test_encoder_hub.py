"""timm models of Hugging Face's hub, from a server on this machine that answers as the hub does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from inversion.errors import RequestError, UnknownNameError
from inversion.models.encoders.catalog import parse_encoders

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = f"timm/hf-hub:someone/tiny@{COMMIT}"
CONFIG = {
    "architecture": "test_resnet", "num_classes": 7, "model_args": {"act_layer": "silu"},
    "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
                       "first_conv": "conv1.0", "classifier": "fc", "num_classes": 7},
}
"""A network with another activation than timm's, so that its arguments matter."""


@dataclass
class Hub:
    """The files of repositories by ``USER/REPO/FILE``; what was requested."""

    files: dict[str, bytes]
    address: str = ""
    requested: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the model's weights."""
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", num_classes=7, act_layer="silu").state_dict(), path)
    return path


@pytest.fixture
def hub(weights: Path) -> Iterator[Hub]:
    """A hub with ``someone/tiny``, and a repository of another library."""
    found = Hub({"someone/tiny/config.json": json.dumps(CONFIG).encode(),
                 "someone/tiny/model.safetensors": weights.read_bytes(),
                 "someone/bert/config.json": b'{"architectures": ["BertModel"]}',
                 "someone/torn/config.json": b'{"architecture": "test_res'})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer())

        def _answer(self) -> bytes:
            user, repository, _, revision, *path = self.path.strip("/").split("/") + [""] * 4
            file = "/".join(filter(None, path))
            content = found.files.get(f"{user}/{repository}/{file}")
            found.requested.append(f"{repository}@{revision}/{file}")
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("ETag", f'"{abs(hash(content))}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            return content or b""

        def log_message(self, *_: object) -> None:
            """Quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    found.address = f"http://127.0.0.1:{httpd.server_port}"
    yield found
    httpd.shutdown()
    httpd.server_close()


def environment(home: Path, address: str) -> Mapping[str, str]:
    """That of a process with a cache of its own, whose hub is at this address."""
    own = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": address, "NO_PROXY": "*", "no_proxy": "*",
                        "HF_HUB_DISABLE_XET": "1"}
    return {name: value for name, value in own.items() if name not in ("HF_HUB_CACHE", "HF_HUB_OFFLINE")}


def inversion(words: str, folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it in a folder."""
    return subprocess.run([sys.executable, "-m", "inversion", *words.split()], cwd=folder, env=dict(env),
                          capture_output=True, text=True, check=False)


TRAIN = ("train --encoder hf-hub:someone/tiny:layer1 --decoder wavelet --weights pretrained --data sample "
         "--image-size 64 --batch-size 8 --train-limit 8 --val-limit 2 --test-limit 2 --epochs 1 --lpips-weights off "
         "--precision fp32 --device cpu --tracking-uri sqlite:///mlflow.db")


def test_a_model_of_the_hub_is_trained_and_used_without_the_hub(hub: Hub, weights: Path, tmp_path: Path) -> None:
    done = inversion(TRAIN, tmp_path, environment(tmp_path / "home", hub.address))
    assert done.returncode == 0, done.stderr
    assert {"tiny@main/config.json", f"tiny@{COMMIT}/model.safetensors"} <= set(hub.requested)

    program = ("import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); "
               "run, = mlflow.search_runs(experiment_names=['inversion'], output_format='list'); "
               "print(json.dumps([run.info.run_id, run.info.run_name, run.data.params['encoder']]))")
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    run_id, name, encoder = json.loads(found.stdout.splitlines()[-1])
    assert encoder == NAME
    assert name == f"timm/hf-hub:someone/tiny@{COMMIT[:8]}:layer1+wavelet"

    frozen, = tmp_path.rglob("encoder0.safetensors")
    original = load_file(weights)
    assert len(load_file(frozen)) > 10
    assert all(torch.equal(tensor, original[key]) for key, tensor in load_file(frozen).items())
    assert json.loads(frozen.with_suffix(".json").read_bytes()) == CONFIG

    photograph = tmp_path / "photograph.png"
    program = f"from PIL import Image; Image.effect_noise((64, 64), 50).convert('RGB').save({str(photograph)!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    elsewhere = environment(tmp_path / "empty", "http://127.0.0.1:9")
    done = inversion(f"reconstruct {run_id} {photograph} --output out --tracking-uri sqlite:///mlflow.db", tmp_path,
                     elsewhere)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").glob("*.png"))


def test_arguments_and_normalisation_of_the_repository_are_used(hub: Hub, weights: Path, tmp_path: Path) -> None:
    program = """
import sys, timm, torch
from safetensors.torch import load_file
from inversion.models.encoders.build import build_encoder
from inversion.models.encoders.catalog import parse_encoders
from inversion.models.encoders.weights import parse_weights
cut, = cuts = parse_encoders("hf-hub:someone/tiny@v1.0:layer2")
images = torch.rand(2, 3, 64, 64)
whole = timm.create_model("test_resnet", num_classes=7, act_layer="silu").eval()
whole.load_state_dict(load_file(sys.argv[1]))
mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
normalised = (images - mean[:, None, None]) / std[:, None, None]
with torch.no_grad():
    expected = whole.forward_intermediates(normalised, indices=[2], intermediates_only=True)[0]
found = build_encoder(cut, parse_weights("imagenet", cuts)[cut.encoder], 64)(images)
torch.testing.assert_close(found, expected)
print(cut, cut.shape(64))
"""
    done = subprocess.run([sys.executable, "-c", program, str(weights)], capture_output=True, text=True, check=False,
                          env=dict(environment(tmp_path, hub.address)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{NAME}:layer2")
    assert "tiny@v1.0/config.json" in hub.requested


@pytest.fixture
def here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, for this process, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                        hub.address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    return hub


@pytest.mark.parametrize(("encoder", "said"), [
    ("hf-hub:someone/bert:layer1", f"timm/hf-hub:someone/bert@{COMMIT} is no model in timm's format, by its "
                                   "config.json: .*architecture"),
    ("hf-hub:someone/torn:layer1", "torn@.* is no model in timm's format, by its config.json: "),
    ("hf-hub:someone/none:layer1", r"404 \(Not Found\) where config.json should be: it is not there"),
    ("hf-hub:someone/tiny:layer9", f"{NAME} has no layer 'layer9'. Known: "),
    ("hf-hub:someone:layer1", "'hf-hub:someone' is no name of a repository: write hf-hub:USER/REPO"),
    ("hf-hub:", "'hf-hub:' is no name of a repository"),
])
def test_what_cannot_be_used_is_refused_in_a_line(encoder: str, said: str, here: Hub) -> None:
    with pytest.raises(RequestError, match=said) as error:
        parse_encoders(encoder)
    assert "\n" not in str(error.value)


def test_a_model_of_timms_own_has_one_name(here: Hub) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'timm/resnet18\.a1_in1k'"):
        parse_encoders("hf-hub:timm/resnet18.a1_in1k")
    assert here.requested == []
