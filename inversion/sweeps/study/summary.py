"""The page of a study's parent run in MLflow: its description, metrics and data sets, and a view of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.entities import DatasetInput, Metric, Run

from inversion.config.document import TAG_LENGTH
from inversion.metrics import BASIC, METRICS
from inversion.objectives import BEST_PSNR
from inversion.sweeps.queue.entry import Snapshot, State
from inversion.sweeps.study.standing import Standing, standings
from inversion.sweeps.study.study import Study
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import find_active
from inversion.tracking.notes import comment_lines, literal, write_note
from inversion.tracking.pages import link_on_page
from inversion.tracking.study import RUNS, STUDY, report_line, tag
from inversion.tracking.views import save_view, view_of

COUNTED: tuple[State, ...] = ("finished", "failed", "queued")
"""The states that every description and every page shows, even if no run is in them."""

SHOWN = 5
"""Configurations in the table of a description."""

LINE_BREAK = "  \n"


def describe_study(study: Study, connection: Connection, snapshot: Snapshot) -> None:
    """Brings the page of a study up to date: counts, the winner by validation, data sets. A description that a user has
    edited stays.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
        InterruptedRunError: a stop was requested while the store was unreachable.
    """
    parent = find_active(connection, study.parent.run_id)
    if parent is None:
        return
    ranked = standings(study, connection, snapshot.entries)
    place = parent.info.experiment_id
    save_view(connection.client, place, STUDY, study.name)
    write_note(connection.client, parent.info.run_id, _note(study, connection, parent, snapshot, ranked))
    _log_metrics(connection, parent, snapshot, ranked)
    _log_data_sets(connection, parent, ranked)
    tag(connection, parent.info.run_id, {RUNS: snapshot.counts_text})


def describe_if_changed(study: Study, connection: Connection, snapshot: Snapshot) -> None:
    """``describe_study``, unless the numbers of runs by state are those that its page shows."""
    parent = find_active(connection, study.parent.run_id)
    if parent is not None and parent.data.tags.get(RUNS) != snapshot.counts_text:
        describe_study(study, connection, snapshot)


def _note(study: Study, connection: Connection, parent: Run, snapshot: Snapshot, ranked: Sequence[Standing]) -> str:
    place = parent.info.experiment_id
    numbers = {**dict.fromkeys(COUNTED, 0), **snapshot.counts}
    counts = ", ".join(f"{number} {state}" for state, number in numbers.items())
    table = link_on_page("table and charts of the runs", place, view=view_of(study.name))
    first = f"Runs: {counts}, of {len(snapshot.entries)}. Compare them: {table}."
    if ranked:
        first = f"{_winner(study, ranked)}{LINE_BREAK}{first}"
    lines = [first, report_line(connection, parent, study.name), *([_caution(ranked)] if ranked else []),
             *comment_lines(parent.data.tags)]
    text = "\n\n".join([*lines, *([_table(study, place, ranked)] if ranked else [])])
    return text if len(text) <= TAG_LENGTH else "\n\n".join(lines)


def _winner(study: Study, ranked: Sequence[Standing]) -> str:
    """Who won and by how much, in a line: the page shows three lines of a description at first."""
    best, *others = ranked
    digits, unit = _digits(study), " dB" if "psnr" in study.objective else ""
    lead = ""
    if others:
        lead = f", {abs(best.value - others[0].value):.{digits}f}{unit} ahead of {literal(others[0].name)}"
    return f"**{literal(best.name)}** is best by validation: `{study.objective}` {best.value:.{digits}f}{unit}{lead}."


def _caution(ranked: Sequence[Standing]) -> str:
    """How the winner was chosen, and how many trainings say so."""
    seeds = len(ranked[0].runs)
    trained = f"It has {seeds} seeds" if seeds > 1 else "With one training of each, a difference may be one of seeds"
    return f"Test scores did not decide. {trained}." if len(ranked) > 1 else "Test scores did not decide."


def _table(study: Study, place: str, ranked: Sequence[Standing]) -> str:
    """The best configurations with their means over seeds; of a search, test scores of the best trial alone."""
    shown = ranked[:SHOWN]
    metrics = [name for name in BASIC if any(item.mean(f"test/{name}") is not None for item in shown)]
    head = ["configuration", f"`{study.objective}`", *(f"test {METRICS[name].label}" for name in metrics)]
    rows = [head, ["---"] * len(head)]
    for rank, item in enumerate(shown):
        hidden = study.search is not None and rank > 0
        link = link_on_page(literal(item.name), place, item.runs[0].info.run_id)
        rows.append([link, f"{item.value:.{_digits(study)}f}",
                     *("" if hidden else _shown(item.mean(f"test/{name}"), METRICS[name].digits) for name in metrics)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _digits(study: Study) -> int:
    return 2 if "psnr" in study.objective else 4


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _log_metrics(connection: Connection, parent: Run, snapshot: Snapshot, ranked: Sequence[Standing]) -> None:
    """Logs the counts and the winner's scores where they have changed."""
    numbers: dict[str, float] = {f"study/{state}": snapshot.counts.get(state, 0) for state in COUNTED}
    if ranked:
        best = ranked[0]
        scores = {"study/winner_val_psnr": best.mean(BEST_PSNR),
                  **{f"study/winner_test_{name}": best.mean(f"test/{name}") for name in BASIC}}
        numbers |= {name: value for name, value in scores.items() if value is not None}
    known = parent.data.metrics
    changed = {name: value for name, value in numbers.items() if known.get(name) != value}
    now = round(snapshot.at.timestamp() * 1000)
    if changed:
        connection.client.log_batch(parent.info.run_id, metrics=[
            Metric(name, float(value), now, 0) for name, value in changed.items()])


def _log_data_sets(connection: Connection, parent: Run, ranked: Sequence[Standing]) -> None:
    """Makes the data sets of the ranked runs inputs of the study."""
    there = set(_data_sets(parent))
    new = {key: each for item in ranked for run in item.runs for key, each in _data_sets(run).items()
           if key not in there}
    if new:
        connection.client.log_inputs(parent.info.run_id, list(new.values()))


def _data_sets(run: Run) -> dict[tuple[str, str], DatasetInput]:
    """The data sets of a run by name and digest."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {(each.dataset.name, each.dataset.digest): each for each in inputs}
