"""Rates of quantised features, and those of JPEG on the same test images, which runs with quantised features log."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inversion.metrics import counted
from inversion.report.data.board import Board
from inversion.report.data.collect import fetch_parquet
from inversion.report.data.configuration import Configuration
from inversion.report.stats.pools import Array
from inversion.tracking.connection import Connection
from inversion.tracking.results import JPEG_PER_IMAGE, JPEG_SCHEMA

RATE = "feature_bits_per_pixel"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class JpegLine:
    """Means over the test images at each quality, in the order of ascending rates; rates in bits per pixel."""

    files: Array
    """of whole files"""
    scans: Array
    """of the entropy-coded data alone, without headers and tables"""
    psnr: Array

    def file_psnr(self, rate: float) -> float | None:
        """PSNR of whole files at a rate; None beyond the qualities that were tried."""
        return _at(rate, self.files, self.psnr)

    def scan_psnr(self, rate: float) -> float | None:
        """PSNR at a rate that counts the entropy-coded data alone; None beyond the qualities that were tried."""
        return _at(rate, self.scans, self.psnr)


def rated(board: Board) -> list[Configuration]:
    """The configurations with quantised features, by their rate."""
    found = [item for item in board.configurations if item.cost(RATE)]
    return sorted(found, key=lambda item: (item.cost(RATE), item.label))


def jpeg_line(connection: Connection, board: Board) -> JpegLine | None:
    """JPEG on the test images of a board, from the first run that logged it; None if there is none."""
    images = set(board.winner.psnr.table.index)
    for run in (run for item in rated(board) for run in item.runs.values()):
        table = fetch_parquet(connection, run.run_id, f"metrics/{JPEG_PER_IMAGE}")
        if table is None:
            continue
        if _is_whole(table, images):
            return _mean(table)
        _logger.warning("run %s: metrics/%s is damaged; it is left out", run.run_id, JPEG_PER_IMAGE)
    return None


def _is_whole(table: pd.DataFrame, images: set[str]) -> bool:
    """Whether a table has positive, finite numbers for every test image at every quality."""
    numbers = ["bits_per_pixel", "scan_bits_per_pixel", "psnr"]
    if not {*JPEG_SCHEMA.names} <= set(table.columns) or set(table["image"]) != images:
        return False
    if not all(pd.api.types.is_numeric_dtype(table[name]) for name in [*numbers, "quality"]):
        return False
    counts = table.groupby("quality")["image"].nunique()
    return (len(table) == len(images) * len(counts) and bool((counts == len(images)).all())
            and bool((table[numbers] > 0).to_numpy().all())
            and bool(np.isfinite(table[numbers[:2]].to_numpy(np.float64)).all()))


def _mean(table: pd.DataFrame) -> JpegLine:
    means = table.assign(psnr=counted(table["psnr"])).groupby("quality").mean(numeric_only=True)
    means = means.sort_values("bits_per_pixel")
    return JpegLine(*(means[name].to_numpy(np.float64) for name in ("bits_per_pixel", "scan_bits_per_pixel", "psnr")))


def _at(rate: float, rates: Array, psnr: Array) -> float | None:
    """Linear interpolation over the logarithm of the rate."""
    if not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(np.log(rate), np.log(rates), psnr))
