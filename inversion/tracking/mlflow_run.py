"""Finding the ``mlflow run`` that started this process, and stopping when it ends."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

import psutil

from inversion.training.stop import StopRequest, stop_on_signals


def stop_with_mlflow_run() -> AbstractContextManager[StopRequest]:
    """A request that SIGINT, SIGTERM and the end of the parent ``mlflow run`` set, while the block runs."""
    return stop_on_signals(find_mlflow_run(), "the `mlflow run`")


def is_mlflow_run(words: Sequence[str]) -> bool:
    """Whether a command line is that of an ``mlflow run``."""
    return "run" in words and any(os.path.basename(word) == "mlflow" or word == "mlflow.cli" for word in words)


def find_mlflow_run() -> psutil.Process | None:
    """The ``mlflow run`` that started this process, if one did.

    It is not always the parent: to activate an environment, MLflow starts a shell in between, which outlives it.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        return None
    try:
        for ancestor in psutil.Process().parents():
            if is_mlflow_run(ancestor.cmdline()):
                return ancestor
    except psutil.Error:  # an ancestor has ended or belongs to another user
        return None
    return None
