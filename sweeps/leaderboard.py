"""The finished runs of a study, ranked among those they can be compared with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from sweeps.comparable import COMPARABLE, Group, groups_of, title_of
from sweeps.labels import Document, distinguished, name_of

if TYPE_CHECKING:
    from mlflow.entities import Run

COLUMNS = ("rank", "run", "test/psnr", "test/psnr_std", "test/ssim", "test/lpips", "best/val_psnr",
           "decoder_parameters", "train_seconds", "micro_batch", *COMPARABLE, "run_id")


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
    groups: dict[Group, list[str]] = {}
    for run_id, group in zip(documents, groups_of(list(documents.values())), strict=True):
        groups.setdefault(group, []).append(run_id)
    rows = []
    for group, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        described = [documents[run_id] for run_id in members]
        names = distinguished([name_of(document) for document in described], described)
        ranked = sorted(zip((by_id[run_id] for run_id in members), names, strict=True),
                        key=lambda pair: (-pair[0].data.metrics["test/psnr"], pair[1]))
        rows += [Row(rank, group, _values(rank, group, run, name)) for rank, (run, name) in enumerate(ranked, start=1)]
    return rows


def _documents(runs: Mapping[str, Run]) -> dict[str, Document]:
    """The configuration of each run that has one; nothing says what the others belong to."""
    return {run_id: json.loads(run.data.tags["inversion.config"]) for run_id, run in runs.items()
            if "inversion.config" in run.data.tags}


def _once_each(documents: Mapping[str, Document]) -> dict[str, Document]:
    """One run for each configuration, whatever their tags say by now."""
    last = {json.dumps(document["identity"], sort_keys=True): run_id for run_id, document in documents.items()}
    return {run_id: documents[run_id] for run_id in last.values()}


def show(rows: list[Row], console: Console, most: int = 50) -> None:
    """The board as a table, one for each group of comparable runs."""
    for group in dict.fromkeys(row.group for row in rows):
        table = Table(title=f"Leaderboard ({title_of(group)})", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("rank", "run", "PSNR", "SSIM", "LPIPS", "parameters", "training"):
            numbers = column != "run"
            table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers, overflow="fold")
        members = [row for row in rows if row.group == group]
        for row in members[:most]:
            values = row.values
            table.add_row(str(row.rank), values["run"], _shown(values, "{test/psnr:.2f} ± {test/psnr_std:.2f}"),
                          _shown(values, "{test/ssim:.3f}"), _shown(values, "{test/lpips:.3f}"),
                          _shown(values, "{decoder_parameters:,.0f}"), _shown(values, "{train_seconds:.0f} s"))
        console.print(table)
        if len(members) > most:
            console.print(f"and {len(members) - most} more")


def as_csv(rows: list[Row]) -> str:
    """The board as comma-separated values, which MLflow shows as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: row.values.get(name, "") for name in COLUMNS} for row in rows)
    return text.getvalue()


def _values(rank: int, group: Group, run: Run, name: str) -> dict[str, Any]:
    metrics = {name: run.data.metrics.get(name, "") for name in COLUMNS if "/" in name or "_" in name}
    return {**metrics, "rank": rank, "run": name, "run_id": run.info.run_id,
            "micro_batch": run.data.tags.get("inversion.micro_batch", ""),
            **dict(zip(COMPARABLE, group, strict=True))}


def _shown(values: Mapping[str, Any], template: str) -> str:
    """Metrics as the template shows them; empty where one of them is not there."""
    try:
        return template.format_map(values)
    except ValueError:  # it is an empty text
        return ""
