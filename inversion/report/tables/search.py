"""The leaderboard of a search: its trials by the objective, and the test score of the best one alone."""

from __future__ import annotations

from typing import Any

from inversion.metrics import counted
from inversion.report.data.searching import FORM, Search, Trial, shown_value
from inversion.report.tables.overview import RUN_ID
from inversion.report.tables.table import ReportTable, Shown

NOTE = ("The trials {title}, a metric of the validation images. Of the scores on the test images, which the search did "
        "not see, only that of the best trial is shown: the highest of many would be too good an estimate. Those of "
        "every trial are in the files of this table, for other purposes than choosing.")
UNRANKED = " Trials that were pruned, failed or are not done have no place."

TESTS = ("psnr", "psnr_std", "ssim", "lpips")


def trials(search: Search) -> ReportTable:
    """Every trial that has started; the finished ones first, the best of them first."""
    ranked, others = search.ranked, search.unranked
    rows = [_row(search, trial, rank) for rank, trial in enumerate(ranked, start=1)]
    rows += [_row(search, trial, None) for trial in others]
    objective = search.objective
    shown = [Shown("rank", "{rank}"), Shown("trial", "{trial}"),
             Shown(objective.metric, f"{{objective:{objective.form}}}{objective.unit}"),
             *(Shown(name, _template(search, name)) for name in search.names), Shown("state", "{state}"),
             Shown("test PSNR (dB)", "{best_test_psnr:.2f}", "")]
    more = [Shown("run", "{run}"), Shown("epochs", "{epochs_run:.0f}"), Shown("training (s)", "{train_seconds:,.0f}"),
            Shown("why", "{why}", ""), RUN_ID]
    note = NOTE.format(title=search.title) + (UNRANKED if others else "")
    return ReportTable("leaderboard", "Leaderboard of the search", shown, rows, note, frozenset({0} if ranked else ()),
                       more)


def _template(search: Search, name: str) -> str:
    """How the values of a searched parameter are shown; texts of encoders are replaced in the rows."""
    is_number = any(isinstance(trial.parameters.get(name), float) for trial in search.trials)
    return f"{{{name}:{FORM}}}" if is_number else f"{{{name}}}"


def _row(search: Search, trial: Trial, rank: int | None) -> dict[str, Any]:
    values = {name: value if isinstance(value, int | float) and not isinstance(value, bool)
              else shown_value(name, value) for name, value in trial.parameters.items()}
    row: dict[str, Any] = {
        "rank": rank, "trial": trial.number, "run": trial.name, "state": trial.state, "metric": search.objective.metric,
        "objective": trial.value, **{name: values.get(name) for name in search.names},
        "epochs_run": trial.scores.get("epochs_run"), "train_seconds": trial.scores.get("train_seconds"),
        **{f"test_{name}": trial.scores.get(f"test/{name}") for name in TESTS}, "why": trial.why or None,
        "run_id": trial.run_id}
    if trial is search.best and row["test_psnr"] is not None:
        row["best_test_psnr"] = float(counted(row["test_psnr"]))
    return row
