"""The leaderboards: everything that can be compared, the ten best single models, and all ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inversion.metrics import EXACT_DB
from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.published.published_figures import BESIDE, beside_note, published_row
from inversion.report.tables.table import ReportTable, Shown

TOP = 10

RUN = Shown("configuration", "{configuration}")
PSNR = Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}")
INTERVAL = Shown("95 % interval", "{psnr_low:.2f} to {psnr_high:.2f}")
SSIM = Shown("SSIM", "{ssim:.3f} ± {ssim_std:.3f}")
LPIPS = Shown("LPIPS", "{lpips:.3f} ± {lpips_std:.3f}", "off")
PARAMETERS = Shown("parameters", "{parameters:,.0f}")
TRAINING = Shown("training (s)", "{train_seconds:,.0f}")
EVALUATION = Shown("evaluation (s)", "{eval_seconds:.2f}")
MEMORY = Shown("memory (MB)", "{memory_mb:,.0f}")
PRECISION = Shown("precision", "{precision}")
EXACT = Shown("exact images", "{exact_images}")
SEEDS = [Shown("seeds", "{seeds}"), Shown("between seeds (dB)", "± {seed_spread:.2f}", "one seed")]

NOTE = ("Mean ± standard deviation over the test images (ddof 0); the interval is that of the mean, by bootstrap over "
        "the images{seeds}. Times and memory are those of the machines that trained.")
SHARED_MEMORY = (" Memory on a CPU is the resident set of the whole process, which grows with the runs that it did "
                 "before, and memory of runs side by side is that of all of them: it is not to be compared.")
EXACT_IMAGES = f" An image that is rebuilt exactly has no finite PSNR, and counts as {EXACT_DB:.0f} dB in every number."
BETWEEN = " Between seeds: standard deviation of their means (n − 1)."
PRECISIONS = " The precision differs between the runs; it is no reason to rank them apart."


def leaderboard(board: Board, number: int = 0) -> ReportTable:
    """Every configuration of a board, the best first; further boards than the first have a ``number``."""
    name = f"leaderboard-{number + 1}" if number else "leaderboard"
    return _ranked(board, name, f"Leaderboard: {board.title}", board.configurations)


def top_single(board: Board) -> ReportTable:
    """The ten best models of one encoder."""
    return _ranked(board, "top-single", f"The {TOP} best single models", board.single[:TOP])


def ensembles(board: Board) -> ReportTable:
    """All ensembles."""
    return _ranked(board, "ensembles", "All ensembles", board.ensembles)


def row_of(item: Configuration) -> dict[str, Any]:
    """A configuration's raw values."""
    interval = item.interval
    row: dict[str, Any] = {"configuration": item.label, "encoder": item.encoder, "decoder": item.decoder,
                           "fusion": item.fusion, "precision": item.precision, "seeds": len(item.runs),
                           "seed_spread": item.psnr.spread, "exact_images": item.exact}
    for metric in ("psnr", "ssim", "lpips"):
        row |= {metric: item.mean(metric), f"{metric}_std": item.std(metric)}
    return row | {
        "psnr_low": interval and interval.low, "psnr_high": interval and interval.high,
        "parameters": item.cost("decoder_parameters"), "train_seconds": item.cost("train_seconds"),
        "eval_seconds": item.cost("eval_seconds"), "memory_mb": item.cost("train_peak_memory_mb"),
        "gflops": item.cost("gflops_per_image"), "locations": item.cost("feature_locations"),
        "device": item.parameters["device"],
        "runs": " ".join(run.run_id for run in item.runs.values()),
        "micro_batch": " ".join(run.tags.get("inversion.micro_batch", "") for run in item.runs.values()).strip(),
    }


def _ranked(board: Board, key: str, title: str, items: Sequence[Configuration]) -> ReportTable:
    rows = [{"rank": rank, **row_of(item), **published_row(item.plain)} for rank, item in enumerate(items, start=1)]
    several = any(row["seeds"] > 1 for row in rows)
    mixed = len(board.precisions) > 1
    exact = [EXACT] if any(item.exact for item in items) else []
    shown = [Shown("rank", "{rank}"), RUN, PSNR, INTERVAL, *exact, SSIM, LPIPS, PARAMETERS, TRAINING, EVALUATION,
             MEMORY, *([PRECISION] if mixed else []), *BESIDE, *(SEEDS if several else [])]
    note = NOTE.format(seeds=" and the seeds" if several else "") + _remarks(items, several, mixed)
    return ReportTable(key, title, shown, rows, f"{note} {beside_note(board)}", frozenset({0} if rows else ()))


def _remarks(items: Sequence[Configuration], several: bool, mixed: bool) -> str:
    """What else has to be known to read a ranking."""
    remarks = (BETWEEN if several else "") + (PRECISIONS if mixed else "")
    remarks += EXACT_IMAGES if any(item.exact for item in items) else ""
    remarks += "" if all(item.owns_memory for item in items) else SHARED_MEMORY
    accumulated = [item.label for item in items
                   if any("inversion.micro_batch" in run.tags for run in item.runs.values())]
    if accumulated:
        remarks += (" Rescued from out-of-memory with accumulated gradients, so not equal to the bit to an undisturbed "
                    f"run: {', '.join(accumulated)}.")
    return remarks
