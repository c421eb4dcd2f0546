"""A saved view of MLflow's run table for each study: its runs, the columns that compare them, and charts.

MLflow's UI keeps saved views in tags of the experiment: JSON with a name, a time and the state of the page, which is
itself JSON in a text. This is the format of MLflow 3.17; a version that does not know it leaves the view out.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from mlflow.tracking import MlflowClient

from inversion.metrics import BASIC
from inversion.tracking.pages import VIEW
from inversion.tracking.search import KIND, tagged

COLUMNS = {
    "params.`network`": 85, "params.`network_layer`": 105, "params.`decoder`": 120,
    "metrics.`test/psnr`": 75, "metrics.`test/ssim`": 75, "metrics.`test/lpips`": 75, "metrics.`best/val_psnr`": 95,
    "params.`modifiers`": 80, "params.`fusion`": 80, "params.`seed`": 55,
    "metrics.`decoder_parameters`": 125, "metrics.`train_seconds`": 95,
}
"""The columns in their order, with their widths in pixels."""

COMPARED = tuple(f"test/{name}" for name in BASIC)
CHARTED_RUNS = 100


def view_of(study: str) -> str:
    """The id of a study's view, for ``page_link``."""
    return f"study-{hashlib.sha256(study.encode()).hexdigest()[:12]}"


def save_view(client: MlflowClient, experiment_id: str, tags: str, study: str) -> None:
    """Saves the view of a study, unless the experiment has it already: users may have edited it.

    ``tags`` is the tag that names the study of a run.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
    """
    key = f"{VIEW}{view_of(study)}"
    if key in client.get_experiment(experiment_id).tags:
        return
    state = json.dumps(_state(f"{tagged(tags, study)} and {tagged(KIND, 'run')}"), separators=(",", ":"))
    view = {"name": f"Study {study}", "createdAt": int(time.time() * 1000), "state": state}
    client.set_experiment_tag(experiment_id, key, json.dumps(view))


def _state(condition: str) -> dict[str, Any]:
    columns = list(COLUMNS)
    charts, sections = _charts()
    return {
        "searchFilter": condition, "orderByKey": "metrics.`test/psnr`", "orderByAsc": False, "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": columns, "columnOrder": columns, "columnWidths": COLUMNS, "runsExpanded": {},
        "runsPinned": [], "runsHidden": [], "runsVisibilityMap": {}, "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False, "runListHidden": False, "groupBy": None, "groupsExpanded": {},
        "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "autoRefreshEnabled": True,
        "isAccordionReordered": True, "compareRunCharts": charts, "compareRunSections": sections,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _charts() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The charts and their sections."""
    line = {"type": "LINE", "lineSmoothness": 0, "xAxisKey": "step", "scaleType": "linear", "xAxisScaleType": "linear",
            "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    titled: Sequence[tuple[str, int, list[dict[str, Any]]]] = (
        ("Networks, layers and decoders", 1, [
            {"type": "PARALLEL", "selectedParams": ["network", "network_layer", "decoder"],
             "selectedMetrics": ["test/psnr"], "showAllRuns": False}]),
        ("Scores", 2, [
            *({"type": "BAR", "metricKey": name} for name in COMPARED),
            {"type": "SCATTER", "xaxis": _axis("decoder_parameters"), "yaxis": _axis("test/psnr")}]),
        ("Training", 2, [
            line | {"metricKey": name, "selectedMetricKeys": [name]} for name in ("val/psnr", "val/loss")]),
    )
    charts, sections = [], []
    for number, (title, columns, cards) in enumerate(titled):
        section = f"inversion-{number}"
        sections.append({"uuid": section, "name": title, "display": True, "isReordered": True, "deleted": False,
                         "isGenerated": False, "columns": columns})
        charts += [{"uuid": f"{section}-{place}", "metricSectionId": section, "runsCountToCompare": CHARTED_RUNS,
                    "deleted": False, "isGenerated": False, **card} for place, card in enumerate(cards)]
    return charts, sections


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
