"""Which test images the report shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from inversion.images import IMAGENET
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.render.pictures import BRIGHTER, choose, difference, scenes
from inversion.tracking.connection import connect


def test_the_best_the_median_and_the_worst_are_chosen_by_rank_with_the_quartiles() -> None:
    scores = pd.Series({f"{number}.png": float(number) for number in (3, 1, 4, 0, 2, 8, 5, 7, 6)})
    assert choose(scores) == {"best": "8.png", "upper quartile": "6.png", "median": "4.png", "lower quartile": "2.png",
                              "worst": "0.png"}


@pytest.mark.parametrize(("count", "roles"), [
    (1, ["median"]), (2, ["best", "median"]), (3, ["best", "median", "worst"]),
    (5, ["best", "upper quartile", "median", "lower quartile", "worst"])])
def test_no_image_is_shown_twice(count: int, roles: list[str]) -> None:
    chosen = choose(pd.Series({str(number): float(number) for number in range(count)}))
    assert list(chosen) == roles
    assert len(set(chosen.values())) == len(roles)


def test_equal_scores_leave_the_order_of_the_names() -> None:
    assert choose(pd.Series({"a": 1.0, "b": 1.0, "c": 1.0})) == {"best": "c", "median": "b", "worst": "a"}


def test_a_difference_is_absolute_and_brightened() -> None:
    def jpeg(shade: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (shade, shade, shade)).save(buffer, "JPEG", quality=95)
        return buffer.getvalue()

    for first, second in ((100, 120), (120, 100)):
        pixels = np.asarray(Image.open(io.BytesIO(difference(jpeg(first), jpeg(second)))))
        assert abs(float(pixels.mean()) - BRIGHTER * 20) < 4
    assert np.asarray(Image.open(io.BytesIO(difference(jpeg(0), jpeg(255))))).min() > 250


def test_a_difference_in_the_published_protocol_is_from_the_target_which_stands_beside_the_original(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), protocol="published", pictures=True)
    data = collect(connect(), made.finish())
    (scene, *_) = scenes(connect(), make_boards(data.runs)[0])
    assert scene.target is not None
    original, target = pixels(scene.original), pixels(scene.target)
    expected = ((original / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)).clip(0, 1) * 255
    assert np.abs(target - expected).mean() < 2  # JPEG
    made_of_it = pixels(scene.reconstructions[0].picture)
    shown = pixels(scene.reconstructions[0].difference)
    assert np.abs(shown - (BRIGHTER * np.abs(made_of_it - target)).clip(0, 255)).mean() < 8
    assert np.abs(shown - (BRIGHTER * np.abs(made_of_it - original)).clip(0, 255)).mean() > 50


def test_in_image_space_there_is_no_target_beside_the_original(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), pictures=True)
    data = collect(connect(), made.finish())
    assert {scene.target for scene in scenes(connect(), make_boards(data.runs)[0])} == {None}


def pixels(uri: str) -> Any:
    """The pixels of a picture that stands in a page."""
    file = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    return np.asarray(Image.open(file).convert("RGB"), np.float64)
