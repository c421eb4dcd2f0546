"""The output of ``train`` and ``optimize``: the resolved request, a progress bar, the scores, where results are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_PROJECT_ENTRY_POINT

from inversion.config.resolve import Plan
from inversion.console import Console, make_table, styled
from inversion.losses.outside import logged_name, metric_names
from inversion.metrics import METRICS, exact_note
from inversion.runs.train import RunResult
from inversion.tracking.connection import Connection
from inversion.tracking.ui import page_lines

if TYPE_CHECKING:
    pass

DEFAULT_ID = "0"
"""The id of the experiment Default, in which ``mlflow run`` creates its runs unless it is given another."""

_logger = logging.getLogger(__name__)


def show_request(console: Console, title: str, plan: Plan, rows: Mapping[str, str]) -> None:
    """Prints a resolved request as a table, then notes on its data and its fallbacks.

    ``rows`` are those of the command, beside those of every command: encoder, weights and device.
    """
    config = plan.config
    weights = ", ".join(f"{name}: {source.described()}" for name, source in plan.weights.items())
    everything = {"encoder": ", ".join(f"{cut} ({cut.shape(config.image_size)})" for cut in plan.cuts),
                  "weights": weights, **rows,
                  "device": f"{config.device}, {config.precision}, {config.threads} threads"}
    table = make_table("", "", title=title, show_header=False)
    for name, value in everything.items():
        table.add_row(name, value)
    console.print(table)
    for line in plan.photos.lines():
        console.note(line)
    for fallback in plan.fallbacks:
        console.note(f"{fallback.short} ({fallback.remedy})")


def show_scores(console: Console, name: str, plan: Plan, result: RunResult, remark: str) -> None:
    """Prints the test scores in one line, and which are absent and why in another."""
    labels = {key: metric.label.removesuffix(" (dB)") for key, metric in METRICS.items()}
    labels |= {name: name for name in map(logged_name, metric_names(plan.config.metrics))}
    scores = [f"{label} {result.metrics[f'test/{key}']:.3f} ± {result.metrics[f'test/{key}_std']:.3f}"
              for key, label in labels.items() if f"test/{key}" in result.metrics]
    exact = exact_note(round(result.metrics.get("test/exact_images", 0)))
    console.print(styled(name, "bold"), f": {', '.join(scores)} on {plan.photos.name}'s test images "
                  f"({'; '.join(filter(None, [exact, remark]))})", sep="", soft_wrap=True)
    if result.absent:
        console.note("; ".join(result.absent))


def show_locations(console: Console, plan: Plan, result: RunResult, connection: Connection) -> None:
    """Prints where the reconstructions are, the pages of the run and its study in MLflow, and the fallbacks again."""
    console.print(f"reconstructions: {_reconstructions_of(result)}", soft_wrap=True)
    run = connection.client.get_run(result.run_id)
    study = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    pages = {"view the run": result.run_id} | ({"view the study": study} if study else {})
    for line in page_lines(connection, pages):
        console.print(line, soft_wrap=True)
    if run.info.experiment_id == DEFAULT_ID and MLFLOW_PROJECT_ENTRY_POINT in run.data.tags:
        console.note("the run is in the experiment Default; with `mlflow run --experiment-name inversion` it is beside "
                     "those of inversion train and inversion-sweep")
    if plan.fallbacks:
        remedies = "; ".join(fallback.remedy for fallback in plan.fallbacks)
        console.print(f"{', '.join(fallback.short for fallback in plan.fallbacks)}: not comparable with DIV2K and "
                      f"ImageNet; {remedies}", soft_wrap=True)


def _reconstructions_of(result: RunResult) -> str:
    """The folder of a run's reconstructions, or the command that downloads them."""
    folder = result.artifact_uri.removeprefix("file://")
    if folder.startswith("/"):
        return f"{folder}/reconstructions"
    return f"mlflow artifacts download --run-id {result.run_id} --artifact-path reconstructions"
