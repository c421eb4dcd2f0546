"""What commands show of a request before they work on it, and of a run after it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from inversion.config.resolve import Plan
from inversion.console import Console, make_table, styled
from inversion.metrics import exact_note
from inversion.runs.train import RunResult
from inversion.tracking.connection import Connection, without_password

SHOWN_SCORES = {"test/psnr": "PSNR", "test/ssim": "SSIM", "test/lpips": "LPIPS"}


def show_rows(console: Console, title: str, rows: Mapping[str, str], plan: Plan) -> None:
    """A request as a table, and below it what is to be said of its photographs and of what it does without."""
    table = make_table("", "", title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for line in plan.photos.lines():
        console.note(line)
    for fallback in plan.fallbacks:
        console.note(f"{fallback.short} ({fallback.remedy})")


def encoder_rows(plan: Plan) -> dict[str, str]:
    """The rows that say which encoders a request cuts, and with which weights."""
    return {"encoder": ", ".join(f"{cut} ({cut.shape(plan.config.image_size)})" for cut in plan.cuts),
            "weights": ", ".join(f"{name}: {source}" for name, source in plan.weights.items())}


def engine_row(plan: Plan) -> dict[str, str]:
    """The row that says where and how a request computes."""
    return {"device": f"{plan.config.device}, {plan.config.precision}, {plan.config.threads} threads"}


def show_scores(console: Console, name: str, plan: Plan, result: RunResult, remark: str) -> None:
    """The test scores in a line."""
    scores = [f"{label} {result.metrics[metric]:.3f} ± {result.metrics[f'{metric}_std']:.3f}"
              for metric, label in SHOWN_SCORES.items() if metric in result.metrics]
    exact = exact_note(round(result.metrics.get("test/exact_images", 0)))
    console.print(styled(name, "bold"), f": {', '.join(scores)} on {plan.photos.name}'s test images "
                  f"({'; '.join(filter(None, [exact, remark]))})", sep="", soft_wrap=True)


def say_where(console: Console, plan: Plan, result: RunResult, connection: Connection) -> None:
    """Where the pictures are, how to look at the run, and once more what was fallen back on."""
    console.print(f"reconstructions: {_place_of_pictures(result)}", soft_wrap=True)
    console.print(f"look at the run: {_address_of_run(connection, result.run_id)}", soft_wrap=True)
    if plan.fallbacks:
        remedies = "; ".join(fallback.remedy for fallback in plan.fallbacks)
        console.print(f"{', '.join(fallback.short for fallback in plan.fallbacks)}: not comparable with DIV2K and "
                      f"ImageNet; {remedies}", soft_wrap=True)


def _place_of_pictures(result: RunResult) -> str:
    """The folder of a run's reconstructions, or the command that fetches them."""
    folder = result.artifact_uri.removeprefix("file://")
    if folder.startswith("/"):
        return f"{folder}/reconstructions"
    return f"mlflow artifacts download --run-id {result.run_id} --artifact-path reconstructions"


def _address_of_run(connection: Connection, run_id: str) -> str:
    """A run's page on the tracking server, or the command that opens MLflow's UI."""
    uri = without_password(connection.uri)
    if uri.startswith("http"):
        experiment_id = connection.client.get_run(run_id).info.experiment_id
        return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    # with its folder: after `make quickstart` the environment is not activated, and the command is to be pasted
    beside_python = Path(sys.executable).with_name("mlflow")
    mlflow = str(beside_python) if beside_python.exists() else "mlflow"
    return f"{shlex.join([mlflow, 'ui', '--backend-store-uri', uri])}  (run {run_id})"
