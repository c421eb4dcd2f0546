"""The tasks of ``bench``, done by the plain reference."""

from __future__ import annotations

import time
from collections.abc import Callable
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


@TASKS.add("attention-quality")
def attention_quality(folder: Path, steps: str) -> dict[str, float]:
    """PSNR of the published design after so many steps, in dB."""
    return {"value": psnr_after(folder, int(steps), lambda: plain.AttentionDecoder(64, 56))}


def psnr_after(folder: Path, steps: int, make_decoder: Callable[[], torch.nn.Module]) -> float:
    """PSNR on 8 validation photographs after steps of 2 images in the plain loop, in fp32, with this decoder.

    The encoder, and the photographs and crops of each step, are the same whatever the decoder.
    """
    decoder = make_decoder()
    torch.manual_seed(0)
    run = plain.Plain("resnet34:layer1", folder / "alexnet.pth", decoder)
    torch.manual_seed(0)
    run.optimizer.param_groups[0]["lr"] = 1e-3
    done = 0
    while done < steps:
        for images in plain.loader(folder / "photographs" / "train", train=True, batch=2):
            if done < steps:
                run.step(images)
                done += 1
    run.decoder.eval()
    crops = [plain.Photographs(folder / "photographs" / "val", train=False)[index] for index in range(8)]
    with torch.no_grad():
        errors = [(run.reconstruct(crop[None]) - crop).square().mean() for crop in crops]
    return float(-10 * torch.log10(torch.stack(errors)).mean())


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
