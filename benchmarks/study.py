"""What the whole study takes: every configuration's step measured here, and estimated for one H100 from what it counts.

Usage: ``python -m benchmarks.study [--only vgg16]``. For each of the 44 it times a few training steps and scored
batches at 224 pixels, and counts a step's arithmetic, the bytes that its operations read and write, and how many
operations there are. An H100 needs at least the longest of: arithmetic at its bf16 rate, bytes at its memory's rate,
and the launches of its kernels.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.bench import write_alexnet
from benchmarks.measuring import timed
from benchmarks.prepared import prepare_run, train_an_epoch, trainer_of
from inversion.config.resolve import run_name
from inversion.sweeps.spec.spec import load_spec
from inversion.training.feature_cache import KEPT_BYTES, FeatureCache
from inversion.training.measure import flop_counter

IMAGES = {"train": 640, "validation": 160, "test": 100}
EPOCHS = 30
BATCH = 4
SCORED = 8
H100_FLOPS, H100_BYTES, LAUNCH = 989e12 * 0.4, 3.35e12 * 0.7, 5e-6
"""NVIDIA's data sheet for the SXM card (dense bf16, HBM3), at the share that well-tuned code reaches; seconds a launch
from the host where no graph is captured."""


@dataclass(frozen=True)
class Cost:
    """Of one configuration: seconds an image here, and of a training step of a batch what it counts."""

    name: str
    step: float
    first: float
    """scoring an image that nothing is kept of"""
    again: float
    """scoring one whose features and LPIPS levels are kept"""
    kept: int
    """bytes that these are"""
    flops: float
    moved: float
    operations: int

    @property
    def hours(self) -> float:
        """Of a whole run here."""
        share = min(1, KEPT_BYTES / (self.kept * IMAGES["validation"]))
        validated = share * self.again + (1 - share) * self.first
        an_epoch = IMAGES["train"] * self.step + IMAGES["validation"] * validated
        return (EPOCHS * an_epoch + IMAGES["test"] * self.first) / 3600

    def h100_seconds(self) -> dict[str, float]:
        """Of a step on an H100, by what could be the bottleneck."""
        return {"arithmetic": self.flops / H100_FLOPS, "memory": self.moved / H100_BYTES,
                "launches": self.operations * LAUNCH}


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes of the tensors that they read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved, self.operations = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [item for item in torch.utils._pytree.tree_leaves((args, kwargs, result))
                       if isinstance(item, Tensor)]
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.operations += 1
        return result


def measure(name: str, values: dict[str, Any], folder: Path, steps: int) -> Cost:
    """One configuration."""
    chosen = {key: values[key] for key in ("encoder", "layer", "decoder", "fusion")}
    prepared = prepare_run(folder, **chosen, train_limit=BATCH, val_limit=SCORED, epochs=1)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(prepared, scratch)
        trainer._calibrate()

        def step() -> None:
            train_an_epoch(trainer)

        def score(kept: FeatureCache) -> None:
            trainer.evaluator.score(trainer.data.validation, cache=kept)

        nothing, everything = FeatureCache(room=0), FeatureCache(room=KEPT_BYTES)
        calls = (step, lambda: score(nothing), lambda: score(everything))
        stepped, first, again = (timed(call, steps, 1) for call in calls)
        with flop_counter() as counted:
            step()
        with Traffic() as traffic:
            step()
    return Cost(name, stepped / BATCH, first / SCORED, again / SCORED, (KEPT_BYTES - (everything.room or 0)) // SCORED,
                float(counted.get_total_flops()), traffic.moved, traffic.operations)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="What `bench --folder` has made.")
@click.option("--only", default="", help="Only configurations with this in their name.")
@click.option("--steps", default=7, show_default=True)
def main(folder: Path, only: str, steps: int) -> None:
    """Prints a row for each configuration of grid.yaml, and what all of them come to."""
    console = Console(width=200)
    write_alexnet(folder)
    table = Table(Column("configuration", no_wrap=True), "ms an image, training", "scoring first / again", "hours here",
                  "GFLOP a step", "GB a step", "operations", "H100, ms a step", "bottleneck there")
    costs = []
    for configuration in load_spec("grid.yaml", (), (), None).configurations:
        name = run_name(configuration.config, [])
        if only not in name:
            continue
        cost = measure(name, configuration.config.model_dump(), folder, steps)
        costs.append(cost)
        there = cost.h100_seconds()
        slowest = max(there, key=lambda name: there[name])
        table.add_row(name, f"{1000 * cost.step:.1f}", f"{1000 * cost.first:.1f} / {1000 * cost.again:.1f}",
                      f"{cost.hours:.2f}", f"{cost.flops / 1e9:.0f}", f"{cost.moved / 1e9:.2f}", str(cost.operations),
                      f"{1000 * there[slowest]:.1f}", slowest)
        console.print(f"{name}: {1000 * cost.step:.1f} ms an image")
    console.print(table)
    # scoring is taken as a third of a step
    steps_of_run = (EPOCHS * (IMAGES["train"] + IMAGES["validation"] / 3) + IMAGES["test"] / 3) / BATCH
    for bound in ("arithmetic", "memory", "launches"):
        hours = sum(cost.h100_seconds()[bound] for cost in costs) * steps_of_run / 3600
        console.print(f"{len(costs)} configurations on one H100, if {bound} alone counted: {hours:.2f} hours")
    console.print(f"{len(costs)} configurations here: {sum(cost.hours for cost in costs):.1f} hours")


if __name__ == "__main__":
    main()
