"""Pretrained encoders, frozen and cut at a layer: images in [0, 1] ``(B, 3, H, W)`` to features ``(B, C, h, w)``.

``catalog`` says which there are, ``weights`` where their weights come from, ``imagenet`` whether ImageNet's are at
hand: these import without PyTorch. ``build`` makes the modules and needs it.
"""

from inversion.models.encoders.catalog import ENCODERS, ENSEMBLE, EncoderCut, encoder_spec, parse_encoders
from inversion.models.encoders.imagenet import imagenet_status
from inversion.models.encoders.spec import EncoderSpec, LayerSpec
from inversion.models.encoders.weights import WeightsSource, parse_weights

__all__ = [
    "ENCODERS",
    "ENSEMBLE",
    "EncoderCut",
    "EncoderSpec",
    "LayerSpec",
    "WeightsSource",
    "encoder_spec",
    "imagenet_status",
    "parse_encoders",
    "parse_weights",
]
