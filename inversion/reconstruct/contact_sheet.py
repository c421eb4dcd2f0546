"""A contact sheet: originals, reconstructions and differences in one image, with names and PSNR."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from inversion.images import to_uint8

CELL, GAP, LINE, TEXT = 240, 10, 19, 14
MOST_PICTURES = 40
"""Maximum number of pictures on a sheet; viewers do not display larger files well."""

INK, GREY, PAPER = "#1a1a1a", "#6b6b6b", "white"


@dataclass(frozen=True)
class SheetRow:
    """One picture: its name, its original, and one reconstruction, difference and caption per run."""

    name: str
    original: Image.Image
    reconstructions: list[Image.Image]
    differences: list[Image.Image]
    captions: list[str]


def thumbnail(image: Tensor) -> Image.Image:
    """An image ``(3, H, W)`` in [0, 1], scaled down to fit a cell; a small one is enlarged by a whole factor."""
    picture = Image.fromarray(to_uint8(image))
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    factor = CELL // max(picture.size)
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def contact_sheet(rows: Sequence[SheetRow], runs: Sequence[str]) -> Image.Image:
    """Draws the sheet. The differences are in the row of the reconstructions for one run, and below it for several."""
    single = len(runs) == 1
    font = _font()
    heads = ["original", runs[0], "difference"] if single else ["original", *runs]
    columns = [_wrapped(head, font) for head in heads]
    head_height = GAP + LINE * max(map(len, columns))
    blocks = [_block(row, single, font) for row in rows]
    width = GAP + len(heads) * (CELL + GAP)
    sheet = Image.new("RGB", (width, head_height + GAP + sum(block.height for block in blocks)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, lines in enumerate(columns):
        draw.multiline_text((_left(index), GAP), "\n".join(lines), fill=INK, font=font, spacing=LINE - TEXT)
    top = head_height + GAP
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(row: SheetRow, single: bool, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The part of the sheet for one picture."""
    upper = [row.original, *row.reconstructions, *(row.differences if single else [])]
    captions = [row.name, *row.captions, *([""] if single else [])]
    lower = [] if single else row.differences
    upper_height, lower_height = (max((image.height for image in images), default=0) for images in (upper, lower))
    height = upper_height + LINE + GAP + (lower_height + GAP if lower else 0)
    block = Image.new("RGB", (GAP + len(upper) * (CELL + GAP), height), PAPER)
    draw = ImageDraw.Draw(block)
    for index, (image, caption) in enumerate(zip(upper, captions, strict=True)):
        block.paste(image, (_left(index), 0))
        shown = _wrapped(caption, font)[0] if caption else ""
        draw.text((_left(index), upper_height + 2), shown, fill=INK if index else GREY, font=font)
    for index, image in enumerate(lower, start=1):
        block.paste(image, (_left(index), upper_height + LINE + GAP // 2))
    if lower:
        draw.text((_left(0), upper_height + LINE + GAP // 2), "difference", fill=GREY, font=font)
    return block


def _left(column: int) -> int:
    return GAP + column * (CELL + GAP)


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """The text, broken into lines as wide as a cell."""
    lines = [""]
    for character in text:
        if font.getlength(lines[-1] + character) > CELL:
            lines.append("")
        lines[-1] += character
    return lines


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has more characters than Pillow's own font."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.origin:
        raise ModuleNotFoundError("matplotlib, which inversion depends on, is not installed")
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"), TEXT)
