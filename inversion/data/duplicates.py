"""Detection of near-duplicates: one scene in two splits, resized, recompressed, cropped or mirrored: data leakage.

Candidates are found by perceptual hashes (low DCT frequencies, thresholded at their median, as in pHash) of each
photograph, its crops and its mirror image, and confirmed by the correlation of their pixels. Images of almost uniform
colour are not hashed, since they would all match. Cost and accuracy are measured in docs/log.md.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inversion.data.cache import PhotoCache
from inversion.data.splits import SPLITS
from inversion.files import replacing
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress
from inversion.text import first_of

VERSION = 1
"""Version of the hashes: files of other versions are ignored."""

SIDE, SMALL, FREQUENCIES = 96, 32, 8
"""Side in pixels of the thumbnails for hashing and for comparison; number of frequencies per axis."""

SCALES = (0.9, 0.8)
"""Sides of the crops relative to the photograph; each size at nine positions."""

CLOSE = 10
"""Largest Hamming distance of candidates, of 64 bits. It admits one of the 44,850 pairs of different BSDS300 scenes."""

ALIKE = 0.9
"""Lowest pixel correlation of near-duplicates. Different scenes of BSDS300 reach at most 0.64."""

FLAT = 8.0
"""Photographs with a lower standard deviation, in grey levels of 255, are not hashed: a wall, a clear sky."""

TRIES = 5
"""Candidates per photograph whose pixels are compared."""

SHIFTS = (-5.0, -2.5, 0.0, 2.5, 5.0)
"""Offsets of a crop from the window with the matching hash, and differences of their sizes, in thumbnail pixels."""

BATCH = 64
"""Photographs hashed per batch."""

ROWS = 256
"""Hashes compared per batch: the result fits in the CPU's cache."""

VIEWS = 9 * len(SCALES) + 3
"""Hashes per photograph: the whole, its crops, its mirror image, its centre square."""

Codes = NDArray[np.uint64]
Box = tuple[float, float, float, float]

_logger = logging.getLogger(__name__)


class Prints(NamedTuple):
    """Photographs of one split: names, stored pixels, and hashes ``(N, VIEWS)``, 0 for those below ``FLAT``."""

    names: list[str]
    pixels: list[NDArray[np.uint8]]
    codes: Codes


def across_splits(cache: PhotoCache, progress: Progress = no_progress) -> list[str]:
    """A warning for each pair of splits with near-duplicates; ``folder`` warns of identical files."""
    prints = load_prints(cache, progress)
    warnings = []
    for one, other in combinations(SPLITS, 2):
        pairs = {name: near for name, near in near_duplicates(prints[one], prints[other]).items() if not near.equal}
        if pairs:
            warnings.append(f"data leakage: {_photographs(len(pairs))} in {other} {_near(len(pairs))} of photographs "
                            f"in {one} ({_pairs(pairs)}): the scores are inflated")
    return warnings


def with_training(scored: Prints, training: Prints) -> list[str]:
    """A warning if photographs to score are equal to, or near-duplicates of, a run's training photographs."""
    pairs = near_duplicates(training, scored)
    if not pairs:
        return []
    return [f"data leakage: {_photographs(len(pairs))} of {len(scored.names)} {_near(len(pairs))} of the run's "
            f"training photographs ({_pairs(pairs)}): the scores are inflated"]


def load_prints(cache: PhotoCache, progress: Progress = no_progress) -> dict[str, Prints]:
    """The hashes of a set by split, from the file beside its pixel cache or computed now."""
    counts = [len(cache.names(split)) for split in SPLITS]
    path = cache.path.with_suffix(f".prints-{VERSION}.npy")
    codes = _read(path, sum(counts))
    if codes is None:
        codes = _compute([photo for split in SPLITS for photo in cache.pixels(split)], progress)
        _write(path, codes)
    parts = np.split(codes, np.cumsum(counts)[:-1])
    return {split: Prints(cache.names(split), cache.pixels(split), part)
            for split, part in zip(SPLITS, parts, strict=True)}


class Near(NamedTuple):
    """A match of a photograph: the name of the other one, and whether their pixels are equal."""

    name: str
    equal: bool


def near_duplicates(ones: Prints, others: Prints) -> dict[str, Near]:
    """The photographs of ``others`` that are near-duplicates of one in ``ones``, by name, each with the first match."""
    candidates: dict[int, list[tuple[int, int, int, bool]]] = defaultdict(list)
    for distance, one, view, other in _close(ones.codes, others.codes[:, 0]):
        candidates[other].append((distance, one, view, False))
    for distance, other, view, one in _close(others.codes, ones.codes[:, 0]):
        candidates[other].append((distance, one, view, True))
    found = {}
    for other, tries in sorted(candidates.items()):
        for _, one, view, reverse in sorted(tries)[:TRIES]:
            here, there = ones.pixels[one], others.pixels[other]
            equal = np.array_equal(here, there)
            if equal or (_alike(there, here, view) if reverse else _alike(here, there, view)):
                found[others.names[other]] = Near(ones.names[one], equal)
                break
    return found


def hashes(thumbnails: NDArray[np.float32]) -> Codes:
    """The hashes ``(N, VIEWS)`` of photographs: of the whole, its crops, its mirror image and its centre square.

    ``thumbnails`` are greyscale, of the whole and of the centre square: ``(N, 2, SIDE, SIDE)``. Many photographs per
    call are faster: the DCT is then one large matrix product.
    """
    whole, square = thumbnails[:, 0], thumbnails[:, 1]
    flat, across = _BASIS.reshape(-1, SIDE), _BASIS[0].T
    blocks = np.matmul(flat, whole @ flat.T).reshape(-1, len(_SPANS), FREQUENCIES, len(_SPANS), FREQUENCIES)
    spectra = [blocks[:, row, :, column, :] for row, column in _WINDOWS]
    spectra += [np.matmul(_BASIS[0], view @ across) for view in (whole[:, :, ::-1], square)]
    values = np.stack(spectra, axis=1).reshape(-1, VIEWS, FREQUENCIES**2)
    bits = values > np.median(values, axis=2, keepdims=True)
    codes: Codes = np.packbits(bits, axis=2).view(np.uint64)[..., 0]
    codes[whole.std((1, 2)) < FLAT] = 0
    return codes


def _spans() -> list[tuple[int, int]]:
    """Start and end of the crops along an axis: the whole first, then three for each scale."""
    lengths = [round(SIDE * scale) for scale in SCALES]
    return [(0, SIDE), *((start, start + length) for length in lengths
                         for start in (0, (SIDE - length) // 2, SIDE - length))]


def _basis() -> NDArray[np.float32]:
    """DCT basis of the lowest frequencies on each span: ``(spans, FREQUENCIES, SIDE)``, 0 outside the span."""
    basis = np.zeros((len(_SPANS), FREQUENCIES, SIDE), np.float32)
    for row, (start, end) in zip(basis, _SPANS, strict=True):
        places = (np.arange(end - start) + 0.5) / (end - start)
        row[:, start:end] = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * places) / (end - start)
    return basis


_SPANS = _spans()
_BASIS = _basis()
_WINDOWS = [(0, 0), *((row, column) for first in range(1, len(_SPANS), 3)
                      for row in range(first, first + 3) for column in range(first, first + 3))]
_MIRRORED, _CENTRE = VIEWS - 2, VIEWS - 1


def _compute(photos: Sequence[NDArray[np.uint8]], progress: Progress) -> Codes:
    codes, waiting = [np.zeros((0, VIEWS), np.uint64)], []
    for done, thumbnails in enumerate(in_order(_grey_thumbnails, photos), start=1):
        waiting.append(thumbnails)
        if len(waiting) == BATCH or done == len(photos):
            codes.append(hashes(np.stack(waiting)))
            waiting = []
        progress("looking for near-duplicates", done, len(photos))
    return np.concatenate(codes)


def _grey_thumbnails(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Greyscale thumbnails of a stored photograph and of its centre square: ``(2, SIDE, SIDE)``."""
    return np.stack([np.asarray(_thumbnail(view).convert("L"), np.float32) for view in (pixels, _square(pixels))])


def _close(views: Codes, whole: Codes) -> Iterator[tuple[int, int, int, int]]:
    """Yields distance, photograph, view and other photograph if the hashes of the view and of the other are close."""
    flat, columns = views.reshape(-1), np.flatnonzero(whole)
    known = whole[columns]

    def compare(start: int) -> list[tuple[int, int, int, int]]:
        part = flat[start : start + ROWS]
        distances = _popcount(part[:, None] ^ known)
        places = np.argwhere((distances <= CLOSE) & (part != 0)[:, None]).tolist()
        return [(int(distances[row, column]), *divmod(start + row, VIEWS), int(columns[column]))
                for row, column in places]

    for found in in_order(compare, range(0, len(flat), ROWS)):
        yield from found


def _popcount(codes: Codes) -> NDArray[np.uint8]:
    """The number of bits set in each code."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        counts: NDArray[np.uint8] = np.bitwise_count(codes)
        return counts
    bits = np.unpackbits(codes.view(np.uint8), axis=-1).reshape(*codes.shape, 64)
    return np.asarray(bits.sum(-1), np.uint8)


def _alike(viewed: NDArray[np.uint8], whole: NDArray[np.uint8], view: int) -> bool:
    """Whether a view of one photograph correlates with another photograph, at the view's position or near it."""
    wanted = _small(_thumbnail(whole), (0, 0, SIDE, SIDE))
    if view == _CENTRE:
        viewed = _square(viewed)
    image = _thumbnail(viewed[:, ::-1] if view == _MIRRORED else viewed)
    (top, bottom), (left, right) = ((_SPANS[span] for span in _WINDOWS[view]) if view < len(_WINDOWS)
                                    else (_SPANS[0], _SPANS[0]))
    if _correlation(_small(image, (left, top, right, bottom)), wanted) >= ALIKE:
        return True
    if view >= len(_WINDOWS):
        return False
    return any(_correlation(_small(image, box), wanted) >= ALIKE
               for box in _boxes_near(left, top, right - left, bottom - top))


def _boxes_near(left: int, top: int, width: int, height: int) -> Iterator[Box]:
    for larger in SHIFTS:
        across, down = min(width + larger, SIDE), min(height + larger, SIDE)
        for shift_x in SHIFTS:
            for shift_y in SHIFTS:
                x = min(max(left + (width - across) / 2 + shift_x, 0), SIDE - across)
                y = min(max(top + (height - down) / 2 + shift_y, 0), SIDE - down)
                yield x, y, x + across, y + down


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation of two thumbnails ``(S, S, 3)``, each channel centred on its mean; 0 if one is uniform."""
    one, other = one - one.mean((0, 1)), other - other.mean((0, 1))
    norm = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / norm if norm else 0.0


def _thumbnail(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels)
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _small(image: Image.Image, box: Box) -> NDArray[np.float32]:
    return np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BILINEAR, box), np.float32)


def _square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _read(path: Path, count: int) -> Codes | None:
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return codes if codes.shape == (count, VIEWS) and codes.dtype == np.uint64 else None


def _write(path: Path, codes: Codes) -> None:
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, codes)
    except OSError as error:
        _logger.warning("%s cannot be written (%s): photographs will be hashed again next time", path, error)


def _photographs(count: int) -> str:
    return "1 photograph" if count == 1 else f"{count} photographs"


def _near(count: int) -> str:
    return "is a near-duplicate" if count == 1 else "are near-duplicates"


def _pairs(pairs: Mapping[str, Near]) -> str:
    return first_of([f"{name} ~ {near.name}" for name, near in pairs.items()])
