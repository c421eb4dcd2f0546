"""The finished runs of a study, ranked among those they can be compared with."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inversion.config.document import DocumentError
from inversion.console import Console, NamedRows
from inversion.errors import InversionError
from inversion.metrics import METRICS, count_exact, counted, is_a_mean, own_metrics
from inversion.report.data.comparable import (
    COMPARABLE,
    Document,
    Group,
    distinguished,
    groups_of,
    name_of,
    title_of,
)
from inversion.tracking.search import ID_DIGITS, document_of

if TYPE_CHECKING:
    from mlflow.entities import Run

COLUMNS = ("rank", "run", "test/psnr", "test/psnr_std", "test/exact_images",
           *(f"test/{name}" for name in METRICS if name != "psnr"), "best/val_psnr", "decoder_parameters",
           "train_seconds", "micro_batch", *COMPARABLE, "run_id")


_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A finished run; ``rank`` counts from 1 among the runs of its ``group``."""

    rank: int
    group: Group
    values: Mapping[str, Any]


def leaderboard(runs: Iterable[Run]) -> list[Row]:
    """Runs by test PSNR, best first, in groups of those that can be compared; the largest group first.

    A configuration counts once, however often a request to the tracking store has come. No two rows of a group have the
    same name.
    """
    by_id = {run.info.run_id: run for run in runs if "test/psnr" in run.data.metrics}
    documents = _once_each(_documents(by_id))
    metrics = {run_id: {**by_id[run_id].data.metrics, **_psnr(by_id[run_id])} for run_id in documents}
    groups: dict[Group, list[str]] = {}
    for run_id, group in zip(documents, groups_of(list(documents.values())), strict=True):
        groups.setdefault(group, []).append(run_id)
    rows = []
    for group, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        described = [documents[run_id] for run_id in members]
        names = distinguished([name_of(document) for document in described], described)
        ranked = sorted(zip(members, names, strict=True),
                        key=lambda pair: (-_order(metrics[pair[0]]["test/psnr"]), pair[1]))
        rows += [Row(rank, group, _values(rank, group, by_id[run_id], name, metrics[run_id])
                     | {f"test/{own}": metrics[run_id].get(f"test/{own}", "")
                        for own in own_metrics(documents[run_id])})
                 for rank, (run_id, name) in enumerate(ranked, start=1)]
    return rows


def _documents(runs: Mapping[str, Run]) -> dict[str, Document]:
    """The configuration of each run that has one that can be read; nothing says what the others belong to."""
    documents: dict[str, Document] = {}
    for run_id, run in runs.items():
        try:
            documents[run_id] = document_of(run)
        except DocumentError as error:
            _logger.warning("left out of the leaderboard: %s", error)
    return documents


def _once_each(documents: Mapping[str, Document]) -> dict[str, Document]:
    """One run for each configuration, whatever their tags say by now."""
    last = {json.dumps(document["identity"], sort_keys=True): run_id for run_id, document in documents.items()}
    return {run_id: documents[run_id] for run_id in last.values()}


def _order(psnr: float) -> float:
    """What a mean is ranked by: without one a run comes last."""
    return psnr if is_a_mean(psnr) else -math.inf


def _psnr(run: Run) -> dict[str, float]:
    """Mean and standard deviation as they are counted now, of a run that logged others; from its table of all images.

    NaN where that cannot be had, or an image has no PSNR.
    """
    if is_a_mean(run.data.metrics["test/psnr"]):
        return {}
    from inversion.tracking.results import fetch_image_scores

    try:
        with tempfile.TemporaryDirectory() as folder:
            values = counted([row["psnr"] for row in fetch_image_scores(run.info.run_id, Path(folder))])
    except InversionError as error:
        _logger.warning("%s", error)
        values = counted([math.nan])
    return {"test/psnr": float(values.mean()), "test/psnr_std": float(values.std()),
            **({"test/exact_images": float(exact)} if (exact := count_exact(values)) else {})}


def show(rows: list[Row], console: Console, most: int = 50) -> None:
    """The board as a table, one for each group of comparable runs."""
    for group in dict.fromkeys(row.group for row in rows):
        members = [row for row in rows if row.group == group]
        shown = [(f"{row.rank:>4}  {row.values['run']}", _psnr_text(row.values), _shown(row.values["test/ssim"], ".3f"),
                  _shown(row.values["test/lpips"], ".3f"), _shown(row.values["decoder_parameters"], ",.0f"),
                  _shown(row.values["train_seconds"], ".0f", " s"), row.values["run_id"][:ID_DIGITS])
                 for row in members[:most]]
        console.print(f"Leaderboard ({title_of(group)})")
        console.print(NamedRows(("rank  name", "PSNR", "SSIM", "LPIPS", "parameters", "training", "run"), shown))
        if len(members) > most:
            console.print(f"and {len(members) - most} more")


def as_csv(rows: list[Row]) -> str:
    """The board as comma-separated values, which MLflow shows as a table."""
    text = io.StringIO()
    own = dict.fromkeys(name for row in rows for name in row.values if name not in COLUMNS)
    columns = [*COLUMNS, *own]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: row.values.get(name, "") for name in columns} for row in rows)
    return text.getvalue()


def _values(rank: int, group: Group, run: Run, name: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    known = {name: metrics.get(name, "") for name in COLUMNS if "/" in name or "_" in name}
    return {**known, "rank": rank, "run": name, "run_id": run.info.run_id,
            "micro_batch": run.data.tags.get("inversion.micro_batch", ""),
            **dict(zip(COMPARABLE, group, strict=True))}


def _psnr_text(values: Mapping[str, Any]) -> str:
    """``23.45 ± 1.20``, with the number of exact images if there are any."""
    if not is_a_mean(values["test/psnr"]):
        return "none"
    spread, exact = values["test/psnr_std"], values["test/exact_images"]
    return (f"{values['test/psnr']:.2f}" + (f" ± {spread:.2f}" if isinstance(spread, float) else "")
            + (f" ({exact:.0f} exact)" if exact else ""))


def _shown(value: Any, form: str, unit: str = "") -> str:
    """A metric; empty where the run has none."""
    return f"{value:{form}}{unit}" if isinstance(value, float) else ""
