"""What ``inversion optimize`` does once its options are known to be well formed."""

from __future__ import annotations

from inversion.cli.showing import encoder_rows, engine_row, say_where, show_rows, show_scores
from inversion.config.optimize_config import OptimizeConfig
from inversion.console import Console, make_console, progress_bars
from inversion.runs.optimize import PreparedOptimization, prepare_optimization
from inversion.runs.optimize import optimize as optimize_prepared
from inversion.runs.train import RunResult
from inversion.tracking.connection import Connection, connect
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.tracking.retry import patient
from inversion.tracking.study import StudyRun, require_study
from inversion.training.stop import interruptible


def optimize(config: OptimizeConfig, tracking_uri: str | None, experiment: str | None, study: str | None) -> None:
    """Prepares a checked request, shows what was resolved, inverts every test image and shows the scores.

    Raises:
        InversionError: the request was wrong, or the run failed.
    """
    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment)
        parent = StudyRun(require_study(connection, study).info.run_id, study) if study else None
        with progress_bars() as report:
            request = prepare_optimization(config, interruptible(report, stop))
        show_request(console, request)
        with progress_bars() as report:
            result = optimize_prepared(request, patient(connection, stop), stop, report, parent)
    show_result(console, request, result, connection)


def show_request(console: Console, request: PreparedOptimization) -> None:
    """What will be done, after every ``auto`` was resolved."""
    plan, settings = request.prepared.plan, request.settings
    config, count = plan.config, len(request.prepared.photos.names("test"))
    show_rows(console, request.name, {
        **encoder_rows(plan),
        "method": "each image by itself, without training: one lower bound on what the features allow",
        "data": f"{plan.photos.name}: {count} test ({plan.photos.root})",
        "objective": f"relative feature error + {settings.tv_weight:g}·total variation, decaying to 0",
        "protocol": config.protocol,
        "descent": f"{settings.steps} steps of Adam, lr {settings.lr:g} decaying to 0, seed {config.seed}, "
                   f"{config.batch_size} images at a time",
        **engine_row(plan),
    }, plan)


def show_result(console: Console, request: PreparedOptimization, result: RunResult, connection: Connection) -> None:
    """Scores, what they mean, where the pictures are, and once more what was fallen back on."""
    plan = request.prepared.plan
    show_scores(console, request.name, plan, result,
                f"{result.metrics['inference_ms_per_image'] / 1000:.1f} s an image")
    console.print("one lower bound on what the features allow: another search may find an image that is nearer",
                  soft_wrap=True)
    say_where(console, plan, result, connection)
