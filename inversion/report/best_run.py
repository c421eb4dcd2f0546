"""The best run of a study: the head of its leaderboard, or of its trials."""

from __future__ import annotations

from inversion.config.document import DocumentError
from inversion.errors import RequestError, SeveralErrors
from inversion.report.data.collect import fetch_list, fetch_specs
from inversion.report.data.comparable import title_of
from inversion.report.data.search_runs import search_of
from inversion.report.data.study import ReportRun, StudyData
from inversion.report.data.tuning import choose
from inversion.report.leaderboard import Row, leaderboard
from inversion.tracking.connection import Connection
from inversion.tracking.search import ID_DIGITS, document_of
from inversion.tracking.study import RUNS_FILE, SETTINGS_FILE, children, in_experiment_of, require_study


def find_best(connection: Connection, study: str) -> str:
    """The id of the run at the head of a study's leaderboard, in the given experiment or the one that has the study.

    Raises:
        UnknownNameError: there is no such study.
        RequestError: it has no scored run, or it is in several experiments.
        SeveralErrors: it has runs that cannot be compared; a line for each group has the id of its best run.
    """
    connection = in_experiment_of(connection, study)
    data = _finished(connection, study)
    search = search_of(connection, data)
    leaders = [] if search else _leaders(data)
    if len(leaders) > 1:
        raise SeveralErrors([
            f"study {study} has {len(leaders)} groups of runs that cannot be compared. Give the best of one by its id:",
            *(f"{row.values['run_id'][:ID_DIGITS]}, {row.values['run']}, test PSNR {row.values['test/psnr']:.2f} dB "
              f"({title_of(row.group)})" for row in leaders)])
    best = search.best.run_id if search and search.best else leaders[0].values["run_id"] if leaders else None
    if best is None:
        raise RequestError(f"study {study} has no finished run with scores yet")
    return str(best)


def _finished(connection: Connection, study: str) -> StudyData:
    """The finished runs of a study, without the scores of single images."""
    parent = require_study(connection, study)
    runs = []
    for run in children(connection, study, "attributes.status = 'FINISHED'"):
        try:
            runs.append(ReportRun(run, document_of(run)))
        except DocumentError:  # the leaderboard warns of it
            runs.append(ReportRun(run, {}))
    planned, settings = (fetch_list(connection, parent.info.run_id, name) for name in (RUNS_FILE, SETTINGS_FILE))
    specs = fetch_specs(connection, parent.info.run_id, [text for text in settings if isinstance(text, str)])
    return StudyData(study, parent, runs, [item for item in planned if isinstance(item, dict) and "digest" in item],
                     spec=specs)


def _leaders(data: StudyData) -> list[Row]:
    """The best run of each group of comparable runs; of tuned configurations, only chosen values count."""
    ranked, _ = choose(data.runs, data.tuned)
    return [row for row in leaderboard(each.run for each in ranked) if row.rank == 1]
