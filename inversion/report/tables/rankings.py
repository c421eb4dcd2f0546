"""The leaderboards: all comparable configurations, the ten best single models, and all ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inversion.metrics import BASIC, EXACT_DB, Metric
from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.convergence import RISING_DB
from inversion.report.stats.seed_noise import SeedNoise, describe_noise
from inversion.report.tables.published import PublishedStudy, published_columns, published_fields
from inversion.report.tables.table import ReportTable, Shown

TOP = 10

RUN = Shown("configuration", "{configuration}")
PSNR = Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}")
INTERVAL = Shown("95 % interval", "{psnr_low:.2f} to {psnr_high:.2f}")
LPIPS = Shown("LPIPS", "{lpips:.3f} ± {lpips_std:.3f}", "off")
SSIM = Shown("SSIM", "{ssim:.3f} ± {ssim_std:.3f}")
PARAMETERS = Shown("parameters", "{parameters:,.0f}")
TRAINING = Shown("training (s)", "{train_seconds:,.0f}")
EVALUATION = Shown("evaluation (s)", "{eval_seconds:.2f}")
MEMORY = Shown("memory (MB)", "{memory_mb:,.0f}")
PRECISION = Shown("precision", "{precision}")
EXACT = Shown("exact images", "{exact_images}")
TUNED = Shown("tuned", "{tuned}", "not tuned")
RISING = Shown("still rising (dB per epoch)", "{rising:+.2f}")
SEEDS = Shown("seeds", "{seeds}")
OPTIONS = Shown("options", "{options}", "default")
SPREAD = Shown("between seeds (dB)", "± {seed_spread:.2f}", "one seed")

NOTE = ("Mean ± standard deviation over the test images (ddof 0). The 95 % interval of the mean covers other images "
        "{seeds}. Times and memory are those of the machines that trained.")
SHARED_MEMORY = (" Memory is not comparable on a CPU, where it is the resident set of the whole process and grows with "
                 "every run, or for runs trained side by side, where it covers all of them.")
EXACT_IMAGES = f" An exact reconstruction has infinite PSNR, and counts as {EXACT_DB:.0f} dB in every number."
BETWEEN = " Between seeds: standard deviation of the means of the seeds (n − 1)."
NOT_CONVERGED = (" Still rising: slope of the validation PSNR over the last fifth of training, where it rose by more "
                 f"than {RISING_DB} dB, of the first seed; with more epochs, these configurations would probably score "
                 "higher.")
PRECISIONS = " Runs of different precision are ranked together."


def leaderboard(board: Board, studies: Sequence[PublishedStudy] = (), number: int = 0,
                rising: Mapping[str, float] | None = None) -> ReportTable:
    """Every configuration of a board, best first; ``number`` counts the boards from 0.

    ``rising`` has, by label, the dB per epoch of those whose training had not converged.
    """
    name, title = (f"leaderboard-{number + 1}", f"Leaderboard: {board.title}") if number else (
        "leaderboard", "Leaderboard")
    return _ranked(board, studies, name, title, board.configurations, rising or {})


def leaderboard_of(board: Board, study: str, number: int) -> ReportTable:
    """The same for one of several studies; ``number`` counts the studies from 1."""
    return _ranked(board, (), f"leaderboard-{number}", f"{study}: {board.title}", board.configurations)


def top_single(board: Board, studies: Sequence[PublishedStudy] = ()) -> ReportTable:
    """The ten best models of one encoder; empty without an ensemble, where the leaderboard says the same."""
    if not board.ensembles:
        return ReportTable("top-single", "", [], [])
    return _ranked(board, studies, "top-single", f"The {TOP} best single models", board.single[:TOP])


def ensembles(board: Board, studies: Sequence[PublishedStudy] = ()) -> ReportTable:
    """All ensembles."""
    return _ranked(board, studies, "ensembles", "All ensembles", board.ensembles)


def row_of(board: Board, item: Configuration) -> dict[str, Any]:
    """The raw values of a configuration."""
    interval = board.interval(item)
    row: dict[str, Any] = {"configuration": item.label, "encoder": item.encoder, "decoder": item.decoder,
                           "fusion": item.fusion, "options": item.options or None, "precision": item.precision,
                           "seeds": len(item.runs), "seed_spread": item.psnr.spread, "exact_images": item.exact}
    for metric in board.metrics:
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


def _ranked(board: Board, studies: Sequence[PublishedStudy], key: str, title: str, items: Sequence[Configuration],
            rising: Mapping[str, float] | None = None) -> ReportTable:
    rows = [{"rank": rank, **row_of(board, item), **published_fields(studies, item),
             "rising": (rising or {}).get(item.label), "tuned": item.choice and item.choice.text}
            for rank, item in enumerate(items, start=1)]
    several = any(row["seeds"] > 1 for row in rows)
    mixed = len(board.precisions) > 1
    extra = [EXACT] if any(item.exact for item in items) else []
    extra += [TUNED] if any(item.choice for item in items) else []
    extra += [RISING] if rising else []
    has_lpips = any(row["lpips"] is not None for row in rows)
    shown = [Shown("rank", "{rank}"), RUN, PSNR, INTERVAL, SEEDS, *extra, SSIM, *([LPIPS] if has_lpips else []),
             *([PRECISION] if mixed else []), PARAMETERS, *options_column(rows)]
    more = [*([SPREAD] if several else []), *([] if has_lpips else [LPIPS]),
            *further_columns(board.metrics, rows), TRAINING, EVALUATION, MEMORY, *published_columns(studies, rows)]
    note = NOTE.format(seeds=_of_seeds(board.noise)) + (NOT_CONVERGED if rising else "")
    note += f" {board.few_seeds}" if board.few_seeds else ""
    note += _remarks(items, several, mixed)
    return ReportTable(key, title, shown, rows, note, frozenset({0} if rows else ()), more)


def options_column(rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """A column of the options of decoders and fusions, if some have any that the names do not say."""
    return [OPTIONS] if any(row["options"] and "_options=" not in row["configuration"] for row in rows) else []


def further_columns(metrics: Mapping[str, Metric], rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """Columns of the further metrics that some of the rows have."""
    return [Shown(metric.label, f"{{{name}:.{metric.digits}f}}") for name, metric in metrics.items()
            if name not in BASIC and any(row.get(name) is not None for row in rows)]


def _of_seeds(noise: SeedNoise | None) -> str:
    """What the intervals say of other trainings."""
    if noise is None:
        return "and not other trainings: every configuration has one seed"
    return f"and other trainings ({describe_noise(noise)})"


def _remarks(items: Sequence[Configuration], several: bool, mixed: bool) -> str:
    """Remarks that apply to some of the rows."""
    remarks = (BETWEEN if several else "") + (PRECISIONS if mixed else "")
    remarks += EXACT_IMAGES if any(item.exact for item in items) else ""
    remarks += "" if all(item.owns_memory for item in items) else SHARED_MEMORY
    accumulated = [item.label for item in items
                   if any("inversion.micro_batch" in run.tags for run in item.runs.values())]
    if accumulated:
        remarks += (" Rescued from out-of-memory by accumulating gradients, so not bit-identical to a run without it: "
                    f"{', '.join(accumulated)}.")
    return remarks
