"""The pictures of the report: selected test images with their reconstructions."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from inversion.metrics import decibels
from inversion.report.data.board import Board
from inversion.report.data.collect import Pictures, pictures_of
from inversion.report.data.configuration import Configuration
from inversion.tracking.connection import Connection

SHOWN_CONFIGURATIONS = 6
BRIGHTER = 3
ROLES = {"best": 1.0, "upper quartile": 0.75, "median": 0.5, "lower quartile": 0.25, "worst": 0.0}
"""The test images shown, as quantiles of the winner's PSNR."""

FIRST = ("median", "best", "worst", "upper quartile", "lower quartile")
"""The order in which roles are assigned; with few images, the last roles are dropped."""


@dataclass(frozen=True)
class Reconstruction:
    """The reconstruction of an image by one configuration; pictures are data URIs."""

    label: str
    psnr: str
    picture: str
    difference: str


@dataclass(frozen=True)
class Scene:
    """One test image, its role (``best`` … ``worst`` by the winner), and its reconstructions.

    ``target`` is the image that decoders were scored against, if that is not the original. Differences are from it.
    """

    image: str
    role: str
    original: str
    reconstructions: Sequence[Reconstruction]
    target: str | None = None


def scenes(connection: Connection, board: Board) -> list[Scene]:
    """The selected images; none if the winner logged no pictures."""
    pictured = {item.label: table for item in shown_configurations(board)
                if (table := pictures_of(connection, next(iter(item.runs.values())).run_id)) is not None}
    if board.winner.label not in pictured:
        return []
    scores = board.winner.psnr.scores
    chosen = choose(scores[scores.index.isin(list(pictured[board.winner.label]))])
    return [_scene(board, pictured, image, role) for role, image in chosen.items()]


def shown_configurations(board: Board) -> list[Configuration]:
    """The winner, every decoder of the best layer, and the best ensemble."""
    shown = [board.winner]
    if board.single:
        shown += [item for item in board.having(encoder=board.single[0].encoder) if board.chosen[item.plain] is item]
    shown += board.ensembles[:1] + list(board.configurations[1:3])
    return list(dict.fromkeys(shown))[:SHOWN_CONFIGURATIONS]


def choose(scores: pd.Series) -> dict[str, str]:
    """Names of the images by role: best, quartiles, median, worst; each image once."""
    ranked = scores.sort_values(kind="stable").index
    chosen: dict[str, str] = {}
    for role in FIRST:
        image = str(ranked[round(ROLES[role] * (len(ranked) - 1))])
        if image not in chosen.values():
            chosen[role] = image
    return {role: chosen[role] for role in ROLES if role in chosen}


def _scene(board: Board, pictured: Mapping[str, Pictures], image: str, role: str) -> Scene:
    original, _ = pictured[board.winner.label][image]
    target = published_target(original) if board.winner.parameters["protocol"] == "published" else None
    made = []
    for label, pictures in pictured.items():
        if image in pictures:
            _, reconstruction = pictures[image]
            scores = next(iter(board.by_label[label].psnr.table.items()))[1]  # of the seed that the picture is of
            made.append(Reconstruction(label, decibels(float(scores[image])), data_uri(reconstruction),
                                       data_uri(difference(target or original, reconstruction))))
    return Scene(image, role, data_uri(original), made, data_uri(target) if target else None)


def published_target(original: bytes) -> bytes:
    """The target of the published protocol: the normalised image, clipped to [0, 1]."""
    import torch

    from inversion.images import from_stored, to_uint8
    from inversion.losses.reconstruction import make_targets

    pixels = np.array(Image.open(io.BytesIO(original)).convert("RGB"))
    score = make_targets(from_stored(torch.from_numpy(pixels)[None]), "published").score
    return _jpeg(to_uint8(score[0]))


def difference(original: bytes, reconstruction: bytes) -> bytes:
    """The absolute difference of two JPEG files as a JPEG file, brightened to be visible."""
    first, second = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.int16)
                     for file in (original, reconstruction))
    return _jpeg((BRIGHTER * np.abs(first - second)).clip(0, 255).astype(np.uint8))


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A JPEG file as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
