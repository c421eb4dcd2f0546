"""Datasets of photographs: their splits, cached pixels and batches.

``find_photo_set`` resolves the name of a dataset or a folder to its photographs. ``inversion.data.cache.load_cached``
decodes them once and returns their pixels. ``inversion.data.batches`` makes batches of crops; it and
``inversion.data.scored`` are the only modules here that import PyTorch.
"""

from inversion.data.datasets import cache_folder, default_data_dir, find_photo_set, resolve_auto
from inversion.data.splits import SPLITS, Photo, PhotoSet

__all__ = ["SPLITS", "Photo", "PhotoSet", "cache_folder", "default_data_dir", "find_photo_set", "resolve_auto"]
