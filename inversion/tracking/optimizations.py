"""Inversions by optimisation in MLflow: runs of the kind ``optimize``, beside the learned decoders of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from inversion.config.document import texts_of
from inversion.tracking.connection import Connection
from inversion.tracking.ownership import create_run
from inversion.tracking.search import CONFIG, CONFIG_FILE, KIND
from inversion.tracking.tracked_run import TrackedRun, text_of
from inversion.training.pixel_optimization import Point

LOSS, FEATURE_ERROR = "optimize/loss", "optimize/feature_error"


def begin_optimization(connection: Connection, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any],
                       document: Mapping[str, Any]) -> TrackedRun:
    """A new run with its parameters, its tags and the whole resolved configuration (tag and ``config.json``)."""
    everything = {KIND: "optimize", **tags}
    tag, text = texts_of(document)
    run = TrackedRun(connection, create_run(connection, name, everything, "inversion optimize"))
    run.client.log_batch(
        run.run_id,
        params=[Param(key, text_of(value)) for key, value in parameters.items()],
        tags=[RunTag(CONFIG, tag)],
    )
    run.client.log_text(run.run_id, text, CONFIG_FILE)
    return run


def log_curve(run: TrackedRun, curve: Sequence[Point]) -> None:
    """The objective and the feature error by step, in one request."""
    now = int(time.time() * 1000)
    run.client.log_batch(run.run_id, metrics=[
        Metric(key, value, now, point.step)
        for point in curve for key, value in ((LOSS, point.loss), (FEATURE_ERROR, point.feature_error))])
