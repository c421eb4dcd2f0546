"""What tests of several packages share: photographs, frozen encoders built once, LPIPS without downloads."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import event
from sqlalchemy.engine import Engine

from inversion.data.content import opened
from inversion.data.sample import photo_set
from inversion.losses.lpips import LPIPS
from inversion.models import part_files
from inversion.models.encoders import parse_encoders, parse_weights
from inversion.models.encoders.build import Encoder, build_encoder
from inversion.tracking import masking

pytest_plugins = ["tests.servers", "tests.longest_first"]
pytest.register_assert_rewrite("tests.own_code", "tests.sweeps", "tests.training", "tests.models.encoders.files")


@event.listens_for(Engine, "connect")
def do_not_sync(connection: Any, record: object) -> None:
    """SQLite files of tests need not outlast a power cut: MLflow waits several times for the disk in each commit.

    What is locked or damaged is found by whoever uses the connection.
    """
    if not isinstance(connection, sqlite3.Connection):
        return
    with suppress(sqlite3.Error):
        (patience,), = connection.execute("PRAGMA busy_timeout")
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute("PRAGMA synchronous = OFF")
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience}")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from a second thread, and lose much where other processes want the cores.

    Tests that train or score set the number; the next test begins with one again.
    """
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_passwords() -> Iterator[None]:
    """The passwords of one test are no secrets of the next."""
    yield
    masking._secrets.clear()


@pytest.fixture(autouse=True)
def no_code() -> Iterator[None]:
    """The files that one test may execute are not trusted by the next."""
    yield
    part_files._known.clear()


@pytest.fixture(scope="session")
def photograph() -> Callable[[str, int], NDArray[np.uint8]]:
    """``photograph("astronaut", 64)``: a photograph inside scikit-image, as a square ``uint8 (S, S, 3)``."""
    paths = {Path(photo.name).stem: photo.path for split in photo_set().splits.values() for photo in split}

    @cache
    def load(name: str, size: int) -> NDArray[np.uint8]:
        with opened(paths[name]) as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))

    return load


@pytest.fixture(scope="session")
def frozen() -> Callable[..., Encoder]:
    """``frozen("vgg16:block1", 64)``: an encoder with random weights, built once; nothing can change it.

    One with modifiers, which are calibrated, is a new copy each time.
    """

    @cache
    def build(text: str, image_size: int) -> Encoder:
        cut, = parse_encoders(text)
        return build_encoder(cut, parse_weights("random", [cut])[cut.encoder], image_size)

    def get(text: str, image_size: int = 64) -> Encoder:
        built = build(text, image_size)
        return copy.deepcopy(built) if built.cut.modifiers else built

    return get


@pytest.fixture(scope="session")
def random_trunk() -> dict[str, torch.Tensor]:
    """Random weights of AlexNet's convolutions, in torchvision's naming."""
    chance = torch.Generator().manual_seed(3)
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    trunk = {}
    for index, shape in shapes.items():
        fan_in = shape[1] * shape[2] * shape[3]
        trunk[f"features.{index}.weight"] = torch.randn(shape, generator=chance) * (2 / fan_in) ** 0.5
        trunk[f"features.{index}.bias"] = torch.randn(shape[0], generator=chance) * 0.1
    return trunk


@pytest.fixture(scope="session")
def random_lpips(random_trunk: dict[str, torch.Tensor]) -> LPIPS:
    """LPIPS with a random trunk; it is frozen, so tests can share it."""
    return LPIPS(random_trunk, "random trunk")


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a space in its name, of small photographs: 4 to train, 2 to validate, 3 to test."""
    root = tmp_path_factory.mktemp("data") / "my photos"
    chance = np.random.default_rng(5)
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        (root / split).mkdir(parents=True)
        for number in range(count):
            values = Image.fromarray(chance.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            values.resize((48, 44), Image.Resampling.BICUBIC).save(root / split / f"{split}{number}.png")
    return root


@pytest.fixture(scope="session")
def enter_workplace(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, pytest.MonkeyPatch], None]:
    """``enter_workplace(folder, monkeypatch)``: works in ``folder`` with an empty ``mlflow.db`` of its own.

    No environment variable of MLflow's is left, and what ``mlflow.set_tracking_uri`` was told before is forgotten. The
    database is a copy, because making one takes seconds.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    template, data = tmp_path_factory.mktemp("template"), tmp_path_factory.mktemp("inversion")
    SqlAlchemyStore(f"sqlite:///{template}/mlflow.db", str(template / "mlruns"))

    def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # so that it is unset again afterwards, whoever sets it
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
        patch.setenv("INVERSION_DATA", str(data))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("COLUMNS", "120")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        patch.chdir(folder)
        shutil.copy(template / "mlflow.db", folder)
        with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            database.execute("update experiments set artifact_location = ?", (str(folder / "mlruns" / "0"),))

    return enter


@pytest.fixture
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None]
) -> Path:
    """The present folder, empty but for an ``mlflow.db`` without runs."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    enter_workplace(folder, monkeypatch)
    return folder


@pytest.fixture
def start(workplace: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start("inversion", "train", ...)``: a real process; whatever is left of it is killed after the test."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True, **options)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``gpus((7, 5), (8, 0))``: GPUs of these compute capabilities are there, the first one being the current."""
    def make(*capabilities: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability",
                            lambda device: capabilities[torch.device(device).index or 0])

    return make
