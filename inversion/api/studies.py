"""Studies: sweeping one, and its runs, scores and comparisons as tables."""

from __future__ import annotations

import html
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from inversion.api.runs import Run, as_run
from inversion.config.labels import labels_of
from inversion.console import make_console
from inversion.errors import RequestError, UnknownNameError
from inversion.report.best_run import find_best
from inversion.report.build import make_report
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.data.study import StudyData
from inversion.report.render.write import write
from inversion.report.stats.comparisons import Comparison, outcome
from inversion.sweeps import actions
from inversion.sweeps.spec.spec import load_spec, require_inputs
from inversion.tracking.connection import Connection, connect
from inversion.tracking.study import in_experiment_of

VERDICTS = {"yes": "the configurations differ", "no": "not established",
            "one seed": "these trained networks differ, and one seed each says nothing of others"}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """A paired comparison of two configurations on the same test images, with the noise between seeds.

    Attributes:
        a: The first configuration.
        b: The second configuration.
        mean: Mean PSNR of ``a`` minus that of ``b``, in dB.
        low, high: Its 95 % interval.
        p: Two-sided p, corrected for all pairs of the leaderboard (Holm).
        holds_up: Whether the configurations differ: p is below 0.05, and the seed noise is known.
        verdict: The same in words.
    """

    a: str
    b: str
    mean: float
    low: float
    high: float
    p: float
    holds_up: bool
    verdict: str
    details: Comparison = field(repr=False)


@dataclass(frozen=True)
class Study:
    """A study in MLflow, as it was when it was looked up."""

    name: str
    _connection: Connection = field(repr=False, compare=False)
    _data: StudyData = field(repr=False, compare=False)
    _boards: tuple[Board, ...] = field(repr=False, compare=False)

    def runs(self) -> pd.DataFrame:
        """One row for each run that has begun: id, name, status, parameters, and the last value of each metric."""
        rows = [{"id": run.run_id, "name": run.name, "status": run.status, **run.parameters, **run.metrics}
                for run in self._data.runs]
        return pd.DataFrame(rows)

    def images(self) -> pd.DataFrame:
        """One row for each test image of each finished run, with the run's id, name, encoder, decoder and seed."""
        tables = [run.scores.assign(id=run.run_id, name=run.name, encoder=run.parameters["encoder"],
                                    decoder=run.parameters["decoder"], seed=run.parameters["seed"])
                  for run in self._data.runs if run.scores is not None]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def leaderboard(self) -> pd.DataFrame:
        """Mean ± standard deviation of every configuration over its images and seeds, best first.

        Configurations of different protocols, data or weights are not comparable: ``board`` counts such groups.
        """
        rows = [{"board": number, "rank": rank, "configuration": item.label, "psnr": item.psnr.mean,
                 "ssim": item.mean("ssim"), "lpips": item.mean("lpips"), "seeds": len(item.runs)}
                for number, board in enumerate(self._boards, start=1)
                for rank, item in enumerate(board.configurations, start=1)]
        return pd.DataFrame(rows)

    def compare(self, a: str, b: str) -> Difference:
        """Compares two configurations by their labels in the leaderboard, ``a`` minus ``b``.

        Raises:
            UnknownNameError: there is no such configuration.
            RequestError: they are not comparable.
        """
        labels = [label for board in self._boards for label in board.by_label]
        for name in (a, b):
            if name not in labels:
                raise UnknownNameError(f"study {self.name} has no configuration", name, labels)
        board = next((board for board in self._boards if {a, b} <= set(board.by_label)), None)
        if board is None:
            raise RequestError(f"{a} and {b} are not comparable: they differ in protocol, data, weights or image size")
        found = board.compare(board.by_label[a], board.by_label[b])
        interval, verdict = found.interval, outcome(found)
        low, high = (interval.low, interval.high) if interval else (float("nan"), float("nan"))
        return Difference(a, b, found.difference, low, high, found.p, verdict == "yes", VERDICTS[verdict], found)

    def best(self) -> Run:
        """The run at the head of the leaderboard; of a search, the trial with the best objective.

        Raises:
            RequestError: no run is finished, or runs cannot be compared.
        """
        return as_run(self._connection, find_best(self._connection, self.name))

    def run(self, run: str) -> Run:
        """A run of the study by its id."""
        return as_run(self._connection, run)

    def report(self, folder: str | PathLike[str], seed_sd: float | None = None) -> Path:
        """Writes the study's report, as ``inversion-report`` does; returns the path of its page."""
        return write(make_report(self._connection, self._data, seed_sd=seed_sd), Path(folder))

    def _repr_html_(self) -> str:
        table = self.leaderboard().head(10)
        shown = table.to_html(index=False, float_format="{:.3f}".format) if len(table) else "<p>No run is finished.</p>"
        return f"<b>{html.escape(self.name)}</b>: {len(self._data.runs)} runs{shown}"


def study(name: str, tracking_uri: str | None = None, experiment: str | None = None,
          seed_sd: float | None = None) -> Study:
    """A study by its name, as it is now.

    Args:
        name: the name of the study.
        tracking_uri: the tracking store; by default MLflow's, else ``mlflow.db`` in the current folder.
        experiment: its experiment; by default the one that has the study.
        seed_sd: the standard deviation between trainings in dB, if it is known from elsewhere.

    Raises:
        UnknownNameError: there is no such study.
    """
    connection = in_experiment_of(connect(tracking_uri, experiment, create=False), name)
    data = collect(connection, name)
    return Study(name, connection, data, tuple(make_boards(data.runs, seed_sd, data.tuned)))


def sweep(spec: str | PathLike[str] | Mapping[str, Any], *, name: str | None = None, workers: int | None = None,
          side_by_side: int | None = None, storage: str | None = None, tracking_uri: str | None = None,
          experiment: str | None = None, max_runs: int | None = None, tags: Mapping[str, str] | None = None,
          comment: str | None = None, trust_code: bool = False) -> Study:
    """Queues the runs of a spec and works on them until all are done, as ``inversion-sweep`` does.

    Args:
        spec: a file, the name of a shipped one, or its content as a dictionary.
        name: another name for the study.
        workers: worker processes on this machine; 0 only queues the runs.
        side_by_side: how many runs a worker trains together on one encoder pass.
        storage: the queue's database.
        tracking_uri: the tracking store; by default MLflow's, else ``mlflow.db`` in the current folder.
        experiment: its experiment; by default MLflow's, else ``inversion``.
        trust_code: whether to execute the code of parts that others have queued, if it is not on this machine.
        max_runs: stop when so many runs have ended; the others stay in the queue.
        tags: tags in MLflow for the study and its runs.
        comment: what the study is about.

    Raises:
        SeveralErrors: everything that is wrong in the spec.
        InterruptedRunError: it was interrupted; the same call resumes the study.
    """
    labels = labels_of(tags, comment)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(spec, Mapping):
            if (other := Path(str(spec.get("extends", "")))).is_file():  # relative to this folder
                spec = {**spec, "extends": str(other.resolve())}
            path = Path(folder) / f"{name or spec.get('study', 'study')}.yaml"
            path.write_text(yaml.safe_dump(dict(spec), sort_keys=False))
        else:
            path = Path(spec)
        loaded = load_spec(str(path), study=name, labels=labels)
        require_inputs(loaded)
        code = actions.sweep(loaded.study, loaded, {
            "workers": workers, "side_by_side": side_by_side, "storage": storage, "tracking_uri": tracking_uri,
            "experiment": experiment, "join": False, "seeds_for": None, "seed_sd": None, "retry_failed": False,
            "ray": None, "gpus_per_run": None, "slurm": None, "jobs": None, "register": None, "dry_run": False,
            "time_limit": None, "trust_code": trust_code, "notify": None, "system_metrics": False,
            "max_runs": max_runs})
    if code:
        make_console().note(f"study {loaded.study}: some runs failed or were deleted; .runs() has their status")
    return study(loaded.study, tracking_uri, experiment)
