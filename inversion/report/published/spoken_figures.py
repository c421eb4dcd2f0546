"""What these runs have in place of the figures that stand in the sentences of the published study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.study_data import StudyData, shared_parameters
from inversion.report.published.finding_rules import WINNER
from inversion.report.published.published import Figure
from inversion.report.tables.questions import BASELINE

PARAMETERS = {"image size": ("image_size",), "cropped to": ("image_size",), "learning rate": ("lr",),
              "patience of the scheduler": ("lr_patience",), "patience of early stopping": ("patience",),
              "batch size": ("batch_size",), "epochs at most": ("epochs",),
              "weight of MSE and of LPIPS": ("mse_weight", "lpips_weight")}
"""Figures of the study that are parameters of a run here."""

SPLITS = {"training images": "train", "validation images": "val", "test images": "test"}

LAYERS = ("vgg16:block1", "resnet34:layer1")
"""Of which the study names the resolution in a sentence."""

NOWHERE = "no counterpart"


def spoken(figure: Figure, data: StudyData, board: Board) -> tuple[float | None, str]:
    """Our number for a figure, or None with the reason in two words."""
    if figure.what in PARAMETERS:
        shared = shared_parameters(data.runs)
        values = {shared.get(name) for name in PARAMETERS[figure.what]}
        value = values.pop()
        return (float(value), "") if not values and isinstance(value, int | float) else (None, "several values")
    if figure.what in SPLITS and not figure.unit:
        images = _first(board.winner).get("images", {}).get(SPLITS[figure.what])
        return (None if images is None else float(images)), NOWHERE
    way = _ways(data, board).get((figure.what, figure.unit))
    return (way(), "not run") if way else (None, NOWHERE)


def _ways(data: StudyData, board: Board) -> Mapping[tuple[str, str], Callable[[], float | None]]:
    winner, baseline = board.chosen.get(WINNER), board.chosen.get(BASELINE)
    best = board.ensembles[0] if board.ensembles else None
    gain_percent = partial(_percent, best, winner)
    ways: dict[tuple[str, str], Callable[[], float | None]] = {
        ("configurations", ""): lambda: len(data.runs) + len(data.missing),
        ("single models", ""): lambda: len(board.single), ("ensembles", ""): lambda: len(board.ensembles),
        ("PSNR of the winner", "dB"): lambda: winner.psnr.mean if winner else None,
        (f"PSNR of {WINNER}", "dB"): lambda: winner.psnr.mean if winner else None,
        ("its standard deviation", "dB"): lambda: winner.std("psnr") if winner else None,
        ("gain of the best ensemble", "dB"): partial(_gain, best, winner),
        ("gain of the best ensemble", "%"): gain_percent,
        ("gain of ensembles", "%"): gain_percent,
        ("gain over the attention baseline", "%"): lambda: _percent(winner, baseline),
        ("PSNR gained over the first baseline", "%"): lambda: _percent(winner, baseline),
        ("resolution of the winner", ""): lambda: _side(winner),
        ("locations of the winner", ""): lambda: _locations(winner),
    }
    for layer in LAYERS:
        item = next(iter(board.having(encoder=layer)), None)
        ways[f"resolution of {layer}", ""] = partial(_side, item)
        ways[f"locations of {layer}", ""] = partial(_locations, item)
    return ways


def _first(item: Configuration) -> Mapping[str, Mapping[str, int]]:
    """What the first run of a configuration says of its photographs."""
    data: Mapping[str, Mapping[str, int]] = next(iter(item.runs.values())).document.get("data", {})
    return data


def _locations(item: Configuration | None) -> float | None:
    return item.cost("feature_locations") if item else None


def _side(item: Configuration | None) -> float | None:
    locations = _locations(item)
    return None if locations is None else math.sqrt(locations)


def _gain(item: Configuration | None, over: Configuration | None) -> float | None:
    return item.psnr.mean - over.psnr.mean if item and over else None


def _percent(item: Configuration | None, over: Configuration | None) -> float | None:
    return 100 * (item.psnr.mean / over.psnr.mean - 1) if item and over else None
