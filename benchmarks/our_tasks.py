"""The tasks of ``bench`` that log nothing, done by the project."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measuring import BATCH, STEPS, WARM_UP, Tasks, random_heads, timed
from benchmarks.prepared import prepare_run, train_an_epoch, trainer_of
from inversion.config.device import choose_precision
from inversion.config.run_config import RunConfig
from inversion.images import from_stored
from inversion.models.decoders.attention import attend
from inversion.runs.prepare import training_data
from inversion.training.callbacks import Callback
from inversion.training.cotraining import CoTrainingGroup, Steps, run_alone, train_together
from inversion.training.device import make_engine

TASKS = Tasks()
FOUR = ("attention", "frequency_aware", "transposed_conv", "wavelet")


@TASKS.add("gemm")
def gemm(folder: Path, precision: str) -> dict[str, float]:
    """The machine's rate of matrix products, in GFLOP/s: what all else is a fraction of."""
    size = 2048
    one = torch.rand(size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return {"value": 2 * size**3 / timed(lambda: one @ one, 9) / 1e9}


@TASKS.add("data")
def data(folder: Path, _: str) -> dict[str, float]:
    """Seconds an image, of an epoch that does nothing but read."""
    prepared = prepare_run(folder)
    make_engine(prepared.plan.config)
    batches = training_data(prepared).batches
    images = sum(len(batch) for batch in batches.epoch(1))
    return {"value": timed(lambda: [from_stored(batch) for batch in batches.epoch(2)], 9) / images}


class Clock(Callback):
    """When each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        self.times.append(time.perf_counter())


@TASKS.add("step")
def step(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an image of a training step."""
    clock, name, _, precision = Clock(), *encoder.partition("/")
    prepared = prepare_run(folder, encoder=name, precision=precision or "auto", epochs=1, train_limit=BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(prepared, scratch, callbacks=[clock])
        for _ in range(STEPS + WARM_UP):  # whole steps as in an epoch, of one batch each
            began = time.perf_counter()
            train_an_epoch(trainer)
            clock.times[-1] -= began
    return {"value": median(clock.times[WARM_UP:]) / BATCH}


@TASKS.add("attention")
def attention(folder: Path, _: str) -> dict[str, float]:
    """Seconds an image of the attention decoder's forward and backward pass at 64×56×56."""
    prepared = prepare_run(folder, encoder="resnet34:layer1", decoder="attention", epochs=1)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(prepared, scratch)
        features = torch.rand(BATCH, 64, 56, 56).to(memory_format=torch.channels_last)

        def step() -> None:
            with trainer.engine.autocast():
                made = trainer.model.decode([features])
            made.square().mean().backward()

        return {"value": timed(step, 16, 4) / BATCH}


@TASKS.add("kernel")
def kernel(folder: Path, heads: str) -> dict[str, float]:
    """Seconds an image of full attention over 56×56 tokens of 128 channels, forward and backward."""
    engine = make_engine(RunConfig(device="cpu", precision=choose_precision("auto", "cpu")))
    query, key, value = random_heads(int(heads))

    def both_passes() -> None:
        with engine.autocast():
            attended = attend(query, key, value)
        attended.float().sum().backward()

    return {"value": timed(both_passes, 5, 1) / 2}


@TASKS.add("quality")
def test_psnr(folder: Path, arguments: str) -> dict[str, float]:
    """Test PSNR in dB after the same training: ``encoder/decoder/how/seed``, ``how`` being plain, fp32 or bf16."""
    from benchmarks import quality  # what the reference imports is no part of our memory

    encoder, decoder, how, seed = arguments.split("/")
    return {"value": quality.psnr_by(how, folder, encoder, decoder, int(seed))}


def _four(folder: Path, encoder: str, scratch: str) -> list[Callable[[CoTrainingGroup], Steps[Any]]]:
    def job(decoder: str) -> Callable[[CoTrainingGroup], Steps[Any]]:
        prepared = prepare_run(folder, encoder=encoder, decoder=decoder, epochs=2)

        return lambda group: trainer_of(prepared, f"{scratch}/{decoder}", group).steps()

    return [job(name) for name in FOUR]


@TASKS.add("one-by-one")
def one_after_the_other(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds of two epochs of the four decoders, one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        jobs = _four(folder, encoder, scratch)
        return {"value": timed(lambda: [run_alone(job(CoTrainingGroup())) for job in jobs], 1, 0)}


@TASKS.add("side-by-side")
def on_one_encoder_pass(folder: Path, encoder: str) -> dict[str, float]:
    """The same on one encoder pass."""
    with tempfile.TemporaryDirectory() as scratch:
        jobs = _four(folder, encoder, scratch)
        return {"value": timed(lambda: [future.result() for future in train_together(jobs)], 1, 0)}
