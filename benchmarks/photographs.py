"""2K photographs to measure with: a folder of PNGs as large as DIV2K's, made from the sample photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from inversion.data.content import Place, opened
from inversion.data.sample import photo_set

SIZE = (2040, 1356)
"""Width and height of most of DIV2K."""

GRAIN = 3.0
"""Standard deviation of added noise: an enlarged picture alone is smoother than a photograph, and its PNG too small."""


def make_photographs(folder: Path, splits: dict[str, int]) -> None:
    """Writes so many PNGs into ``folder/train``, ``val`` and ``test``; what is there already is left."""
    sources = [photo.path for photos in photo_set().splits.values() for photo in photos]
    chance = np.random.default_rng(0)
    for split, count in splits.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = folder / split / f"{number:04d}.png"
            if not path.exists():
                _make(sources[number % len(sources)], chance).save(path, compress_level=1)


def _make(source: Place, chance: np.random.Generator) -> Image.Image:
    """A random part of a photograph, enlarged, with grain."""
    with opened(source) as file, Image.open(file) as image:
        photograph = image.convert("RGB")
    width, height = photograph.size
    share = chance.uniform(0.6, 1.0)
    left, top = chance.uniform(0, 1 - share, 2)
    box = (left * width, top * height, (left + share) * width, (top + share) * height)
    pixels = np.asarray(photograph.resize(SIZE, Image.Resampling.BICUBIC, box=box), dtype=np.float32)
    grainy = pixels + chance.normal(0, GRAIN, pixels.shape)
    return Image.fromarray(grainy.clip(0, 255).astype(np.uint8))
