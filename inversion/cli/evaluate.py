"""``inversion evaluate``: scores a finished run again, and compares with the logged scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from inversion.cli.imports import slow_imports
from inversion.cli.lookup import look_up_runs, look_up_studies
from inversion.cli.options import (
    ParameterType,
    best_of_option,
    blank_is_default,
    metric_option,
    no_blank,
    tracking_options,
    trust_code_option,
)
from inversion.config.run_config import parse_value
from inversion.console import Console, make_console, make_table, progress_bars
from inversion.data.datasets import data_folder, require_data
from inversion.losses.lpips_weights import require_trunk_file
from inversion.losses.outside import NONE, pinned_metrics
from inversion.losses.vgg_weights import require_vgg
from inversion.metrics import METRICS

if TYPE_CHECKING:
    from inversion.runs.evaluate import Evaluation
    from inversion.runs.evaluate_study import Scored
    from inversion.runs.load import TrainedRun


@click.command("evaluate")
@click.argument("run", metavar="RUN", required=False, callback=no_blank)
@best_of_option
@click.option("--study", metavar="NAME", callback=no_blank, help="Instead of RUN: all finished runs of this study, "
              "except those that have these scores already.")
@click.option("--data", metavar="FOLDER|NAME", callback=blank_is_default,
              help="Other images: a folder, shards, hf:NAME, sample or div2k [default: the run's]")
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), default="test", show_default=True,
              help="The split to score; a folder is split as in training. all: every image of --data.")
@click.option("--test-limit", type=ParameterType("test_limit"), metavar="N", help="Only the first N images; 0: all "
              "[default: as in the run, all of another data set]")
@click.option("--lpips-weights", metavar="FILE", callback=blank_is_default,
              help="AlexNet trunk of LPIPS: imagenet, a file, or off [default: the run's]")
@click.option("--vgg-weights", metavar="FILE", callback=blank_is_default,
              help="VGG16 of LPIPS-VGG and DISTS: auto, imagenet, a file, or off [default: the run's]")
@metric_option("Further scores of your own, as FILE.py:NAME [default: the run's]; may be repeated.")
@click.option("--device", metavar="DEVICE", callback=blank_is_default,
              help="cpu, cuda or cuda:N [default: the run's, if available]")
@click.option("--data-dir", metavar="FOLDER", callback=blank_is_default,
              help="Where downloads and caches are kept [default: as in the run]")
@trust_code_option
@tracking_options
def command(run: str | None, best_of: str | None, study: str | None, data: str | None, split: str,
            test_limit: int | None, lpips_weights: str | None, vgg_weights: str | None, metrics: str | None,
            device: str | None, data_dir: str | None, trust_code: bool, tracking_uri: str | None,
            experiment: str | None) -> int:
    """Score a finished run again, on its own test images or on others, and log the evaluation as a child run.

    RUN is a run's id, the beginning of one, a run's name, or STUDY/NAME. On its own images, on the same kind of machine
    and with the same number of threads, the scores are bit-identical to the logged ones. The evaluation is logged to
    the run's experiment, unless another one is given. With --study, a run that fails does not stop the others; the
    report of the study then has a table of each set of images.

    \b
    Examples:
      inversion evaluate 4fbe0d1c
      inversion evaluate 4fbe0d1c --data ./holiday --lpips-weights alexnet-owt-7be5be79.pth
      inversion evaluate smoke/vgg16:block1+wavelet --data sample --device cpu
      inversion evaluate --best-of smoke --split val
      inversion evaluate --study smoke --data ./holiday --split all
      inversion evaluate 4fbe0d1c --metric my_metric.py:sharpness
    """
    if sum(each is not None for each in (run, best_of, study)) != 1:
        raise click.UsageError("give one of a RUN, --best-of and --study" if run or (best_of and study) else
                               "Missing argument 'RUN'. Give one, or --best-of STUDY, or --study NAME.")
    if split == "all" and not data:
        raise click.UsageError("--split all is for other images: give --data too")
    device = parse_value("device", device) if device else None
    if data:
        require_data(data, data_folder(data_dir or "auto"))
    if lpips_weights:
        require_trunk_file(lpips_weights)
    if vgg_weights:
        require_vgg(vgg_weights)
    given = pinned_metrics(metrics or NONE)
    if study:
        return _evaluate_study(study, tracking_uri, experiment, {
            "data": data, "split": split, "test_limit": test_limit, "lpips_weights": lpips_weights,
            "vgg_weights": vgg_weights, "metrics": given, "device": device, "data_dir": data_dir,
            "trust_code": trust_code})
    if run:
        look_up_runs([run], tracking_uri)
    with slow_imports():
        from inversion.report.best_run import find_best
        from inversion.runs.evaluate import evaluate_run, find_metrics, find_target
        from inversion.runs.load import find_lpips, find_trained, load_reconstructor
        from inversion.tracking.connection import connect
        from inversion.tracking.mlflow_run import stop_with_mlflow_run
        from inversion.tracking.retry import with_retries
        from inversion.training.stop import interruptible

    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment if best_of else None, create=False)
        trained = find_trained(connection, run or find_best(connection, str(best_of)), device)
        own = find_metrics(trained, given, trust_code)
        with progress_bars() as report:
            target = find_target(trained, data, split, test_limit, data_dir, interruptible(report, stop))
        lpips, note = find_lpips(trained, lpips_weights)
        reconstructor = load_reconstructor(trained, trust_code)
        connection = with_retries(connect(tracking_uri, experiment) if experiment else connection, stop)
        log_to = connection.experiment_id if experiment else trained.experiment_id
        evaluation = evaluate_run(connection, log_to, trained, lambda: reconstructor, target, lpips, stop,
                                  vgg_weights, own)
    _show(console, trained, evaluation)
    notes = ["; ".join(evaluation.absent), note, _other_device_note(trained)]
    for line in (*target.scored.photos.lines(), *filter(None, notes)):
        console.note(line)
    console.print(f"logged as run {evaluation.run_id}, below run {trained.run_id}", soft_wrap=True)
    return 0


def _evaluate_study(study: str, tracking_uri: str | None, experiment: str | None, asked: Mapping[str, Any]) -> int:
    """Scores the finished runs of a study, and prints a line for each; 1 if some could not be scored."""
    look_up_studies([study], tracking_uri, experiment)
    with slow_imports():
        from inversion.runs.evaluate_study import Asked, evaluate_study
        from inversion.tracking.connection import connect
        from inversion.tracking.mlflow_run import stop_with_mlflow_run
        from inversion.tracking.retry import with_retries
        from inversion.tracking.study import in_experiment_of
        from inversion.training.stop import interruptible

    console = make_console()
    done: list[Scored] = []
    with stop_with_mlflow_run() as stop:
        connection = in_experiment_of(connect(tracking_uri, experiment, create=False), study)
        with progress_bars() as report:
            for each in evaluate_study(with_retries(connection, stop), study, Asked(**asked), stop,
                                       interruptible(report, stop)):
                done.append(each)
                console.print(_line(each), soft_wrap=True)
    for line in dict.fromkeys(line for each in done if each.target for line in each.target.scored.photos.lines()):
        console.note(line)
    failed = sum(bool(each.failure) for each in done)
    new = sum(each.is_new for each in done) - failed
    if any(len(each.target.scored.names) < sum(map(len, each.target.scored.photos.splits.values()))
           for each in done if each.target):
        console.note(f"only the split {asked['split']} of the images is scored; --split all scores every one")
    sets = ", ".join(dict.fromkeys(f"{each.target.name}, {len(each.target.scored.names)} images"
                                   for each in done if each.target))
    console.print(f"study {study}{f' on {sets}' if sets else ''}: {new} scored, {len(done) - new - failed} had been "
                  f"scored before, {failed} failed. inversion-report {study} has a table of each set of images.",
                  soft_wrap=True)
    return 1 if failed else 0


def _line(scored: Scored) -> str:
    """``[3/44] vgg16:block1+wavelet: PSNR (dB) 23.41, SSIM 0.712 (run 4fbe0d1c)``."""
    from inversion.tracking.search import ID_DIGITS

    head = f"[{scored.number}/{scored.total}] {scored.name}: "
    if scored.failure:
        return f"{head}failed: {scored.failure}"
    values = ", ".join(f"{(about := METRICS[name]).label} {value:.{about.digits}f}"
                       for name, value in scored.scores.items())
    before = "" if scored.is_new else ", scored before"
    return f"{head}{values} (run {(scored.run_id or '')[:ID_DIGITS]}{before})"


def _show(console: Console, run: TrainedRun, evaluation: Evaluation) -> None:
    """Prints the scores of this evaluation beside the logged ones, of the same images if possible."""
    from inversion.metrics import count_exact, exact_note

    target, scores = evaluation.target, evaluation.scores
    images = f"{len(scores.psnr)} images"
    logged_on = images if evaluation.logged else f"its test images, {run.document['data']['name']}"
    table = make_table("score", f"now: {target.name}, {images}", f"logged: {logged_on}", "difference", title=run.name)
    for name, label in _labels(evaluation).items():
        now = (scores.mean(name), scores.std(name)) if scores.of(name) else None
        before = _logged(run, evaluation, name)
        if now or before:
            table.add_row(label, _mean_and_std(now), _mean_and_std(before),
                          f"{now[0] - before[0]:+.6f}" if now and before else "")
    console.print(table)
    if exact := exact_note(count_exact(scores.psnr)):
        console.print(exact)
    if evaluation.logged:
        console.print(_comparison(evaluation))


def _labels(evaluation: Evaluation) -> dict[str, str]:
    """How people see each metric, by its name; those of the user's own come last."""
    return {name: metric.label for name, metric in METRICS.items()} | {name: name for name in evaluation.scores.own}


def _logged(run: TrainedRun, evaluation: Evaluation, name: str) -> tuple[float, float] | None:
    """The logged mean and standard deviation; of the evaluated images only, if they are among the run's."""
    import numpy as np

    from inversion.metrics import counted, is_a_mean

    if values := evaluation.before(name):
        numbers = counted(values) if name == "psnr" else np.asarray(values)
        return float(numbers.mean()), float(numbers.std())
    metric = f"test/{name}"
    if metric not in run.metrics or not is_a_mean(run.metrics[metric]):
        return None
    return run.metrics[metric], run.metrics[f"{metric}_std"]


def _comparison(evaluation: Evaluation) -> str:
    """Whether every image scores exactly as logged, else the largest differences."""
    differences = {label: found for name, label in _labels(evaluation).items()
                   if (found := evaluation.differences(name))}
    images = len(evaluation.scores.psnr)
    other = sum(any(values) for values in zip(*differences.values(), strict=True))
    if not other:
        return f"all {images} images score exactly as logged ({', '.join(differences)})"
    most = ", ".join(f"{label} by at most {max(map(abs, found)):.2g}" for label, found in differences.items())
    return f"{other} of {images} images do not score exactly as logged: {most}"


def _other_device_note(run: TrainedRun) -> str:
    before = run.document["parameters"]["device"]
    return "" if before == run.config.device else (
        f"run {run.name} was scored on {before}, this is {run.config.device}: the last digits differ")


def _mean_and_std(values: tuple[float, float] | None) -> str:
    return f"{values[0]:.4f} ± {values[1]:.4f}" if values else "none"
