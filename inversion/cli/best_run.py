"""The option ``--best-of STUDY`` of commands that take a trained run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inversion.cli.options import no_blank
from inversion.errors import RequestError, SeveralErrors

if TYPE_CHECKING:
    from inversion.report.leaderboard import Row
    from inversion.tracking.connection import Connection

F = TypeVar("F", bound=Callable[..., Any])


def best_of_option(command: F) -> F:
    """Adds ``--best-of``, which takes the place of RUN."""
    return click.option("--best-of", metavar="STUDY", callback=no_blank,
                        help="Instead of RUN: the run of this study with the highest test PSNR.")(command)


def find_best(connection: Connection, study: str) -> str:
    """The id of the run at the head of a study's leaderboard, in the given experiment or the one that has the study.

    Raises:
        UnknownNameError: there is no such study.
        RequestError: it has no scored run, or it is in several experiments.
        SeveralErrors: it has runs that cannot be compared; a line for each group has the id of its best run.
    """
    rows = _leaders(_with_study(connection, study), study)
    if not rows:
        raise RequestError(f"study {study} has no finished run with scores yet")
    if len(rows) > 1:
        from inversion.report.data.comparable import title_of
        from inversion.tracking.search import ID_DIGITS

        raise SeveralErrors([
            f"study {study} has {len(rows)} groups of runs that cannot be compared. Give the best of one by its id:",
            *(f"{row.values['run_id'][:ID_DIGITS]}, {row.values['run']}, test PSNR {row.values['test/psnr']:.2f} dB "
              f"({title_of(row.group)})" for row in rows)])
    return str(rows[0].values["run_id"])


def _with_study(connection: Connection, study: str) -> Connection:
    from inversion.tracking.connection import connect
    from inversion.tracking.study import experiments_of, require_study

    if not connection.is_given:
        found = experiments_of(connection, study)
        if connection.experiment not in found and len(found) > 1:
            raise RequestError(f"study {study} is in several experiments: {', '.join(found)}. Give one of them with "
                               "--experiment.")
        if found and connection.experiment not in found:
            connection = connect(connection.uri, found[0], create=False)
    require_study(connection, study)
    return connection


def _leaders(connection: Connection, study: str) -> list[Row]:
    """The best run of each group of comparable runs; of tuned configurations, only chosen values count."""
    from inversion.config.document import DocumentError
    from inversion.report.data.collect import fetch_list
    from inversion.report.data.study import ReportRun, StudyData
    from inversion.report.data.tuning import choose
    from inversion.report.leaderboard import leaderboard
    from inversion.tracking.search import document_of
    from inversion.tracking.study import RUNS_FILE, children, require_study

    parent = require_study(connection, study)
    runs = []
    for run in children(connection, study, "attributes.status = 'FINISHED'"):
        try:
            runs.append(ReportRun(run, document_of(run)))
        except DocumentError:  # the leaderboard warns of it
            runs.append(ReportRun(run, {}))
    planned = [item for item in fetch_list(connection, parent.info.run_id, RUNS_FILE)
               if isinstance(item, dict) and "digest" in item]
    ranked, _ = choose(runs, StudyData(study, parent, runs, planned).tuned)
    return [row for row in leaderboard(each.run for each in ranked) if row.rank == 1]
