"""Photographs: which ones there are, how they are split, and their pixels.

``find_photo_set`` says which photographs a name or a folder stands for, ``inversion.data.cache.load_cached`` decodes
them once and gives their pixels, ``inversion.data.batches`` (the only module here that needs PyTorch) cuts batches.
"""

from inversion.data.datasets import cache_folder, default_data_dir, find_photo_set, resolve_auto
from inversion.data.splits import SPLITS, Photo, PhotoSet

__all__ = ["SPLITS", "Photo", "PhotoSet", "cache_folder", "default_data_dir", "find_photo_set", "resolve_auto"]
