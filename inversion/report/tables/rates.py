"""Quantised features by their rate, beside JPEG at the same rate."""

from __future__ import annotations

from typing import Any

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.rates import RATE, JpegLine, rated
from inversion.report.tables.rankings import PSNR, RUN, SSIM, row_of
from inversion.report.tables.table import ReportTable, Shown

NOTE = ("Bits per pixel: values of all feature maps of an image, times the bits of a value, divided by the pixels. "
        "Nothing is entropy coded, and projections and quantiser ranges, which are the same for all images, are not "
        "counted; features that are not quantised have no known rate, and are not shown. {jpeg}")
JPEG = ("JPEG is Pillow's (baseline, 4:2:0, standard Huffman tables) on the same test images; its mean PSNR is "
        "interpolated over the logarithm of its mean rate. Its scans are entropy coded. \"Scan\" counts them alone, "
        "\"file\" the whole file with its tables. The differences are of means, and are not tested.")
NO_JPEG = "No run logged JPEG's scores on these test images."
BEYOND = "not reached"


def rates(board: Board, line: JpegLine | None) -> ReportTable:
    """Every configuration with quantised features, by rate."""
    rows = [_row(board, item, line) for item in rated(board)]
    shown = [RUN, Shown("bits per pixel", "{rate:.3g}"), PSNR, SSIM]
    if line is not None:
        shown += [Shown("JPEG scan (dB)", "{scan_psnr:.2f}", BEYOND), Shown("difference (dB)", "{scan_gain:+.2f}"),
                  Shown("JPEG file (dB)", "{file_psnr:.2f}", BEYOND), Shown("difference (dB)", "{file_gain:+.2f}")]
    return ReportTable("rates", "How good at what rate?", shown, rows, NOTE.format(jpeg=JPEG if line else NO_JPEG))


def _row(board: Board, item: Configuration, line: JpegLine | None) -> dict[str, Any]:
    rate, psnr = item.cost(RATE) or 0.0, item.psnr.mean
    scan, file = (line.scan_psnr(rate), line.file_psnr(rate)) if line else (None, None)
    return {**row_of(board, item), "rate": rate, "scan_psnr": scan, "file_psnr": file,
            "scan_gain": None if scan is None else psnr - scan, "file_gain": None if file is None else psnr - file}
