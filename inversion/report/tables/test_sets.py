"""The runs of a study on further sets of images (``inversion evaluate --study``), and whether they rank them alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from scipy import stats  # type: ignore[import-untyped]

from inversion.metrics import BASIC, METRICS
from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.study import ReportRun, StudyData
from inversion.report.tables.table import ReportTable, Shown
from inversion.tracking.search import EVALUATES

FEWEST = 3
"""Configurations for which a rank correlation is computed."""

NOTE = ("The trained models of the leaderboard on other images; nothing is trained or chosen on them. Kendall's tau is "
        "between the rankings of the configurations there and on the study's own test images, by the mean of each "
        "score: 1 is the same order, 0 no relation. A configuration counts if all of its seeds were scored. Ranks of "
        "configurations whose difference does not hold up may change by chance.")

Set = tuple[str, str, int, str]
"""Digest, split, number of images, and the LPIPS weights with which they were scored."""


def test_sets(data: StudyData, board: Board) -> list[ReportTable]:
    """A table of the agreement of all sets, and one of each set; none without evaluations on other images."""
    found = _by_set(data.evaluations)
    if not found:
        return []
    names, rows, tables = _names(found), [], []
    for number, (key, runs) in enumerate(found.items(), start=1):
        items = _configurations(board, runs)
        if not items:
            continue
        complete = [(own, item) for own, item in items if len(item.runs) == len(own.runs)]
        rows.append(_agreement(names[key], key, items, complete, runs))
        tables.append(_table(f"test_set_{number}", f"On {names[key]}, {key[2]} images", items, complete))
    if not rows:
        return []
    shown = [Shown("images", "{set}"), Shown("number", "{images}"), Shown("configurations", "{configurations}"),
             *(Shown(f"tau of {METRICS[name].label.removesuffix(' (dB)')}", f"{{tau_{name}:.2f}}") for name in BASIC),
             Shown("pairs in another order", "{swapped} of {pairs}"), Shown("best there", "{best}"),
             Shown("best on the test images", "{own_best}"), Shown("warning", "{warning}", "")]
    return [ReportTable("test_sets", "On other images: does the order stay?", shown, rows, NOTE), *tables]


def _by_set(evaluations: Sequence[ReportRun]) -> dict[Set, dict[str, ReportRun]]:
    """The newest evaluation of each run, by its id, for each set of images that is not the runs' own test images."""
    found: dict[Set, dict[str, ReportRun]] = {}
    for run in evaluations:
        about = run.document.get("data", {})
        split = str(run.document.get("split", "test"))
        if not run.is_scored or run.scores is None or (about.get("own") and split == "test"):
            continue
        key = (str(about.get("digest")), split, len(run.scores), str(run.parameters.get("lpips_weights")))
        found.setdefault(key, {}).setdefault(run.tags.get(EVALUATES, ""), run)
    return dict(sorted(found.items(), key=lambda item: (_name(item[0], item[1]), item[0])))


def _name(key: Set, runs: Mapping[str, ReportRun]) -> str:
    name = min(str(run.document["data"].get("name")) for run in runs.values())
    return name if key[1] == "test" else f"{name} ({key[1]})"


def _names(found: Mapping[Set, Mapping[str, ReportRun]]) -> dict[Set, str]:
    """The name of each set; with a digest and the LPIPS weights where several have one name."""
    names = {key: _name(key, runs) for key, runs in found.items()}
    several = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {key: f"{name} {key[0][:8]}, lpips_weights {key[3]}" if name in several else name
            for key, name in names.items()}


def _configurations(board: Board, runs: Mapping[str, ReportRun]) -> list[tuple[Configuration, Configuration]]:
    """Configurations of a board beside their scores on a set, the best on that set first."""
    items = []
    for own in board.configurations:
        scored = {seed: runs[run.run_id] for seed, run in own.runs.items() if run.run_id in runs}
        if scored:
            items.append((own, Configuration(own.label, scored)))
    return sorted(items, key=lambda pair: (-pair[1].psnr.mean, pair[1].label))


def _agreement(name: str, key: Set, items: Sequence[tuple[Configuration, Configuration]],
               complete: Sequence[tuple[Configuration, Configuration]], runs: Mapping[str, ReportRun]
               ) -> dict[str, Any]:
    warnings = dict.fromkeys(str(text) for run in runs.values() for text in run.document["data"].get("warnings", []))
    pairs = list(combinations([(own.psnr.mean, item.psnr.mean) for own, item in complete], 2))
    swapped = sum((one[0] - other[0]) * (one[1] - other[1]) < 0 for one, other in pairs)
    row = {"set": name, "images": key[2], "digest": key[0], "split": key[1], "configurations": len(complete),
           "incomplete": len(items) - len(complete), "swapped": swapped, "pairs": len(pairs),
           "warning": "; ".join(warnings) or None,
           **{f"tau_{metric}": _tau(complete, metric) for metric in BASIC}}
    if complete:
        row |= {"best": complete[0][1].label, "own_best": max(complete, key=lambda pair: pair[0].psnr.mean)[0].label}
    return row


def _tau(complete: Sequence[tuple[Configuration, Configuration]], metric: str) -> float | None:
    """Kendall's tau-b between the means on both sets; None for fewer than ``FEWEST`` configurations that have both."""
    means = [(own.mean(metric), item.mean(metric)) for own, item in complete]
    known = [(one, other) for one, other in means if one is not None and other is not None]
    if len(known) < FEWEST:
        return None
    tau = float(stats.kendalltau(*zip(*known, strict=True)).statistic)
    return tau if tau == tau else None  # NaN if all are equal


def _table(key: str, title: str, items: Sequence[tuple[Configuration, Configuration]],
           complete: Sequence[tuple[Configuration, Configuration]]) -> ReportTable:
    here = {item.label: rank for rank, (_, item) in enumerate(complete, start=1)}
    before = {own.label: rank for rank, (own, _) in enumerate(
        sorted(complete, key=lambda pair: (-pair[0].psnr.mean, pair[0].label)), start=1)}
    rows = [{"rank": here.get(item.label), "own_rank": before.get(item.label), "configuration": item.label,
             "seeds": len(item.runs), "of_seeds": len(own.runs), "psnr": item.psnr.mean, "psnr_std": item.std("psnr"),
             "ssim": item.mean("ssim"), "lpips": item.mean("lpips"), "own_psnr": own.psnr.mean,
             "runs": ",".join(run.run_id for run in item.runs.values())} for own, item in items]
    shown = [Shown("#", "{rank}"), Shown("# on the test images", "{own_rank}"),
             Shown("configuration", "{configuration}"), Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}"),
             Shown("SSIM", "{ssim:.3f}"), Shown("LPIPS", "{lpips:.3f}"), Shown("seeds", "{seeds} of {of_seeds}"),
             Shown("PSNR on the test images", "{own_psnr:.2f}")]
    return ReportTable(key, title, shown, rows)
