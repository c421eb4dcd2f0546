"""The tasks of ``bench``, done by the plain reference."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks import plain
from benchmarks.measuring import BATCH, EPOCHS, STEPS, TWENTIETH, WARM_UP, Tasks, random_batch, random_heads, timed

TASKS = Tasks()


@TASKS.add("data")
def data(folder: Path, _: str) -> dict[str, float]:
    """Seconds an image, of an epoch that does nothing but read."""
    photographs = folder / "photographs" / "train"
    loader = plain.loader(photographs, train=True)
    return {"value": timed(lambda: list(loader), 3, 1) / len(list(photographs.iterdir()))}


@TASKS.add("step")
def step(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an image of a training step."""
    run, images = plain.Plain(encoder, folder / "alexnet.pth"), random_batch()
    return {"value": timed(lambda: run.step(images), STEPS, WARM_UP) / BATCH}


@TASKS.add("evaluate")
def evaluate(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an image of the test set's scores and pictures."""
    run = plain.Plain(encoder, folder / "alexnet.pth")
    photographs = folder / "photographs" / "test"
    return {"value": timed(lambda: run.evaluate(photographs), 1, 0) / len(list(photographs.iterdir()))}


@TASKS.add("attention")
def attention(folder: Path, _: str) -> dict[str, float]:
    """Seconds an image of the attention decoder's forward and backward pass at 64×56×56."""
    decoder, features = plain.AttentionDecoder(64, 56), torch.rand(2, 64, 56, 56)
    return {"value": timed(lambda: decoder(features).square().mean().backward(), 2, 1) / len(features)}


@TASKS.add("kernel")
def kernel(folder: Path, heads: str) -> dict[str, float]:
    """Seconds an image of full attention over 56×56 tokens of 128 channels, forward and backward."""
    parts = random_heads(int(heads))
    return {"value": timed(lambda: plain.matmul_attention(*parts).sum().backward(), 5, 1) / 2}


@TASKS.add("run")
def whole_run(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds of a whole run, without what the process takes to start."""
    began = time.perf_counter()
    run = plain.Plain(encoder, folder / "alexnet.pth")
    list(plain.train(run, folder / "photographs", EPOCHS, TWENTIETH))
    run.evaluate(folder / "photographs" / "test", TWENTIETH["test"])
    return {"value": time.perf_counter() - began}
