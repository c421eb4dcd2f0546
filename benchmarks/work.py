"""One measurement in a process of its own: ``python -m benchmarks.work plain|ours TASK FOLDER [ARGUMENT]``.

Prints one line of JSON: the value (seconds a unit of work unless the task says otherwise), and the process's peak
memory. A process each, because what one of both does to the allocator or to the caches must not help the other.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
import torch
from torch import Tensor

THREADS = 2
BATCH = 4
WARM_UP = 8
STEPS = 32

class Peak:
    """The largest resident set of this process while the block runs, looked at every 20 ms.

    The system's own counter is restarted by our runs, which measure themselves, and begins at the parent's value.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, process.memory_info().rss)


Task = Callable[[Path, str], dict[str, float]]
TASKS: dict[tuple[str, str], Task] = {}


def task(side: str, name: str) -> Callable[[Task], Task]:
    def register(function: Task) -> Task:
        TASKS[side, name] = function
        return function

    return register


def timed(call: Callable[[], object], repeats: int, warm_up: int = 2) -> float:
    """Median seconds of a call."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times)


def _ours(folder: Path, **values: Any) -> Any:
    """What the project prepares for a run on the folder's photographs."""
    from inversion.config import parse_config
    from inversion.experiment import prepare

    return prepare(parse_config({
        "data": str(folder / "photographs"), "data_dir": str(folder / "cache"), "weights": "random",
        "lpips_weights": str(folder / "alexnet.pth"), "patience": 1000, "threads": THREADS} | values))


def _trainer(prepared: Any, scratch: str, listeners: Any = ()) -> Any:
    from inversion.experiment import make_trainer

    return make_trainer(prepared, Path(scratch), listeners)


@task("plain", "data")
def plain_data(folder: Path, _: str) -> dict[str, float]:
    """Seconds an image, of an epoch that does nothing but read."""
    from benchmarks import plain

    photographs = folder / "photographs" / "train"
    loader = plain.loader(photographs, train=True)
    return {"value": timed(lambda: list(loader), 3, 1) / len(list(photographs.iterdir()))}


@task("ours", "data")
def our_data(folder: Path, _: str) -> dict[str, float]:
    from inversion.experiment import training_data
    from inversion.images import from_stored
    from inversion.training.device import make_engine

    prepared = _ours(folder)
    make_engine(prepared.plan.config)
    batches = training_data(prepared).batches
    images = sum(len(batch) for batch in batches.epoch(1))
    return {"value": timed(lambda: [from_stored(batch) for batch in batches.epoch(2)], 9) / images}


def _random_batch() -> Tensor:
    return torch.rand(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@task("plain", "step")
def plain_step(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an image of a training step."""
    from benchmarks import plain

    run, images = plain.Plain(encoder, folder / "alexnet.pth"), _random_batch()
    return {"value": timed(lambda: run.step(images), STEPS, WARM_UP) / BATCH}


@task("ours", "step")
def our_step(folder: Path, encoder: str) -> dict[str, float]:
    from inversion.training.listener import Listener

    class Clock(Listener):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            self.times.append(time.perf_counter())

    clock, name, _, precision = Clock(), *encoder.partition("/")
    prepared = _ours(folder, encoder=name, precision=precision or "auto", epochs=1, train_limit=BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(prepared, scratch, [clock])
        for _ in range(STEPS + WARM_UP):  # whole steps as in an epoch, of one batch each
            began = time.perf_counter()
            trainer._train_epoch()
            trainer.progress.step = 0
            clock.times[-1] -= began
    return {"value": median(clock.times[WARM_UP:]) / BATCH}


@task("plain", "evaluate")
def plain_evaluate(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an image of the test set's scores and pictures."""
    from benchmarks import plain

    run = plain.Plain(encoder, folder / "alexnet.pth")
    photographs = folder / "photographs" / "test"
    return {"value": timed(lambda: run.evaluate(photographs), 1, 0) / len(list(photographs.iterdir()))}


@task("ours", "evaluate")
def our_evaluate(folder: Path, encoder: str) -> dict[str, float]:
    """All that a run does at its end, logged to MLflow, but for the packed model, which the reference does not make."""
    from inversion import run as run_module
    from inversion.experiment import size_metrics
    from inversion.tracking import results
    from inversion.tracking.connection import connect
    from inversion.tracking.run import begin_run

    prepared = _ours(folder, encoder=encoder, epochs=1)
    results.log_model = lambda *_: None
    with tempfile.TemporaryDirectory() as scratch:
        run = begin_run(connect(f"sqlite:///{scratch}/mlflow.db", "bench"), "evaluation", None, {})
        trainer = _trainer(prepared, scratch)
        trainer._calibrate()
        size_metrics(trainer)
        seconds = timed(lambda: run_module.finish(run, prepared, trainer), 1, 0)
        return {"value": seconds / len(prepared.photos.names("test"))}


@task("plain", "attention")
def plain_attention(folder: Path, _: str) -> dict[str, float]:
    """Seconds an image of the attention decoder's forward and backward pass at 64×56×56."""
    from benchmarks import plain

    decoder, features = plain.AttentionDecoder(64, 56), torch.rand(2, 64, 56, 56)
    return {"value": timed(lambda: decoder(features).square().mean().backward(), 2, 1) / len(features)}


@task("ours", "attention")
def our_attention(folder: Path, _: str) -> dict[str, float]:
    prepared = _ours(folder, encoder="resnet34:layer1", decoder="attention", epochs=1)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(prepared, scratch)
        features = torch.rand(BATCH, 64, 56, 56).to(memory_format=torch.channels_last)

        def step() -> None:
            with trainer.engine.autocast():
                made = trainer.model.decode([features])
            made.square().mean().backward()

        return {"value": timed(step, 16, 4) / BATCH}


def _psnr_after_steps(folder: Path, make_decoder: Callable[[], torch.nn.Module]) -> dict[str, float]:
    """PSNR on 8 validation photographs after 16 steps of 2 images in the plain loop, in fp32, with this decoder.

    The encoder, and the photographs and crops of each step, are the same whatever the decoder.
    """
    from benchmarks import plain

    decoder = make_decoder()
    torch.manual_seed(0)
    run = plain.Plain("resnet34:layer1", folder / "alexnet.pth", decoder)
    torch.manual_seed(0)
    run.optimizer.param_groups[0]["lr"] = 1e-3
    loader = plain.loader(folder / "photographs" / "train", train=True, batch=2)
    for _, images in zip(range(16), loader, strict=False):
        run.step(images)
    run.decoder.eval()
    crops = [plain.Photographs(folder / "photographs" / "val", train=False)[index] for index in range(8)]
    with torch.no_grad():
        errors = [(run.reconstruct(crop[None]) - crop).square().mean() for crop in crops]
    return {"value": float(-10 * torch.log10(torch.stack(errors)).mean())}


@task("plain", "attention-quality")
def plain_attention_quality(folder: Path, _: str) -> dict[str, float]:
    from benchmarks import plain

    return _psnr_after_steps(folder, lambda: plain.AttentionDecoder(64, 56))


@task("ours", "attention-quality")
def our_attention_quality(folder: Path, _: str) -> dict[str, float]:
    from inversion.decoders.attention import AttentionDecoder, AttentionOptions
    from inversion.features import FeatureShape

    return _psnr_after_steps(folder, lambda: AttentionDecoder(FeatureShape(64, 56, 56), 224, AttentionOptions()))


def _heads(count: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(2, count, 3136, 128 // count, generator=chance).requires_grad_() for _ in range(3)]


@task("plain", "kernel")
def plain_kernel(folder: Path, heads: str) -> dict[str, float]:
    """Seconds an image of full attention over 56×56 tokens of 128 channels, forward and backward."""
    from benchmarks import plain

    parts = _heads(int(heads))
    return {"value": timed(lambda: plain.matmul_attention(*parts).sum().backward(), 5, 1) / 2}


@task("ours", "kernel")
def our_kernel(folder: Path, _: str) -> dict[str, float]:
    """The same with 4 heads, however many the other has."""
    from inversion.config import RunConfig
    from inversion.training.device import choose_precision, make_engine

    engine = make_engine(RunConfig(device="cpu", precision=choose_precision("auto", "cpu")))
    query, key, value = _heads(4)

    def kernel() -> None:
        with engine.autocast():
            attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        attended.float().sum().backward()

    return {"value": timed(kernel, 5, 1) / 2}


@task("plain", "run")
def plain_run(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds of a whole run, without what the process takes to start."""
    from benchmarks import plain

    began = time.perf_counter()
    run = plain.Plain(encoder, folder / "alexnet.pth")
    list(plain.train(run, folder / "photographs", epochs=6))
    run.evaluate(folder / "photographs" / "few")
    return {"value": time.perf_counter() - began}


@task("ours", "run")
def our_run(folder: Path, encoder: str) -> dict[str, float]:
    """The same through ``run.train``, with everything that it logs; decoding of the first epoch included."""
    from inversion.run import train
    from inversion.tracking.connection import connect
    from inversion.training.listener import Listener

    with tempfile.TemporaryDirectory() as scratch:
        connection = connect(f"sqlite:///{scratch}/mlflow.db", "bench")
        began = time.perf_counter()
        prepared = _ours(folder, encoder=encoder, epochs=6, test_limit=2, data_dir=str(Path(scratch) / "cache"))
        result = train(prepared, connection, [Listener()])
        seconds = time.perf_counter() - began
    return {"value": seconds, "train_seconds": result.metrics["train_seconds"]}


@task("ours", "quality")
def our_quality(folder: Path, arguments: str) -> dict[str, float]:
    """Test PSNR after the same training in a precision; the value is in dB."""
    from inversion.experiment import test_scores

    encoder, decoder, precision = arguments.split("/")
    prepared = _ours(folder, encoder=encoder, decoder=decoder, precision=precision, epochs=4, lr=1e-3)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(prepared, scratch)
        trainer.fit()
        return {"value": test_scores(prepared, trainer).mean("psnr")}


@task("ours", "tracking")
def our_tracking(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an epoch that go into MLflow, without the model and the scores at the end."""
    from inversion.run import train
    from inversion.tracking.connection import connect
    from inversion.tracking.run import TrackedRun

    spent = 0.0

    def clocked(method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                spent += time.perf_counter() - began

        return call

    for name in ("on_epoch", "on_pictures", "on_checkpoint"):
        setattr(TrackedRun, name, clocked(getattr(TrackedRun, name)))
    with tempfile.TemporaryDirectory() as scratch:
        connection = connect(f"sqlite:///{scratch}/mlflow.db", "bench")
        train(_ours(folder, encoder=encoder, epochs=30, train_limit=4, val_limit=4, test_limit=1), connection)
    return {"value": spent / 30}


def _four(folder: Path, encoder: str, scratch: str) -> list[Callable[[Any], Any]]:
    from inversion.decoders import decoders

    def job(decoder: str) -> Callable[[Any], Any]:
        def fit(company: Any) -> Any:
            trainer = _trainer(_ours(folder, encoder=encoder, decoder=decoder, epochs=2), f"{scratch}/{decoder}")
            trainer.company = company
            return trainer.fit()

        return fit

    return [job(name) for name in decoders.names()]


@task("plain", "company")
def one_after_the_other(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds of two epochs of the four decoders, one after the other: ours as well, but alone."""
    from inversion.training.together import Alone

    with tempfile.TemporaryDirectory() as scratch:
        jobs = _four(folder, encoder, scratch)
        return {"value": timed(lambda: [job(Alone()) for job in jobs], 1, 0)}


@task("ours", "company")
def on_one_encoder_pass(folder: Path, encoder: str) -> dict[str, float]:
    from inversion.training.together import side_by_side

    with tempfile.TemporaryDirectory() as scratch:
        jobs = _four(folder, encoder, scratch)
        return {"value": timed(lambda: [future.result() for future in side_by_side(jobs)], 1, 0)}


@task("ours", "gemm")
def gemm(folder: Path, precision: str) -> dict[str, float]:
    """The machine's rate of matrix products, in GFLOP/s: what all else is a fraction of."""
    size = 2048
    one = torch.rand(size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return {"value": 2 * size**3 / timed(lambda: one @ one, 9) / 1e9}


@click.command()
@click.argument("side", type=click.Choice(["plain", "ours"]))
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("argument", default="")
def main(side: str, name: str, folder: Path, argument: str) -> None:
    """Does one task and prints its result."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with Peak() as peak:
        result = TASKS[side, name](folder, argument)
    sys.stdout.write(json.dumps(result | {"peak_mb": peak.bytes / 2**20}) + "\n")


if __name__ == "__main__":
    main()
