"""Our runs on the photographs that ``bench`` has made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import THREADS
from inversion.config.run_config import parse_config
from inversion.runs.prepare import Prepared, make_trainer, prepare
from inversion.training.callbacks import Callback
from inversion.training.cotraining import CoTrainingGroup, run_alone
from inversion.training.trainer import Trainer


def prepare_run(folder: Path, **values: Any) -> Prepared:
    """What the project prepares for a run on the folder's photographs, which never ends before its last epoch."""
    return prepare(parse_config({
        "data": str(folder / "photographs"), "data_dir": str(folder / "cache"), "weights": "random",
        "lpips_weights": str(folder / "alexnet.pth"), "patience": 1000, "threads": THREADS} | values))


def trainer_of(prepared: Prepared, scratch: str, group: CoTrainingGroup | None = None,
               callbacks: Sequence[Callback] = ()) -> Trainer:
    """A trainer that writes into a folder which is thrown away."""
    return make_trainer(prepared, Path(scratch), callbacks, group=group)


def train_an_epoch(trainer: Trainer) -> None:
    """The same epoch's steps again each time, without its validation and checkpoint."""
    run_alone(trainer._train_epoch())
    trainer.state.step = 0
