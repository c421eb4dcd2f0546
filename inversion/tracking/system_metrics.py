"""MLflow's system metrics of a run (CPU, memory, disk, network, GPUs of its machine), and its energy by codecarbon."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from inversion.tracking.connection import Connection
from inversion.tracking.store_errors import reason

if TYPE_CHECKING:
    from codecarbon.output_methods.emissions_data import EmissionsData

NO_GPU = "system metrics have nothing of the GPU without nvidia-ml-py: pip install 'inversion[gpu-metrics]'"

_logger = logging.getLogger(__name__)


def knows_gpus() -> bool:
    """Whether MLflow can read the metrics of an NVIDIA GPU."""
    return importlib.util.find_spec("pynvml") is not None


@contextmanager
def system_metrics(connection: Connection, run_id: str, wanted: bool) -> Iterator[None]:
    """Logs the metrics ``system/…`` while the block runs, every 10 seconds unless
    ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` is set, and the energy at its end where codecarbon is installed.
    A failure is a warning: the run goes on without them."""
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
        with _energy(connection, run_id):
            yield
    finally:
        if monitor is not None:
            monitor.finish()


@contextmanager
def _energy(connection: Connection, run_id: str) -> Iterator[None]:
    """Adds what the machine took while the block ran, by codecarbon, to the run's ``system/codecarbon_…_kwh``."""
    if importlib.util.find_spec("codecarbon") is None:
        yield
        return
    tracker = None
    try:
        import codecarbon  # half a second, and only here

        logging.getLogger("codecarbon").setLevel(logging.ERROR)
        # of the energy, the country changes nothing; several runs of a machine are tracked at once, without a lock,
        # whose signal handlers would be in the way of a stop
        tracker = codecarbon.OfflineEmissionsTracker(country_iso_code="FRA", output_methods=[], log_level="error",
                                                     allow_multiple_runs=True)
        tracker.start()
    except Exception as error:
        _logger.warning("run %s has no energy by codecarbon: %s", run_id, reason(error))
    try:
        yield
    finally:
        if tracker is not None:
            tracker.stop()
            _log_energy(connection, run_id, tracker.final_emissions_data)


def _log_energy(connection: Connection, run_id: str, measured: EmissionsData | None) -> None:
    if measured is None:
        return
    client = MlflowClient(connection.uri)
    parts = {"energy": measured.energy_consumed, "cpu_energy": measured.cpu_energy, "gpu_energy": measured.gpu_energy,
             "ram_energy": measured.ram_energy}
    try:
        before = client.get_run(run_id).data.metrics  # of a run that was interrupted
        for part, energy in parts.items():
            name = f"system/codecarbon_{part}_kwh"
            client.log_metric(run_id, name, before.get(name, 0.0) + energy)
    except Exception as error:
        _logger.warning("run %s has no energy by codecarbon: %s", run_id, reason(error))
