"""The leaderboard of a search on a terminal and as a file: by the objective, with the test score of the best alone."""

from __future__ import annotations

import csv
import io

from inversion.console import Console, make_table, styled
from inversion.metrics import BASIC, counted
from inversion.report.data.searching import Search, Trial, shown_value

TESTS = tuple(f"test/{name}" for name in BASIC)


def show(search: Search, console: Console, most: int = 50) -> None:
    """Prints the trials as a table, the best first and those without a place last, and names the best one."""
    best = search.best
    if best is None:
        console.print("no trial is finished yet")
        return
    table = make_table(title=f"Leaderboard of the search {search.title}", box=None, padding=(0, 2, 0, 0))
    for column in ("rank", "trial", search.objective.metric, *search.names, "state"):
        numbers = column not in search.names and column != "state"
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers, overflow="fold")
    others = search.unranked
    for rank, trial in enumerate(search.ranked[:most], start=1):
        table.add_row(*(styled(cell, "bold" if trial is best else "") for cell in _cells(search, trial, str(rank))))
    for trial in others[:most]:
        table.add_row(*(styled(cell, "dim") for cell in _cells(search, trial, "")))
    console.print(table)
    left = len(search.ranked) + len(others) - table.row_count
    if left:
        console.print(f"and {left} more")
    console.print(f"best: {best.described}, {search.objective.metric} {search.objective.text(best.value or 0.0)}"
                  f"{_tested(best)}", soft_wrap=True)


def as_csv(search: Search) -> str:
    """The trials as comma-separated values, which MLflow shows as a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "trial", search.objective.metric, *search.names, "state", *TESTS, "run_id"])
    ranks = {trial.number: rank for rank, trial in enumerate(search.ranked, start=1)}
    for trial in [*search.ranked, *search.unranked]:
        tests = [trial.scores.get(name, "") if trial is search.best else "" for name in TESTS]
        writer.writerow([ranks.get(trial.number, ""), trial.number, "" if trial.value is None else trial.value,
                         *(trial.parameters.get(name, "") for name in search.names), trial.state, *tests,
                         trial.run_id or ""])
    return text.getvalue()


def _cells(search: Search, trial: Trial, rank: str) -> list[str]:
    value = search.objective.text(trial.value) if trial.value is not None and trial.is_ranked else ""
    return [rank, str(trial.number), value,
            *(shown_value(name, trial.parameters[name]) if name in trial.parameters else "" for name in search.names),
            trial.state]


def _tested(best: Trial) -> str:
    """The test score of the best trial, with a word on what it is."""
    if "test/psnr" not in best.scores:
        return ""
    return f"; on the test images, which the search did not see: PSNR {float(counted(best.scores['test/psnr'])):.2f} dB"
