"""Scoring all finished runs of a study on other images: what was scored before is left out, and failures go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run

from inversion.config.document import DocumentError
from inversion.errors import InterruptedRunError, RequestError
from inversion.losses.outside import NONE
from inversion.metrics import BASIC
from inversion.progress import Progress, no_progress
from inversion.runs.evaluate import Target, evaluate_run, evaluation_config, find_metrics, find_target
from inversion.runs.load import TrainedRun, find_lpips, find_trained, load_reconstructor
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import describe_failure
from inversion.tracking.search import EVALUATES, document_of, finished_evaluations
from inversion.tracking.store_errors import TrackingLostError, is_lost
from inversion.tracking.study import children, require_study
from inversion.training.stop import StopRequest

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What is scored and how; the attributes are the options of ``inversion evaluate``."""

    data: str | None = None
    split: str = "test"
    test_limit: int | None = None
    lpips_weights: str | None = None
    vgg_weights: str | None = None
    metrics: str = NONE
    device: str | None = None
    data_dir: str | None = None
    trust_code: bool = False


@dataclass(frozen=True)
class Scored:
    """What became of one run of the study.

    Attributes:
        number: Which of ``total`` runs it is, from 1.
        name: The run's name.
        scores: Means of the ``BASIC`` metrics that were computed, by name; empty if it failed.
        run_id: The evaluation; None if it failed before that began.
        is_new: Whether it was scored now.
        failure: Why it has no scores, as ``kind: message``.
        target: The images; None if they could not be found.
    """

    number: int
    total: int
    name: str
    scores: Mapping[str, float]
    run_id: str | None = None
    is_new: bool = True
    failure: str = ""
    target: Target | None = None


def evaluate_study(connection: Connection, study: str, asked: Asked, stop: StopRequest, progress: Progress = no_progress
                   ) -> Iterator[Scored]:
    """Scores every finished run of a study, and yields what became of each.

    A run that has a finished evaluation on the same images with the same networks and metrics is not scored again. A
    run that cannot be scored is yielded with the reason, which its evaluation in MLflow has too.

    Raises:
        RequestError: there is no such study, it has no finished run, or ``data`` cannot be used. Nothing was scored.
        InterruptedRunError: a stop was requested.
        TrackingLostError: the store is unreachable.
    """
    require_study(connection, study)
    runs = sorted(children(connection, study, "attributes.status = 'FINISHED'"),
                  key=lambda run: (str(run.info.run_name), run.info.start_time))
    if not runs:
        raise RequestError(f"study {study} has no finished run yet, whose model could be scored")
    known = _evaluations(connection)
    targets: dict[tuple[str, ...], Target] = {}
    for number, run in enumerate(runs, start=1):
        name, run_id = str(run.info.run_name), run.info.run_id
        trained = target = None
        try:
            trained = find_trained(connection, run_id, asked.device)
            target = _target(trained, asked, targets, progress)
            scores, evaluation, is_new = _score(connection, trained, target, asked, known.get(run_id, []), stop)
            yield Scored(number, len(runs), name, scores, evaluation, is_new, target=target)
        except (InterruptedRunError, TrackingLostError):
            raise
        except Exception as error:
            of_images = trained is not None and target is None and isinstance(error, RequestError)
            if is_lost(error) or (of_images and number == 1):  # no other run could be scored on these
                raise
            _, kind, message = describe_failure(error)
            _logger.info("run %s (%s) was not scored", run_id, name, exc_info=error)
            yield Scored(number, len(runs), name, {}, failure=f"{kind}: {message}", target=target)


def _target(run: TrainedRun, asked: Asked, found: dict[tuple[str, ...], Target], progress: Progress) -> Target:
    """The images to score a run on: found once for all runs that were trained on the same ones."""
    config = run.config
    key = (run.document["data"]["digest"], *(str(getattr(config, name)) for name in (
        "data", "data_dir", "image_size", "protocol", "train_limit", "val_limit", "test_limit")))
    if key not in found:
        found[key] = find_target(run, asked.data, asked.split, asked.test_limit, asked.data_dir, progress)
    return found[key]


def _score(connection: Connection, run: TrainedRun, target: Target, asked: Asked, before: list[Run], stop: StopRequest
           ) -> tuple[Mapping[str, float], str, bool]:
    """Means of the scores, the id of the evaluation, and whether it is a new one."""
    lpips, _ = find_lpips(run, asked.lpips_weights)
    metrics = find_metrics(run, asked.metrics, asked.trust_code)
    wanted = evaluation_config(run, target, lpips, asked.vgg_weights, metrics).model_dump()
    for other in before:
        if _is_of(other, target, wanted):
            logged = {name: other.data.metrics.get(f"test/{name}") for name in BASIC}
            return {name: value for name, value in logged.items() if value is not None}, other.info.run_id, False
    made = evaluate_run(connection, run.experiment_id, run, lambda: load_reconstructor(run, asked.trust_code), target,
                        lpips, stop, asked.vgg_weights, metrics)
    return {name: made.scores.mean(name) for name in BASIC if getattr(made.scores, name)}, made.run_id, True


def _is_of(evaluation: Run, target: Target, wanted: Mapping[str, Any]) -> bool:
    """Whether an evaluation is of these images, with the networks and metrics of the ``wanted`` parameters."""
    try:
        document = document_of(evaluation)
    except DocumentError:
        return False
    scored, scorers = target.scored, ("lpips_weights", "vgg_weights", "metrics")
    return (document["data"].get("digest"), document.get("split"), document["data"].get("images"),
            *(document["parameters"].get(name) for name in scorers)) == (
        scored.digest, scored.split, {scored.split: len(scored.names)}, *(wanted[name] for name in scorers))


def _evaluations(connection: Connection) -> dict[str, list[Run]]:
    """The finished evaluations of the experiment, by the id of the run that they score, the newest first."""
    found: dict[str, list[Run]] = {}
    for run in finished_evaluations(connection):
        found.setdefault(run.data.tags.get(EVALUATES, ""), []).append(run)
    return found
