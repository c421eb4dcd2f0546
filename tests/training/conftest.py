"""Small training runs: 32 pixels, a frozen random VGG16 block, five photographs, LPIPS with a random trunk."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inversion.config.run_config import RunConfig
from inversion.data.batches import TrainBatches, center_crops
from inversion.images import stored_size
from inversion.losses.lpips import LPIPS
from inversion.losses.reconstruction import ReconstructionLoss
from inversion.models.encoders.build import Encoder
from inversion.models.model import build_model
from inversion.training.callbacks import Callback, Picture
from inversion.training.cotraining import CoTrainingGroup
from inversion.training.device import make_engine
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer, TrainingData

SIZE = 32
TRAINED = ("astronaut", "coffee", "ihc", "flower", "retina")
VALIDATED = ("grace_hopper", "rocket", "chelsea")


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """What earlier tests have left is not looked at by ``gc.collect``, which running out of memory leads to.

    After some thousands of tests a collection took a second.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Recorder(Callback):
    """Remembers all it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int, float | None]] = []
        self.epochs: dict[int, dict[str, float]] = {}
        self.pictures: dict[int, list[Picture]] = {}
        self.checkpoints: list[tuple[list[str], bool]] = []

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        self.steps.append((epoch, step, steps, loss))

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs[epoch] = dict(metrics)

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        self.pictures[epoch] = list(pictures)

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        self.checkpoints.append(([file.name for file in files], final))


@pytest.fixture
def make_trainer(
    tmp_path: Path,
    frozen: Callable[..., Encoder],
    photograph: Callable[[str, int], NDArray[np.uint8]],
    random_lpips: LPIPS,
) -> Callable[..., Trainer]:
    """``make_trainer("run", decoder="wavelet", epochs=2)``: fresh objects each time; the folder is below ``tmp_path``.

    Five photographs in batches of two make three steps an epoch, the last one with a single crop.
    """

    def make(
        folder: str = "run",
        callbacks: Sequence[Callback] = (),
        stop: StopRequest | None = None,
        layers: Sequence[str] = ("vgg16:block1",),
        lpips: bool = True,
        train: Sequence[str] = TRAINED,
        group: CoTrainingGroup | None = None,
        **values: Any,
    ) -> Trainer:
        fusion = "auto" if len(layers) == 1 else "concat"
        config = RunConfig.model_validate({
            "image_size": SIZE, "batch_size": 2, "epochs": 4, "lr": 1e-3, "device": "cpu", "precision": "fp32",
            "fusion": fusion, "threads": 1} | values)
        model = build_model([frozen(layer, SIZE) for layer in layers], config.decoder, {},
                            None if len(layers) == 1 else fusion, SIZE, config.seed)
        pixels = [photograph(name, stored_size(SIZE)) for name in train]
        validation = center_crops([photograph(name, stored_size(SIZE)) for name in VALIDATED], SIZE)
        data = TrainingData(TrainBatches(pixels, SIZE, config.batch_size, 1, config.seed, config.fixed_crops),
                            center_crops(pixels, SIZE), validation, VALIDATED)
        loss = ReconstructionLoss(config.mse_weight, config.lpips_weight, random_lpips if lpips else None)
        return Trainer(model, loss, data, config, make_engine(config), tmp_path / folder, "digest", callbacks, stop,
                       group)

    return make


@pytest.fixture
def recorder() -> Callable[[], Recorder]:
    """Makes recorders."""
    return Recorder
