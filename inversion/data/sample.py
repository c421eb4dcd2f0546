"""Twelve photographs from installed dependencies, so that a first run needs no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from inversion.data.splits import Photo, PhotoSet
from inversion.errors import DataError

NOTE = "sample photographs: too few for statistics"

CROPS_PER_IMAGE = 16
"""With one crop from each of the eight training photographs, an epoch would have only two steps."""

# Split by scene: the two motorcycle photographs are a stereo pair. Only files that are part of the packages:
# scikit-image downloads its other images.
_FILES = {
    "train": (
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/coffee.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
        ("skimage", "data/ihc.png"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/motorcycle_right.png"),
        ("skimage", "data/retina.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
    ),
    "val": (
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
        ("skimage", "data/rocket.jpg"),
    ),
    "test": (
        ("skimage", "data/chelsea.png"),
        ("sklearn", "datasets/images/china.jpg"),
    ),
}

_PROJECTS = {"skimage": "scikit-image", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def photo_set() -> PhotoSet:
    """The sample photographs: 8 for training, 2 for validation, 2 for test.

    Raises:
        DataError: a package or one of its files is missing.
    """
    splits = {split: [_photo(package, file) for package, file in files] for split, files in _FILES.items()}
    return PhotoSet("sample", _package_folder("skimage").parent, "sample", splits, CROPS_PER_IMAGE, NOTE)


def _photo(package: str, file: str) -> Photo:
    path = _package_folder(package) / file
    if not path.is_file():
        raise DataError(f"sample photographs: {_PROJECTS[package]} as installed has no {path}. Reinstall it, or "
                        "choose other photographs with data=FOLDER.")
    return Photo(f"{package}/{path.name}", path)


def _package_folder(package: str) -> Path:
    """The folder of a package, found without importing it, which would take seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise DataError(f"sample photographs: {_PROJECTS[package]} is not installed. Install it, or choose other "
                        "photographs with data=FOLDER.")
    return Path(spec.origin).parent
