"""The shape of what a fusion from outside gives, which is not declared: it is run to find out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from inversion.models import FeatureShape
from inversion.models.outside import failure, require_map

BATCH = 2


def merged_shape(name: str, fusion: nn.Module, shapes: Sequence[FeatureShape]) -> FeatureShape:
    """The shape into which a fusion merges random maps of these shapes; the global random state does not change.

    Raises:
        RequestError: its code fails, or does not give a map.
    """
    was_training = fusion.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            merged = fusion.eval()([torch.randn(BATCH, *shape) for shape in shapes])
    except Exception as error:
        raise failure("fusion", name, error) from error
    finally:
        fusion.train(was_training)
    what = f"fusion {name}: for maps {', '.join(map(str, shapes))} it"
    return FeatureShape(*require_map(merged, what, BATCH).shape[1:])
