"""What ``inversion evaluate`` does once its options are known to be well formed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from inversion.cli.console import make_console
from inversion.config import parse_value
from inversion.data.progress import progress_bars
from inversion.evaluation import SCORES, Evaluation, evaluate_run, find_target
from inversion.tracking.connection import connect
from inversion.tracking.patience import patient
from inversion.trained import TrainedRun, find_lpips, find_trained, load_reconstructor
from inversion.training.interrupt import interruptible, stop_on_signals

LABELS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}


class Options(NamedTuple):
    """The options of the command, as given."""

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
    device = parse_value("device", options.device) if options.device else None
    with stop_on_signals() as stop:
        connection = connect(tracking_uri, create=False)
        run = find_trained(connection, text, device)
        with progress_bars() as report:
            target = find_target(run, options.data, options.split, options.limit, options.data_dir,
                                 interruptible(report, stop))
        lpips, note = find_lpips(run, options.lpips_weights)
        reconstructor = load_reconstructor(run)
        connection = patient(connect(tracking_uri, experiment) if experiment else connection, stop)
        where = connection.experiment_id if experiment else run.experiment_id
        evaluation = evaluate_run(connection, where, run, reconstructor, target, lpips, stop)
    show(console, run, evaluation)
    for line in (*target.scored.photos.warnings, *filter(None, [target.scored.photos.note, note, _elsewhere(run)])):
        console.print(f"[yellow]note:[/] {line}", soft_wrap=True)
    console.print(f"logged as run {evaluation.run_id}, below run {run.run_id}", soft_wrap=True)


def show(console: Console, run: TrainedRun, evaluation: Evaluation) -> None:
    """The scores of this evaluation beside the logged ones: those of the same images where there are any."""
    target, scores = evaluation.target, evaluation.scores
    images = f"{len(scores.psnr)} images"
    logged_on = images if evaluation.logged else f"its test images, {run.document['data']['name']}"
    table = Table("score", f"now: {target.name}, {images}", f"logged: {logged_on}", "difference",
                  title=run.name, title_justify="left")
    for name in SCORES:
        now = getattr(scores, name)
        before = _logged(run, evaluation, name)
        if now or before:
            difference = f"{np.mean(now) - before[0]:+.6f}" if now and before else ""
            table.add_row(LABELS[name], _shown((float(np.mean(now)), float(np.std(now))) if now else None),
                          _shown(before), difference)
    console.print(table)
    if evaluation.logged:
        console.print(_verdict(evaluation))


def _logged(run: TrainedRun, evaluation: Evaluation, name: str) -> tuple[float, float] | None:
    """Mean and standard deviation that were logged; of these images alone, if they are some of the run's."""
    values = [row[name] for row in evaluation.logged]
    if values and None not in values:
        return float(np.mean(values)), float(np.std(values))
    metric = f"test/{name}"
    return (run.metrics[metric], run.metrics[f"{metric}_std"]) if metric in run.metrics else None


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
