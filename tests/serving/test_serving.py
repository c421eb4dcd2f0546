"""``mlflow models serve`` with a trained run, asked over HTTP by the client that the guide shows."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests
from mlflow.tracking import MlflowClient
from PIL import Image

from inversion.cli.app import cli, run_command

pytestmark = pytest.mark.acceptance

GUIDE = Path(__file__).parents[2] / "docs" / "serving.md"
START_SECONDS = 120
INSTALL_SECONDS = 900
"""An environment of its own is gigabytes; MLflow keeps it for the next time."""


class Served(NamedTuple):
    """A trained run in a store of its own, and the address of the server that serves it by its registry alias."""

    run_id: str
    store: str
    address: str
    folder: Path


def snippets() -> list[str]:
    """The Python blocks of the guide: a client, the registry, without a server."""
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)


def execute(code: str, **replaced: str) -> None:
    """Runs a block of the guide with some of its words replaced, each of which has to be there."""
    for word, value in replaced.items():
        assert word in code
        code = code.replace(word, value)
    exec(compile(code, str(GUIDE), "exec"), {})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path,
           enter_workplace: Callable[[Path, pytest.MonkeyPatch], None]) -> Iterator[Served]:
    """Trained by a process, registered as the guide shows, served by ``mlflow models serve``."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        store = f"sqlite:///{folder}/mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", store)
        words = ["--encoder", "vgg16:block1", "--decoder", "wavelet", "--data", str(photo_folder), "--epochs", "1",
                 "--weights", "random", "--lpips-weights", "off", "--image-size", "32", "--threads", "1",
                 "--precision", "fp32"]  # as the served model computes
        subprocess.run([sys.executable, "-m", "inversion", "train", *words], check=True, capture_output=True)
        experiment = MlflowClient().get_experiment_by_name("inversion")
        assert experiment is not None
        run, = MlflowClient().search_runs([experiment.experiment_id])
        execute(snippets()[1], RUN_ID=run.info.run_id)
        with serve("models:/inverter@best", folder) as address:
            yield Served(run.info.run_id, store, address, folder)


@contextmanager
def serve(model: str, folder: Path, env_manager: str = "local", seconds: float = START_SECONDS) -> Iterator[str]:
    """``mlflow models serve`` of a model in the store that the environment says; its address, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["mlflow", "models", "serve", "-m", model, "--env-manager", env_manager, "--port", str(port)]
    log = folder / f"log-{port}"
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}", process, log, seconds)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if requests.get(f"{address}/ping", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.3)


def ask(served: Served, inputs: Any) -> requests.Response:
    return requests.post(f"{served.address}/invocations", json={"inputs": inputs}, timeout=60)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def test_an_image_comes_back_as_inversion_reconstruct_makes_it(served: Served, photo_folder: Path,
                                                               tmp_path: Path) -> None:
    photo = photo_folder / "test" / "test0.png"
    words = ["reconstruct", served.run_id, str(photo), "--output", str(tmp_path), "--tracking-uri", served.store]
    assert run_command(cli, words) == 0
    original, reconstruction = (np.asarray(Image.open(tmp_path / f"test0_{what}.png"), np.float32) / 255
                                for what in ("original", "reconstruction"))
    answer = ask(served, original.transpose(2, 0, 1)[None].tolist())
    assert answer.status_code == 200, answer.text
    predictions = np.array(answer.json()["predictions"])
    assert predictions.shape == (1, 3, 32, 32)
    assert np.abs(predictions[0].transpose(1, 2, 0) - reconstruction).max() <= 0.5 / 255 + 1e-5, "PNG has 8 bits"
    assert np.abs(reconstruction - original).max() > 0.05, "the decoder is no identity"


def test_the_same_request_equals_the_loaded_model(served: Served) -> None:
    import torch

    from inversion.runs.load import find_trained, load_reconstructor
    from inversion.tracking.connection import connect

    images = np.random.default_rng(1).random((10, 3, 32, 32), dtype=np.float32)
    predictions = np.array(ask(served, images.tolist()).json()["predictions"])
    expected = load_reconstructor(find_trained(connect(served.store), served.run_id))(torch.from_numpy(images))
    np.testing.assert_allclose(predictions, expected.numpy(), atol=1e-5)


def test_the_client_in_the_guide_works(served: Served, photo_folder: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Image.open(photo_folder / "test" / "test1.png") as image:
        image.save("photo.jpg")
    execute(snippets()[0], **{"size = 224": "size = 32", "http://127.0.0.1:5001": served.address})
    with Image.open("reconstruction.png") as image:
        assert image.size == (32, 32)
        assert np.asarray(image).std() > 5, "it shows something"


@pytest.mark.parametrize("inputs", [
    np.zeros((1, 3, 64, 64)), np.zeros((1, 32, 32, 3)), np.zeros((3, 32, 32)), np.zeros((1, 1, 32, 32)),
])
def test_a_wrong_shape_is_refused_with_the_right_one(served: Served, inputs: Any) -> None:
    answer = ask(served, inputs.tolist())
    assert answer.status_code == 400
    assert "(-1, 3, 32, 32)" in answer.text


@pytest.mark.parametrize("value", [255.0, -0.1])
def test_pixels_that_are_not_between_0_and_1_are_refused(served: Served, value: float) -> None:
    answer = ask(served, np.full((1, 3, 32, 32), value).tolist())
    assert answer.status_code == 400
    assert "divide 8-bit pixels by 255" in answer.text


def test_the_bounds_themselves_are_images(served: Served) -> None:
    for value in (0.0, 1.0):
        assert ask(served, np.full((1, 3, 32, 32), value).tolist()).status_code == 200


def test_what_is_no_image_is_refused(served: Served) -> None:
    bodies: list[dict[str, Any]] = [{"inputs": "photo.jpg"}, {"image": []}, {"inputs": []}]
    for body in bodies:
        assert requests.post(f"{served.address}/invocations", json=body, timeout=60).status_code == 400


def test_the_run_itself_is_served_as_well(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.store)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    images = np.random.default_rng(2).random((1, 3, 32, 32), dtype=np.float32).tolist()
    with serve(f"runs:/{served.run_id}/model", served.folder) as address:
        itself = ask(served._replace(address=address), images)
    assert itself.status_code == 200
    np.testing.assert_allclose(itself.json()["predictions"], ask(served, images).json()["predictions"], atol=1e-5)


def pip_setting(name: str) -> str:
    """What pip's configuration says, which uv does not read."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "get", name], text=True, capture_output=True,
                          check=False)
    return " ".join(said.stdout.split())


def test_it_is_served_in_an_environment_of_its_own__with_the_packages_that_the_run_has_logged(
        served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this project nor what it needs to train is installed there: the model brings its code along."""
    pytest.importorskip("uv")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.store)
    monkeypatch.setenv("UV_INDEX", pip_setting("global.extra-index-url"))
    monkeypatch.setenv("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip: the version counts, not the index
    images = np.random.default_rng(3).random((1, 3, 32, 32), dtype=np.float32).tolist()
    with serve("models:/inverter@best", served.folder, "uv", INSTALL_SECONDS) as address:
        by_itself = ask(served._replace(address=address), images)
    assert by_itself.status_code == 200, by_itself.text
    np.testing.assert_allclose(by_itself.json()["predictions"], ask(served, images).json()["predictions"], atol=1e-5)
