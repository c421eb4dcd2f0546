"""``--system-metrics``: MLflow's own metrics of the machine, beside those of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import codecarbon
import pytest
from mlflow.entities import Run
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


def test_system_metrics_are_logged_on_request(
    train: Callable[..., Any], all_runs: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
    assert train("--system-metrics").code == 0
    run, = all_runs()
    assert "system/cpu_utilization_percentage" in run.data.metrics
    energy = {part: run.data.metrics[f"system/codecarbon_{part}energy_kwh"] for part in ("", "cpu_", "gpu_", "ram_")}
    assert energy[""] == pytest.approx(energy["cpu_"] + energy["gpu_"] + energy["ram_"])
    assert energy[""] > 0
    assert run.info.status == "FINISHED"
    assert train().code == 0
    later = next(other for other in all_runs() if other.info.run_id != run.info.run_id)
    assert {name for name in run.data.metrics if not name.startswith("system/")} == set(later.data.metrics)


def test_a_run_goes_on_where_they_cannot_be_had(
    train: Callable[..., Any], all_runs: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no /proc here")

    monkeypatch.setattr(SystemMetricsMonitor, "__init__", refuse)
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", refuse)
    assert train("--system-metrics").code == 0
    run, = all_runs()
    assert f"run {run.info.run_id} has no system metrics: no /proc here" in caplog.messages
    assert f"run {run.info.run_id} has no energy by codecarbon: no /proc here" in caplog.messages
