"""The methods section of a paper, from what the ranked runs say of themselves. What no run says is left out.

A citation is ``[@key]``, as pandoc reads it; ``render.citations.ENTRIES`` has the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from inversion.data.datasets import DESCRIPTIONS
from inversion.losses.outside import NONE, logged_name
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.catalog import ENCODERS
from inversion.report.data.board import Board, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.data.searching import Search
from inversion.report.data.study import ReportRun, StoppedEarly, StudyData
from inversion.report.render.report import Paragraph
from inversion.report.stats.seed_noise import describe_noise
from inversion.report.tables.overview import versions_of

KNOWN_RECIPES = frozenset({1, 2})
"""Versions of the training recipe for which the sentences on what no parameter says (Adam, crops) are true."""

LISTED = 8
"""Values that a sentence lists; of more, it says the smallest and the largest."""

SCORES = {"ssim": " [@wang2004ssim]", "lpips": " with AlexNet [@zhang2018lpips]", "ms_ssim": " [@wang2003msssim]",
          "lpips_vgg": " [@zhang2018lpips]", "dists": " [@ding2022dists]"}
PACKAGES = {"python": "Python {}", "torch": "PyTorch {} [@paszke2019pytorch]", "timm": "timm {} [@wightman2019timm]"}


def methods(data: StudyData, boards: Sequence[Board], search: Search | None = None) -> list[Paragraph]:
    """The paragraphs of the methods section, on the runs of the first board; none without a board."""
    if not boards:
        return []
    board, *others = boards
    runs = [run for item in board.configurations for run in item.runs.values()]
    parts: list[tuple[str, Callable[[], Iterable[str]]]] = [
        ("Data", lambda: _data(board, runs)), ("Encoders", lambda: _encoders(runs)),
        ("Decoders", lambda: _decoders(board.configurations, runs)), ("Training", lambda: _training(board, runs)),
        ("Selection", lambda: _selection(board, search, data.stopped_early)),
        ("Evaluation", lambda: _evaluation(board, runs)),
        ("Statistics", lambda: _statistics(board)), ("Software and hardware", lambda: _software(data, runs)),
        ("Scope", lambda: _scope(others))]
    paragraphs = [Paragraph(title, " ".join(filter(None, write()))) for title, write in parts]
    return [paragraph for paragraph in paragraphs if paragraph.text]


def _data(board: Board, runs: Sequence[ReportRun]) -> Iterable[str]:
    document = runs[0].document["data"]
    name, split = DESCRIPTIONS.get(document["name"], (f"the data set {document['name']}", ""))
    counts = [f"{count:,} {title}" for split, title in (("train", "training"), ("val", "validation"), ("test", "test"))
              if (count := document.get("images", {}).get(split))]
    yield f"The images are those of {name}" + (f" ({_and(counts)} images)." if counts else ".")
    yield split
    yield f"SHA-256 of the images and their split: {document['digest'][:12]}."
    size = _values(runs, "image_size")
    if _is_known(runs):
        crops = [f"{crop.partition(':')[2]} fixed crops of each image, with flips" if crop.startswith("fixed:") else
                 "random crops and horizontal flips" for crop in map(str, _distinct(runs, "crops"))]
        yield (f"The shorter side of each image was resized to 256/224 of the side of the crops, {size} pixels; "
               f"training used {_and(crops)}, validation and test the crop at the centre.")
    else:
        yield f"The crops have {size} pixels a side."


def _encoders(runs: Sequence[ReportRun]) -> Iterable[str]:
    cuts = sorted({cut for run in runs for cut in str(run.parameters["encoder"]).split("+")})
    yield "The encoders were frozen."
    for name, members in group_by(cuts, lambda cut: _encoder_of(cut)).items():
        identities = sorted({run.document["identity"]["weights"][name] for run in runs
                             if name in run.document["identity"]["weights"]})
        layers = _and([cut.removeprefix(f"{name}:") for cut in members])
        weights = _and([_weights(name, identity) for identity in identities])
        yield f"{name}{_cited(name)}, at {layers}" + (f": {weights}." if weights else ".")


def _encoder_of(cut: str) -> str:
    """``timm/resnet18.a1_in1k`` of ``timm/resnet18.a1_in1k:layer1/bits=4``."""
    return split_request(cut).encoder


def _cited(encoder: str) -> str:
    """The publications of an encoder, as a citation."""
    keys = ENCODERS[encoder].citations if encoder in ENCODERS else ()
    return f" [{'; '.join(f'@{key}' for key in keys)}]" if keys else ""


def _weights(encoder: str, identity: str) -> str:
    """What the weights are, from their identity in the run's document."""
    kind, _, rest = identity.partition(":")
    if kind == "random":
        return f"random weights (seed {rest.partition(':')[0]})"
    if kind == "sha256":
        return f"weights of a file (SHA-256 {rest[:12]})"
    if kind == "own":
        return f"its own weights (SHA-256 {rest[:12]})"
    source = f" of {ENCODERS[encoder].source}" if encoder in ENCODERS else ""
    return f"the pretrained weights {identity}{source}"


def _decoders(items: Sequence[Configuration], runs: Sequence[ReportRun]) -> Iterable[str]:
    for decoder, members in group_by(items, lambda item: item.decoder).items():
        options = sorted({str(item.parameters["decoder_options"]) for item in members} - {"auto"})
        sizes = sorted({size for item in members if (size := item.cost("decoder_parameters"))})
        text = decoder + (f" ({_and(options)})" if options else "")
        with_fusion = ", with those of the fusion" if any(item.is_ensemble for item in members) else ""
        yield text + (f": {_span(sizes, ',.0f')} trained parameters{with_fusion}." if sizes else ".")
    if fusions := [str(value) for value in _distinct(runs, "fusion") if value != "none"]:
        yield f"Several encoders were fused by {_and(fusions)}."


def _training(board: Board, runs: Sequence[ReportRun]) -> Iterable[str]:
    yield _loss(runs)
    tuned = sorted({name for item in board.configurations if item.choice for name in item.choice.names})
    adam = "Adam [@kingma2015adam] with " if _is_known(runs) else ""
    rate = f"a learning rate of {_values(runs, 'lr')}" + (", chosen for each configuration" if "lr" in tuned else "")
    yield f"Optimiser: {adam}{rate} and batches of {_values(runs, 'batch_size')} images."
    schedules = _distinct(runs, "schedule")
    if "plateau" in schedules:
        yield (f"The rate was multiplied by {_values(runs, 'lr_factor')} after {_values(runs, 'lr_patience')} epochs "
               f"without a lower validation loss, down to {_values(runs, 'min_lr')}"
               + (" (schedule plateau)." if len(schedules) > 1 else "."))
    if "cosine" in schedules:
        yield (f"The rate fell to {_values(runs, 'min_lr')} along a cosine over all epochs"
               + (" (schedule cosine)." if len(schedules) > 1 else "."))
    if clipped := [value for value in _distinct(runs, "clip_norm") if value]:
        yield f"Gradients were scaled down to an L2 norm of at most {_span(clipped)}."
    done = sorted({int(run.metrics["epochs_run"]) for run in runs if "epochs_run" in run.metrics})
    yield (f"Epochs: at most {_values(runs, 'epochs')}" + (f" ({_span(done)} were run)" if done else "")
           + f"; training stopped after {_values(runs, 'patience')} without a lower validation loss.")
    if _is_known(runs):
        yield "The weights of the epoch with the lowest validation loss were kept."
    yield f"Precision: {_values(runs, 'precision')}. Seeds: {_values(runs, 'seed')}."
    if rescued := sum("inversion.micro_batch" in run.tags for run in runs):
        yield f"In {rescued} of {len(runs)} runs, gradients were accumulated over micro-batches for lack of memory."


def _loss(runs: Sequence[ReportRun]) -> str:
    terms = []
    weights = ("mse_weight", "lpips_weight", "loss", "loss_weight")
    for mse, lpips, own, weight in sorted({tuple(run.parameters[name] for name in weights) for run in runs}):
        parts = [f"{mse:g} MSE"] if mse else []
        parts += [f"{lpips:g} LPIPS (AlexNet) [@zhang2018lpips]"] if lpips else []
        parts += [f"{weight:g} {logged_name(own)} ({own})"] if own != NONE and weight else []
        terms.append(" + ".join(parts))
    target = {"image": "the image in [0, 1]", "published": "the image normalised with ImageNet's statistics"}
    targets = [target[value] for value in map(str, _distinct(runs, "protocol")) if value in target]
    return f"The loss was {' or '.join(terms)}" + (f", against {_and(targets)}." if targets else ".")


def _selection(board: Board, search: Search | None, stopped: StoppedEarly) -> Iterable[str]:
    if search is not None:
        yield (f"The configuration is the best of {len(search.ranked)} finished trials of a search with Optuna "
               f"[@akiba2019optuna] over {_and(list(search.names))}, {search.title}; test scores were not looked at.")
    if stopped:
        yield (f"Training was stopped early for {stopped.count} by {stopped.by} of Optuna [@akiba2019optuna], which "
               "compares validation PSNR; these are not reported.")
    tuned = [item.choice for item in board.configurations if item.choice]
    for names in dict.fromkeys(choice.names for choice in tuned):
        trials = [trial for choice in tuned if choice.names == names for trial in choice.trials]
        tried = [f"{name} ({_span(sorted({trial.parameters[name] for trial in trials}, key=_by_number))})"
                 for name in names]
        if tried:
            count = sum(choice.names == names for choice in tuned)
            yield (f"For {count} of {len(board.configurations)} configurations, {_and(tried)} was chosen by the "
                   "validation PSNR of one seed; test scores were not looked at.")


def _evaluation(board: Board, runs: Sequence[ReportRun]) -> Iterable[str]:
    images = len(board.winner.psnr.table)
    scores = [f"{metric.label.removesuffix(' (dB)')}{SCORES.get(name, '')}" for name, metric in board.metrics.items()
              if any(item.pool(name) for item in board.configurations)]
    yield f"Reported are means over {images} test image{'s' if images > 1 else ''} of {_and(scores)}."
    if "published" in _distinct(runs, "protocol"):
        yield "Scores are against the normalised image clipped to [0, 1]."
    if any(item.exact for item in board.configurations):
        yield "An exact reconstruction counts as 100 dB."


def _statistics(board: Board) -> Iterable[str]:
    count = len(board.configurations)
    if count < 2:
        return
    pairs = count * (count - 1) // 2
    yield ("Differences between configurations are paired by test image and tested with a two-sided paired t test"
           + (f", corrected for all {pairs:,} pairs with Holm's method [@holm1979]" if pairs > 1 else "")
           + "; intervals are at 95 %.")
    if board.noise is None:
        yield ("Every configuration was trained with one seed, so that tests are about the trained networks and not "
               "about other trainings.")
    else:
        yield ("The standard error of a difference includes the variance between trainings, pooled over configurations "
               f"({describe_noise(board.noise)}).")
        yield board.few_seeds


def _software(data: StudyData, runs: Sequence[ReportRun]) -> Iterable[str]:
    versions = versions_of(replace(data, runs=runs))
    commit = versions.pop("commit", "")
    named = [PACKAGES.get(name, f"{name} {{}}").format(version) for name, version in versions.items()]
    yield f"Software: {_and(named)}." if named else ""
    yield f"Commit {', '.join(each[:12] for each in commit.split(', '))}." if commit else ""
    devices = sorted({run.tags["inversion.device"] for run in runs if "inversion.device" in run.tags})
    yield f"Hardware: {_and(devices)}." if devices else ""
    hours = [run.working_hours for run in runs if run.working_hours is not None]
    if len(hours) == len(runs):
        total = f"{sum(hours):,.1f} hours" if sum(hours) >= 1 else f"{60 * sum(hours):.1f} minutes"
        yield f"Training and evaluation took {total} in all {len(runs)} runs together."


def _scope(others: Sequence[Board]) -> Iterable[str]:
    if others:
        count = sum(len(item.runs) for board in others for item in board.configurations)
        yield f"This describes the largest group of comparable runs, and not the {count} of other groups."


def _is_known(runs: Sequence[ReportRun]) -> bool:
    return all(run.document["identity"]["recipe"] in KNOWN_RECIPES for run in runs)


def _distinct(runs: Sequence[ReportRun], name: str) -> list[Any]:
    """The values of a parameter, numbers by size."""
    return sorted({run.parameters[name] for run in runs if name in run.parameters}, key=_by_number)


def _values(runs: Sequence[ReportRun], name: str) -> str:
    return _span(_distinct(runs, name))


def _span(values: Sequence[Any], form: str = "") -> str:
    """``5``, ``1, 2 and 3``, or ``1 to 500`` of many."""
    texts = [format(value, form or ("g" if isinstance(value, float) else "")) for value in values]
    return f"{texts[0]} to {texts[-1]}" if len(texts) > LISTED else _and(texts)


def _by_number(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, str(value)


def _and(texts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
