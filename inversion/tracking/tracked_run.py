"""One run in MLflow: beginning or resuming it, logging to it during training, and recording its outcome."""

from __future__ import annotations

import logging
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from inversion.config.document import texts_of
from inversion.config.run_config import RunConfig
from inversion.errors import AbandonedRunError, MissingArtifactError, RequestError
from inversion.files import safe_name
from inversion.tracking.artifacts import current_location, download_artifact, is_listed, require_artifacts
from inversion.tracking.connection import Connection, require_answer
from inversion.tracking.grouping import with_grouping
from inversion.tracking.lifecycle import MICRO_BATCH, deletion_behind, describe_failure, end_run
from inversion.tracking.ownership import (
    HOST,
    PID,
    claim_project_run,
    claim_run,
    create_run,
    owner_tags,
    same_owner,
    take_over,
)
from inversion.tracking.pictures import square
from inversion.tracking.search import CONFIG, CONFIG_FILE, KIND
from inversion.tracking.store_errors import TrackingLostError, TrackingRefusedError, is_lost, reason, to_inversion_error
from inversion.training.callbacks import Callback, Picture

UPLOAD_SECONDS = 60.0
"""Checkpoints are saved locally after every epoch, and uploaded this often and at the end."""

CONFIRM_SECONDS = 10.0
"""How often ownership of the run is checked while logging epochs; it is also checked before every upload."""

PROJECT_PARAMETERS = {"main": "decoder_options", "sweep": "side_by_side", "report": "memory_budget"}
"""A parameter of each entry point of MLproject, by which its runs are told from those of other projects."""

NAME_LENGTH = 120
"""Characters of the name of a run that was not started."""

_logger = logging.getLogger(__name__)


class TrackedRun(Callback):
    """A run of the tracking store, to which training is logged by its callbacks.

    Args:
        connection: the tracking store. With the client of ``with_retries``, requests are retried while the store is
            unreachable.
        run_id: the id of an existing run that this process owns.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        self.connection = connection
        self.client = connection.client
        self.run_id = run_id
        self._uploaded_at = 0.0
        self._owner = owner_tags()
        self._confirmed_at = time.monotonic()

    # Read on demand, which is in ``record_outcome``: where the store refuses, the run has to end as FAILED.
    @cached_property
    def _epochs_logged(self) -> set[int]:
        return {metric.step for metric in self.client.get_metric_history(self.run_id, "val/loss")}

    @cached_property
    def _pictures_logged(self) -> set[tuple[str, int]]:
        """Keys and steps of the logged pictures; MLflow writes the compressed version of each last."""
        names = [Path(file.path).name for file in self.client.list_artifacts(self.run_id, "images")]
        found = [re.fullmatch(r"(.+)\+step\+(\d+)\+timestamp\+.+\+compressed\.webp", name) for name in names]
        return {(re.sub("[~#]", "/", match[1]), int(match[2])) for match in found if match}

    @property
    def uri(self) -> str:
        """The location of its artifacts."""
        return current_location(str(self.client.get_run(self.run_id).info.artifact_uri))

    def describe(self, name: str, params: Mapping[str, object], tags: Mapping[str, str], document: Mapping[str, Any]
                 ) -> None:
        """Logs name, parameters, tags and the whole resolved configuration (tag and ``config.json``).

        ``encoder`` and ``layer`` are split as in ``grouping``.

        Raises:
            MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
            InterruptedRunError: a stop was requested while the store was unreachable.
        """
        tag, text = texts_of(document)
        everything = {MLFLOW_RUN_NAME: name, CONFIG: tag, **tags, **owner_tags()}
        known = self.client.get_run(self.run_id).data.params
        self.client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in params_to_log(with_grouping(params, known), known).items()],
            tags=[RunTag(key, value) for key, value in everything.items()],
        )
        self.client.log_text(self.run_id, text, CONFIG_FILE)

    def on_begin(self, run_id: str) -> None:
        """Reads what the run has, so that a store that refuses this is told before training."""
        _ = self._epochs_logged, self._pictures_logged

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch in self._epochs_logged:  # repeated after a resume, with the same values
            return
        self._epochs_logged.add(epoch)
        if time.monotonic() - self._confirmed_at >= CONFIRM_SECONDS:
            self.confirm()
        self.log_metrics(metrics, step=epoch)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Logs the metrics of one step in one request, with ``model_id`` as those of a logged model too.

        Raises:
            MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
            InterruptedRunError: a stop was requested while the store was unreachable.
        """
        self.log_history({step: metrics}, model_id)

    def log_history(self, history: Mapping[int, Mapping[str, float]], model_id: str | None = None) -> None:
        """Logs the metrics of several steps in one request; ``model_id`` as for ``log_metrics``.

        Raises:
            MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
            InterruptedRunError: a stop was requested while the store was unreachable.
        """
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[
            Metric(key, value, now, step, model_id=model_id)
            for step, metrics in history.items() for key, value in metrics.items()])

    def log_once(self, metrics: Mapping[str, float], model_id: str | None = None) -> None:
        """Logs the metrics that the run does not have yet: MLflow would keep both values of a step. ``model_id`` as for
        ``log_metrics``.

        Raises:
            MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
            InterruptedRunError: a stop was requested while the store was unreachable.
        """
        known = self.client.get_run(self.run_id).data.metrics
        self.log_metrics({key: value for key, value in metrics.items() if key not in known}, model_id=model_id)

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        self.log_pictures("reconstructions", epoch, pictures)

    def log_pictures(self, section: str, epoch: int, pictures: Sequence[Picture]) -> None:
        """Logs pictures as MLflow's images, in a section of its charts; a picture of a step that is there is left out.

        Raises:
            MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``upload``.
        """
        for number, picture in enumerate(pictures, start=1):
            key = f"{section}/{number}_{safe_name(Path(picture.name).stem)}"
            if (key, epoch) not in self._pictures_logged:  # logged already if the run died before its first checkpoint
                self.client.log_image(self.run_id, square(picture), key=key, step=epoch, synchronous=True)
                self._pictures_logged.add((key, epoch))

    def on_micro_batch(self, size: int) -> None:
        self.client.set_tag(self.run_id, MICRO_BATCH, str(size))

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        if final or time.monotonic() - self._uploaded_at >= UPLOAD_SECONDS:
            self.confirm()
            self.upload(files, "checkpoints")
            self._uploaded_at = time.monotonic()

    def on_commit(self) -> None:
        self.confirm()

    def confirm(self) -> None:
        """Checks that this process still owns the run.

        Raises:
            AbandonedRunError: another process has taken it over, so nothing more may be logged.
        """
        tags = self.client.get_run(self.run_id).data.tags
        if PID in tags and not same_owner(tags, self._owner):
            raise AbandonedRunError(f"run {self.run_id} was taken over by process {tags[PID]} on {tags.get(HOST)}: "
                                    "this process logs nothing more to it")
        self._confirmed_at = time.monotonic()

    def upload(self, files: Sequence[Path], folder: str) -> None:
        """Uploads files to a folder of the run's artifacts.

        Raises:
            MlflowException, requests.RequestException, OSError: the artifact store is unreachable or rejects a file;
                ``to_inversion_error`` converts errors of stores.
            TrackingRefusedError: the requests succeed, but the store does not have the files: something in front of it
                answers in its place, such as the login page of a proxy.
            InterruptedRunError: a stop was requested while the store was unreachable.
        """
        for file in files:
            self.client.log_artifact(self.run_id, str(file), folder)
        stored = {item.path for item in self.client.list_artifacts(self.run_id, folder)} if files else set()
        lost = [path for file in files if (path := f"{folder}/{file.name}") not in stored]
        if lost:
            raise TrackingRefusedError(f"the tracking store does not have {lost[0]} of run {self.run_id}, although the "
                                       "upload succeeded: a proxy may answer in its place, as with a login page")

    def download(self, artifact: str, folder: Path) -> Path:
        """Downloads one artifact to a folder.

        Raises:
            MissingArtifactError: the run has no such artifact.
            RequestError: the run has logged epochs, and its artifacts are on another machine.
        """
        if not is_listed(self.client, self.run_id, artifact):
            if self._epochs_logged:
                require_artifacts(self.client.get_run(self.run_id))
            raise MissingArtifactError(f"run {self.run_id} has no artifact {artifact}")
        return download_artifact(self.run_id, artifact, folder, self.client)

    def end(self, status: str, failure: str = "", message: str = "") -> None:
        """Ends the run; a failure's kind and message become tags.

        Raises:
            DeletedError: the run was deleted in MLflow.
        """
        try:
            end_run(self.client, self.run_id, status, failure, message)
        except MlflowException as error:
            if (deletion := deletion_behind(self.connection, error, self.run_id)) is None:
                raise
            raise deletion from error


def begin_run(
    connection: Connection, name: str, resume: str | None = None, tags: Mapping[str, str] | None = None,
    claimed: bool = False,
) -> TrackedRun:
    """The run to log to: one to resume, or the one that ``mlflow run`` has created, or a new one.

    Args:
        connection: the tracking store and the experiment of a new run.
        name: the name of a new run.
        resume: the id of a run to resume.
        tags: the tags of a new run.
        claimed: whether a queue has assigned the run to resume to this process, whoever owned it before.

    Raises:
        RequestError: another process owns the run, or may.
    """
    if resume and claimed:
        take_over(connection.client, resume)
    elif resume:
        claim_run(connection, resume)
    elif adopted := os.environ.get("MLFLOW_RUN_ID"):
        claim_project_run(connection, adopted)
        return TrackedRun(connection, adopted)
    return TrackedRun(connection, resume or create_run(connection, name, tags or {}, "inversion train"))


@contextmanager
def record_outcome(run: TrackedRun) -> Iterator[TrackedRun]:
    """Ends the run after the block: FINISHED, KILLED if it was interrupted, or FAILED with the reason.

    A run that another process has taken over is not changed.

    Raises:
        DeletedError: the run was deleted in MLflow.
        TrackingLostError: the store is unreachable.
        TrackingRefusedError: the store rejected a request.
        Exception: any other error of the block.
    """
    try:
        yield run
    except AbandonedRunError:
        raise
    except BaseException as error:
        if (deletion := deletion_behind(run.connection, error, run.run_id)) is not None:
            raise deletion from error  # a deleted run cannot be changed
        ours = to_inversion_error(error, f"The checkpoint of run {run.run_id} on this machine is safe: resume with "
                                         "--resume when the store answers again.")
        status, kind, message = describe_failure(ours or error)
        try:
            if isinstance(ours, TrackingLostError) or is_lost(error.__cause__):  # or stopped while waiting for it
                require_answer(run.connection.uri)  # MLflow itself would retry for minutes
            run.end(status, kind, message)
        except Exception as second:  # report the first error
            _logger.warning("run %s could not be ended as %s: %s", run.run_id, status, reason(second))
        if ours is not None:
            raise ours from error
        raise
    run.end("FINISHED")


def fail_project_run(error: BaseException) -> None:
    """Ends the run that ``mlflow run`` has created, if any, with the error that kept its command from starting.

    MLflow creates it, with a random name, before it looks at the request; the run of a wrong one is named after the
    error. It cannot be deleted here: MLflow 3.17 then fails with a traceback, because it sets the status once more.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id is None:
        return
    status, kind, message = describe_failure(error)
    try:
        require_answer(mlflow.get_tracking_uri())  # MLflow itself would retry for minutes
        client = MlflowClient()
        run = client.get_run(run_id)
        ours = PID not in run.data.tags or same_owner(run.data.tags, owner_tags())
        if ours and run.info.status == RunStatus.to_string(RunStatus.RUNNING):
            end_run(client, run_id, status, kind, message)
            if isinstance(error, RequestError) and _is_untouched(run):
                client.set_tag(run_id, MLFLOW_RUN_NAME, f"not started: {message}"[:NAME_LENGTH])
    except Exception as unreachable:  # any error of a malformed address: report the first error
        _logger.warning("run %s could not be marked %s: %s", run_id, status, reason(unreachable))


def _is_untouched(run: Run) -> bool:
    """Whether a run is as ``mlflow run`` of this project has created it, and not one that somebody else works with."""
    tags = run.data.tags
    parameter = PROJECT_PARAMETERS.get(tags.get(MLFLOW_PROJECT_ENTRY_POINT, ""))
    return parameter in run.data.params and not run.data.metrics and PID not in tags and KIND not in tags


def params_to_log(params: Mapping[str, object], known: Mapping[str, str]) -> dict[str, str]:
    """Every resolved parameter, under a name that the run does not have yet.

    ``mlflow run`` has logged the shell-quoted arguments as parameters, which MLflow does not allow to change. They are
    kept, and a value that differs from its argument is logged as ``resolved.NAME``.
    """
    logged = {}
    for name, value in params.items():
        if name not in known:
            logged[name] = text_of(value)
        elif not _equals(name, known[name], value) and f"resolved.{name}" not in known:
            logged[f"resolved.{name}"] = text_of(value)
    return logged


def text_of(value: object) -> str:
    """A parameter as logged to MLflow: ``0.0001``, ``true``, ``vgg16:block1``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _equals(name: str, raw: str, value: object) -> bool:
    if raw == text_of(value):  # as inversion logged it, before this run was resumed
        return True
    try:
        words = shlex.split(raw)
    except ValueError:  # an unquoted text with a quotation mark
        return False
    text = words[0] if len(words) == 1 else raw
    if text == text_of(value):
        return True
    if not isinstance(value, float | int | bool):
        return False
    try:
        return bool(RunConfig.model_validate({name: text}).model_dump()[name] == value)
    except ValueError:  # the raw text is not a valid value
        return False


def require_same_digest(connection: Connection, run_id: str, digest: str) -> None:
    """Raises a RequestError if the run to resume has another digest than the current inputs."""
    before = connection.client.get_run(run_id).data.tags.get("inversion.digest")
    if before != digest:
        raise RequestError(f"run {run_id} cannot be resumed: its images, weights or version have changed since it was "
                           f"started (digest {before}, now {digest})")
