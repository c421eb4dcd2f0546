"""Decoding of image files to stored pixels.

Image files are untrusted input. A file is either decoded correctly or refused with an error that names it; a
silently replaced or distorted photograph would falsify the scores.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from inversion.data import content, formats
from inversion.data.content import Place
from inversion.errors import DataError
from inversion.images import RESIZE_RATIO

DECODE_VERSION = 1
"""Increment it with every change that changes pixels: caches of other versions are decoded again."""

MAX_PIXELS = 100_000_000

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_WHITE_IS_ZERO, _SIGNED = 0, 2

_opening = threading.Lock()


class _RefusedError(Exception):
    """Pillow can read the file, but it is not used; the message says why."""


def decode_photo(path: Place, shorter_side: int) -> NDArray[np.uint8]:
    """Decodes a photograph and scales its shorter side to ``shorter_side`` pixels.

    EXIF orientation is applied, transparency is composited on white, 16-bit greyscale is scaled to 8 bits, and colour
    profiles are ignored. Size and filter (bilinear, antialiased) match torchvision's ``Resize`` of Pillow images.

    Returns:
        Stored pixels: ``uint8 (H, W, 3)``, red, green, blue in 0…255, ``min(H, W) == shorter_side``.

    Raises:
        DataError: the file cannot be read, is not a regular file, is not an image, is damaged, has several frames,
            floating-point, signed or 32-bit values, more than 100 megapixels, or a shorter side below the crop size of
            ``shorter_side`` (upscaling by more than 256/224 is refused). The message names the file and the reason.
    """
    return scaled_pixels(decode_whole(path, round(shorter_side / RESIZE_RATIO)), shorter_side)


def decode_whole(path: Place, smallest: int) -> NDArray[np.uint8]:
    """Decodes a photograph at its own size: ``uint8 (H, W, 3)``, with EXIF orientation applied.

    Raises:
        DataError: as ``decode_photo``; the shorter side must have at least ``smallest`` pixels.
    """
    try:
        with content.opened(path) as file, _open(file, content.suffix(path)) as image:
            _check(image, smallest)
            return np.asarray(_to_rgb(image))
    except Exception as error:  # Pillow raises almost anything for damaged files: OSError, SyntaxError, struct.error…
        raise DataError(f"{content.described(path)}: {_reason(error)}") from error


def scaled_pixels(pixels: NDArray[np.uint8], shorter_side: int) -> NDArray[np.uint8]:
    """Resizes pixels ``uint8 (H, W, 3)`` so that the shorter side is ``shorter_side``."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(_scaled(image.size, shorter_side), Image.Resampling.BILINEAR))


def _open(file: BinaryIO, suffix: str) -> Image.Image:
    """Opens an image file; the format is detected from the content, so a HEIC named .jpg is read as HEIC.

    Pillow's warning at 89 megapixels is suppressed, since ``_check`` applies our own limit to the header next.

    ``file`` is an open file, not a path: given a path, Pillow memory-maps uncompressed TIFFs, and garbles those that
    EXIF rotates by 90° (seen with Pillow 13.0).
    """
    with _opening, warnings.catch_warnings():  # the lock: warning filters are global to the process
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        head = file.read(formats.HEAD_BYTES)
        file.seek(0)
        try:
            if formats.is_heif(head) and formats.reads_heif():
                _register_heif()
                return Image.open(file, formats=("HEIF",))
            return Image.open(file, formats=formats.formats())
        except UnidentifiedImageError as error:
            raise _RefusedError(formats.described(head, suffix)) from error


def _register_heif() -> None:
    """Registers pillow-heif with Pillow, once."""
    if "HEIF" not in Image.OPEN:
        importlib.import_module("pillow_heif").register_heif_opener()


def _check(image: Image.Image, smallest: int) -> None:
    """Refuses an image that is unusable by its header, before any pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _RefusedError(f"{width}×{height} is more than {MAX_PIXELS // 10**6} megapixels")
    if min(width, height) < smallest:
        raise _RefusedError(f"{width}×{height} is too small: the shorter side must have {smallest} pixels or more")
    if image.mode == "F":
        raise _RefusedError("floating-point values: what is black and what is white is not known")
    tags = getattr(image, "tag_v2", {})
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) and tags.get(_BITS_PER_SAMPLE, (1,))[0] <= 16:
        raise _RefusedError("signed values: what is black and what is white is not known")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("MPO", "HEIF"):  # in phones' files, the first frame is the photograph
        raise _RefusedError(f"{frames} frames: animated and multi-page images are not used")


def _to_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        upright = _eight_bits(upright, *_tiff_scale(image))
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return upright.convert("RGB")


def _eight_bits(image: Image.Image, white: int, inverted: bool) -> Image.Image:
    """16-bit greyscale (modes ``I;16``, ``I;16B``, ``I``) to 8 bits; Pillow's own conversion saturates at 255."""
    values = np.asarray(image).astype(np.int64)
    low, high = values.min(), values.max()
    if low < 0 or high > white:
        raise _RefusedError(f"greyscale values from {low} to {high}: what is black and what is white is not known")
    scaled = (values * 255 + white // 2) // white
    return Image.fromarray((255 - scaled if inverted else scaled).astype(np.uint8))


def _tiff_scale(image: Image.Image) -> tuple[int, bool]:
    """The value of white, and whether 0 is white. TIFFs may have 12 bits; Pillow handles neither."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return 2 ** min(bits, 16) - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _scaled(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """(width, height) with the shorter side ``shorter_side``; the longer one is rounded down as in torchvision."""
    width, height = size
    longer_side = int(shorter_side * max(size) / min(size))
    return (shorter_side, longer_side) if width <= height else (longer_side, shorter_side)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} megapixels"
    if isinstance(error, OSError) and error.strerror:  # without the path, which the message starts with
        return error.strerror
    if isinstance(error, _RefusedError):
        return str(error)
    return f"damaged image ({str(error).strip().partition(chr(10))[0] or type(error).__name__})"
