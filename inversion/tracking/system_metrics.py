"""MLflow's system metrics of a run: use of CPU, memory, disk, network and GPUs of its machine."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from inversion.tracking.connection import Connection
from inversion.tracking.store_errors import reason

NO_GPU = "system metrics have nothing of the GPU without nvidia-ml-py: pip install 'inversion[gpu-metrics]'"

_logger = logging.getLogger(__name__)


def knows_gpus() -> bool:
    """Whether MLflow can read the metrics of an NVIDIA GPU."""
    return importlib.util.find_spec("pynvml") is not None


@contextmanager
def system_metrics(connection: Connection, run_id: str, wanted: bool) -> Iterator[None]:
    """Logs the metrics ``system/…`` while the block runs, every 10 seconds unless
    ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` is set. A failure is a warning: the run goes on without them."""
    if not wanted:
        yield
        return
    monitor = None
    try:
        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=connection.uri)
        monitor.start()
    except Exception as error:
        _logger.warning("run %s has no system metrics: %s", run_id, reason(error))
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()
