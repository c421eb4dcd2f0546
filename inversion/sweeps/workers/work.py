"""What every worker does, whoever started it: a process of this machine, or a task on a Ray cluster."""

from __future__ import annotations

import os

from inversion.errors import RequestError
from inversion.sweeps.queue.storage import open_storage
from inversion.sweeps.study.study import open_study, require_same_store
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.worker import Worker
from inversion.tracking.connection import connect
from inversion.tracking.retry import with_retries
from inversion.training.stop import StopRequest


def work(spec: WorkerSpec, stop: StopRequest) -> None:
    """Works on a study until nothing is left of it, or until it is asked to stop.

    Raises:
        RequestError: the study is not there, or logs to another tracking store; or there is no GPU, and the worker was
            given one for runs that may use it.
        InversionError: this machine cannot do the study's runs, or lost the tracking store or the queue.
    """
    study = open_study(open_storage(spec.storage, stop=stop), spec.study, stop)
    if spec.gpu and study.may_use_a_gpu:
        _require_gpu()
    require_same_store(study.queue.study, spec.tracking_uri)
    connection = with_retries(connect(spec.tracking_uri, spec.experiment), stop)
    Worker(study, connection, stop, spec.side_by_side).work()


def _require_gpu() -> None:
    """Raises a RequestError if CUDA finds no GPU: ``device=auto`` would be the CPU then, without a word."""
    import torch

    if not torch.cuda.is_available():
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise RequestError(f"this worker was given the GPU {given!r} (CUDA_VISIBLE_DEVICES), and CUDA finds none of "
                           "that name")
