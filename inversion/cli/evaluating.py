"""What ``inversion evaluate`` does once its options are known to be well formed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inversion.console import Console, make_console, make_table, progress_bars
from inversion.metrics import count_exact, counted, exact_note, is_a_mean
from inversion.runs.evaluate import SCORES, Evaluation, evaluate_run, find_target
from inversion.runs.load import TrainedRun, find_lpips, find_trained, load_reconstructor
from inversion.tracking.connection import connect
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.tracking.retry import patient
from inversion.training.stop import interruptible

LABELS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}


class Options(NamedTuple):
    """The options of the command, as given and well formed."""

    data: str | None
    split: str
    limit: int | None
    lpips_weights: str | None
    device: str | None
    data_dir: str | None


def evaluate(text: str, options: Options, tracking_uri: str | None, experiment: str | None) -> None:
    """Finds the run and the photographs, scores them, and shows the scores beside the logged ones.

    Raises:
        InversionError: the request was wrong, or scoring failed.
    """
    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, create=False)
        run = find_trained(connection, text, options.device)
        with progress_bars() as report:
            target = find_target(run, options.data, options.split, options.limit, options.data_dir,
                                 interruptible(report, stop))
        lpips, note = find_lpips(run, options.lpips_weights)
        reconstructor = load_reconstructor(run)
        connection = patient(connect(tracking_uri, experiment) if experiment else connection, stop)
        where = connection.experiment_id if experiment else run.experiment_id
        evaluation = evaluate_run(connection, where, run, reconstructor, target, lpips, stop)
    show(console, run, evaluation)
    for line in (*target.scored.photos.lines(), *filter(None, [note, _elsewhere(run)])):
        console.note(line)
    console.print(f"logged as run {evaluation.run_id}, below run {run.run_id}", soft_wrap=True)


def show(console: Console, run: TrainedRun, evaluation: Evaluation) -> None:
    """The scores of this evaluation beside the logged ones: those of the same images where there are any."""
    target, scores = evaluation.target, evaluation.scores
    images = f"{len(scores.psnr)} images"
    logged_on = images if evaluation.logged else f"its test images, {run.document['data']['name']}"
    table = make_table("score", f"now: {target.name}, {images}", f"logged: {logged_on}", "difference", title=run.name)
    for name in SCORES:
        now = (scores.mean(name), scores.std(name)) if getattr(scores, name) else None
        before = _logged(run, evaluation, name)
        if now or before:
            table.add_row(LABELS[name], _shown(now), _shown(before),
                          f"{now[0] - before[0]:+.6f}" if now and before else "")
    console.print(table)
    if exact := exact_note(count_exact(scores.psnr)):
        console.print(exact)
    if evaluation.logged:
        console.print(_verdict(evaluation))


def _logged(run: TrainedRun, evaluation: Evaluation, name: str) -> tuple[float, float] | None:
    """Mean and standard deviation that were logged; of these images alone, if they are some of the run's."""
    if values := evaluation.before(name):
        numbers = counted(values) if name == "psnr" else np.asarray(values)
        return float(numbers.mean()), float(numbers.std())
    metric = f"test/{name}"
    if metric not in run.metrics or not is_a_mean(run.metrics[metric]):
        return None
    return run.metrics[metric], run.metrics[f"{metric}_std"]


def _verdict(evaluation: Evaluation) -> str:
    """Whether every image scores as it was logged, and by how much at most it does not."""
    differences = {name: found for name in SCORES if (found := evaluation.differences(name))}
    images = len(evaluation.scores.psnr)
    other = sum(any(values) for values in zip(*differences.values(), strict=True))
    if not other:
        return f"all {images} images score exactly as logged ({', '.join(LABELS[name] for name in differences)})"
    most = ", ".join(f"{LABELS[name]} by at most {max(map(abs, found)):.2g}" for name, found in differences.items())
    return f"{other} of {images} images do not score exactly as logged: {most}"


def _elsewhere(run: TrainedRun) -> str:
    before = run.document["parameters"]["device"]
    return "" if before == run.config.device else (
        f"run {run.name} was scored on {before}, this is {run.config.device}: the last digits differ")


def _shown(values: tuple[float, float] | None) -> str:
    return f"{values[0]:.4f} ± {values[1]:.4f}" if values else "none"
