"""``make bench``: this project beside the plain reference, one row a piece of work, the ratio last.

Times of steps, reading, evaluation and whole runs are medians of several processes, the two sides in turns, so that a
slow minute of the machine meets both. Matrix products and tracking are measured once, test PSNR once for each seed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import click
from rich.console import Console
from rich.table import Table
from scipy.stats import sem  # type: ignore[import-untyped]

from benchmarks.measuring import EPOCHS, THREADS, THREADS_VARIABLE, TWENTIETH
from benchmarks.photographs import make_photographs

ROOT = Path(__file__).parent.parent
ENCODERS = ("vgg16:block1", "resnet34:layer1", "vit_small:block3", "pvt_v2_b2:stage1")
COMMANDS = (("inversion", "--help"), ("inversion", "list"), ("inversion-sweep", "grid.yaml", "--dry-run"))
SPLITS = {"train": 64, "val": 16, "test": 100}
QUALITY = (("vgg16:block1", "attention"), ("resnet34:layer1", "wavelet"), ("pvt_v2_b2:stage1", "frequency_aware"))
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """A line of the table, as texts."""

    what: str
    plain: str
    ours: str
    ratio: str
    target: str
    note: str = ""


class Bench:
    """Runs tasks in processes of their own on one folder of photographs."""

    def __init__(self, folder: Path, repeats: int, console: Console) -> None:
        self.folder = folder
        self.repeats = repeats
        self.console = console

    def run(self, side: str, task: str, argument: str = "") -> dict[str, float]:
        """One measurement."""
        result, = self.together(side, task, argument, 1, THREADS)
        return result

    def together(self, side: str, task: str, argument: str, count: int, threads: int) -> list[dict[str, float]]:
        """The same measurement by several processes at once, of so many threads each."""
        command = [sys.executable, "-m", "benchmarks.work", side, task, str(self.folder), argument]
        environment = os.environ | {THREADS_VARIABLE: str(threads)}
        begun = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                                  env=environment) for _ in range(count)]
        results: list[dict[str, float]] = []
        for process in begun:
            out, err = process.communicate()
            if process.returncode:
                said = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
                raise click.ClickException(f"{side} {task} {argument} failed: {said}")
            results.append(json.loads(out.splitlines()[-1]))
            self.console.log(f"{side} {task} {argument}: {results[-1]['value']:.5g}")
        return results

    def pair(self, task: str, argument: str = "") -> tuple[float, float, float, float]:
        """Medians of the plain and of our value, then of their peaks in MB."""
        results = [(self.run("plain", task, argument), self.run("ours", task, argument)) for _ in range(self.repeats)]
        plain, ours = zip(*results, strict=True)
        return (median(one["value"] for one in plain), median(one["value"] for one in ours),
                median(one["peak_mb"] for one in plain), median(one["peak_mb"] for one in ours))

    def compare(self, what: str, task: str, target: float, argument: str = "", note: str = "") -> Row:
        """A row of milliseconds an image."""
        plain, ours, plain_peak, our_peak = self.pair(task, argument)
        memory = f"peak {plain_peak:,.0f} → {our_peak:,.0f} MB"
        return Row(what, f"{1000 * plain:.4g} ms", f"{1000 * ours:.4g} ms", f"{plain / ours:.3g}×", f"{target:g}×",
                   f"{memory}; {note}" if note else memory)


def machine(bench: Bench) -> Iterator[Row]:
    """The rate that all else is a fraction of."""
    for precision in ("fp32", "bf16"):
        rate = bench.run("ours", "gemm", precision)["value"]
        yield Row(f"matrix product, {precision}", "", f"{rate:.0f} GFLOP/s", "", "")


def data(bench: Bench) -> Iterator[Row]:
    """Reading 2K PNGs, from the second epoch on."""
    yield bench.compare("data, an image", "data", 200)


def steps(bench: Bench) -> Iterator[Row]:
    """A training step of every encoder with transposed_conv."""
    for encoder in ENCODERS:
        rates = {precision: bench.run("ours", "gemm", precision)["value"] for precision in ("fp32", "bf16")}
        plain, ours, plain_peak, our_peak = bench.pair("step", encoder)
        count = gflops_of_step(encoder)
        note = (f"{1 / plain:.1f} → {1 / ours:.1f} images/s; {count:.1f} GFLOP an image: "
                f"{count / plain / rates['fp32']:.0%} → {count / ours / rates['bf16']:.0%} of the matrix product; "
                f"peak {plain_peak:,.0f} → {our_peak:,.0f} MB")
        yield Row(f"training step, an image: {encoder}", f"{1000 * plain:.4g} ms", f"{1000 * ours:.4g} ms",
                  f"{plain / ours:.3g}×", "2.5×" if encoder == "vgg16:block1" else "2×", note)


def gflops_of_step(encoder: str) -> float:
    """Arithmetic of a training step, an image: encoder, LPIPS of both images, decoder, and backward to its weights."""
    import torch

    from benchmarks import plain
    from inversion.training.measure import flop_counter

    with tempfile.TemporaryDirectory() as folder:
        write_alexnet(Path(folder))
        run = plain.Plain(encoder, Path(folder) / "alexnet.pth")
    with flop_counter() as counter:
        run.step(torch.rand(2, 3, 224, 224))
    return float(counter.get_total_flops()) / 2e9


def attention(bench: Bench) -> Iterator[Row]:
    """The attention decoder at 56×56 and its kernel."""
    yield bench.compare("attention decoder at 56×56, an image", "attention", 8,
                        note="4 blocks of 8 heads over all tokens → 2 blocks of one head over 196 pooled ones, bf16")
    yield bench.compare("attention kernel, 3,136 tokens, 4 heads", "kernel", 3, "4")


def evaluation(bench: Bench) -> Iterator[Row]:
    """100 test images: scores and pictures."""
    yield bench.compare("evaluation of 100 images, an image", "evaluate", 10, "vgg16:block1",
                        "ours: decoded before, all that a run logs at its end but the packed model")


def whole(bench: Bench) -> Iterator[Row]:
    """30 epochs on a twentieth of DIV2K's numbers of photographs, with tracking."""
    plain, ours, plain_peak, our_peak = bench.pair("run", "vgg16:block1")
    counts = " + ".join(map(str, TWENTIETH.values()))
    yield Row("a whole run, a twentieth", f"{plain:.1f} s", f"{ours:.1f} s", f"{plain / ours:.3g}×", "4×",
              f"{EPOCHS} epochs, {counts} images; ours with decoding and tracking; without starting Python")
    yield Row("peak memory of that run", f"{plain_peak:,.0f} MB", f"{our_peak:,.0f} MB",
              f"{plain_peak / our_peak:.3g}×", "1×", "plain: without its two loading processes")


def company(bench: Bench) -> Iterator[Row]:
    """Four decoders on one encoder pass, beside one after the other; ours both times."""
    for encoder in ("vgg16:block1", "vit_small:block3"):
        alone, together = zip(*[[bench.run("ours", task, encoder) for task in ("one-by-one", "side-by-side")]
                                for _ in range(bench.repeats)], strict=True)
        one, other = (median(result["value"] for result in results) for results in (alone, together))
        peaks = [median(result["peak_mb"] for result in results) for results in (alone, together)]
        yield Row(f"4 decoders of {encoder}, side by side", f"alone {one:.1f} s", f"{other:.1f} s",
                  f"{one / other:.3g}×", "", f"peak {peaks[0]:,.0f} → {peaks[1]:,.0f} MB")


def workers(bench: Bench) -> Iterator[Row]:
    """As many workers as cores, with one thread each, beside one worker with all of them; ours both times."""
    for encoder in ENCODERS:
        one, several = [], []
        for _ in range(bench.repeats):
            one.append(bench.run("ours", "step", encoder)["value"])
            found = bench.together("ours", "step", encoder, THREADS, 1)
            several.append(1 / sum(1 / result["value"] for result in found))
        alone, together = median(one), median(several)
        yield Row(f"{THREADS} workers of one thread: {encoder}", f"one worker {1000 * alone:.4g} ms",
                  f"{1000 * together:.4g} ms", f"{alone / together:.3g}×", "",
                  "an image of a training step, of all workers")


def tracking(bench: Bench) -> Iterator[Row]:
    """MLflow's share of an epoch of 640 + 160 images."""
    an_epoch = 640 * bench.run("ours", "step", "vgg16:block1")["value"]
    spent = bench.run("ours", "tracking", "vgg16:block1")["value"]
    yield Row("tracking, an epoch", f"{an_epoch:.1f} s of training", f"{spent:.2f} s", f"{spent / an_epoch:.1%}",
              "≤ 2 %", "training alone, without validation")


def start_up(bench: Bench) -> Iterator[Row]:
    """How long the first answer of a command takes."""
    for command in COMMANDS:
        program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run(program, capture_output=True, check=True)
            times.append(time.perf_counter() - began)
        yield Row(f"start-up: {' '.join(command)}", "", f"{median(times):.2f} s", "", "≤ 1.5 s")


def quality(bench: Bench) -> Iterator[Row]:
    """Test PSNR after the same training: by the plain loop and by ours in fp32, by ours in fp32 and in bf16."""
    for encoder in ENCODERS:
        plain, exact, fast = (_psnrs(bench, encoder, "transposed_conv", how) for how in ("plain", "fp32", "bf16"))
        yield _difference(f"{encoder} + transposed_conv", "plain fp32", plain, "ours fp32", exact)
        yield _difference(f"{encoder} + transposed_conv", "ours fp32", exact, "ours bf16", fast)
    published, ours = (_psnrs(bench, "resnet34:layer1", "attention", how) for how in ("plain", "bf16"))
    yield _difference("attention over 1,024 tokens", "published design", published, "ours bf16", ours, "≥ 0 dB")
    for encoder, decoder in QUALITY:
        exact, fast = (_psnrs(bench, encoder, decoder, how) for how in ("fp32", "bf16"))
        yield _difference(f"{encoder} + {decoder}", "ours fp32", exact, "ours bf16", fast)


def _psnrs(bench: Bench, encoder: str, decoder: str, how: str) -> list[float]:
    return [bench.run("ours", "quality", f"{encoder}/{decoder}/{how}/{seed}")["value"] for seed in SEEDS]


def _difference(what: str, one_name: str, one: list[float], other_name: str, other: list[float],
                target: str = "±0.1 dB") -> Row:
    """Mean over the seeds with its standard error, and the difference of each seed."""
    each = [second - first for first, second in zip(one, other, strict=True)]
    seeds = ", ".join(f"{value:+.3f}" for value in each)
    return Row(f"test PSNR, {what}", f"{one_name} {mean(one):.3f} dB", f"{other_name} {mean(other):.3f} dB",
               f"{mean(each):+.3f} ± {sem(each):.3f} dB", target, f"by seed: {seeds}")


GROUPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "machine": machine, "data": data, "step": steps, "attention": attention, "evaluate": evaluation, "run": whole,
    "company": company, "workers": workers, "tracking": tracking, "start-up": start_up, "quality": quality}


def write_alexnet(folder: Path) -> None:
    """The same random AlexNet for both sides' LPIPS: ImageNet's cannot be fetched everywhere."""
    import torch
    import torchvision  # type: ignore[import-untyped]

    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), folder / "alexnet.pth")


def table_of(rows: Sequence[Row]) -> Table:
    table = Table("work", "plain", "ours", "ratio", "target", "note", title="plain reference / ours",
                  title_justify="left")
    for row in rows:
        table.add_row(row.what, row.plain, row.ours, row.ratio, row.target, row.note)
    return table


def markdown_of(rows: Sequence[Row]) -> str:
    """The table as docs/performance.md has it."""
    lines = ["| work | plain | ours | ratio | target | note |", "|---|---|---|---|---|---|"]
    lines += [f"| {row.what} | {row.plain} | {row.ours} | {row.ratio} | {row.target} | {row.note} |" for row in rows]
    return "\n".join(lines)


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(GROUPS)), help="Only these groups of rows.")
@click.option("--repeats", default=3, show_default=True, help="Processes a side and row; the median counts.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the photographs are made, or lie from before.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def main(only: tuple[str, ...], repeats: int, folder: Path | None, markdown: bool) -> None:
    """Measures on two CPU threads, and prints the table."""
    console = Console(width=200, log_path=False)
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        make_photographs(place / "photographs", SPLITS)
        write_alexnet(place)
        bench = Bench(place.resolve(), repeats, console)
        rows = [row for name, group in GROUPS.items() if not only or name in only for row in group(bench)]
    if markdown:
        click.echo(markdown_of(rows))
    else:
        console.print(table_of(rows))


if __name__ == "__main__":
    main()
