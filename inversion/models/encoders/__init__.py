"""Pretrained encoders, frozen and cut at a layer: images ``(B, 3, S, S)`` in [0, 1] to features ``(B, C, h, w)``.

- ``catalog``: the encoders by name, and the parameter ``encoder``.
- ``weights``: the parameter ``weights``; ``imagenet`` finds and downloads ImageNet weights.
- ``build``: the ``Encoder`` module. Only this one needs PyTorch; ``Encoder`` and ``build_encoder`` are imported lazily.

Any timm model is an encoder without an entry, as ``timm/NAME``. To give a torchvision or timm model a short name, add
one ``EncoderSpec`` to ``_SPECS`` in ``catalog``::

    EncoderSpec(
        name="resnet18", source="torchvision", model="resnet18", weights="ResNet18_Weights.IMAGENET1K_V1",
        layers={"layer1": LayerSpec(channels=64, stride=4, node="layer1"),
                "layer2": LayerSpec(channels=128, stride=8, node="layer2")},
        normalisation=IMAGENET, summary="convolutions with residual connections",
        paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
        url="https://arxiv.org/abs/1512.03385",
        weights_url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    )

The tests in ``tests/models/encoders`` compare every layer of the catalog with the original model; add the new layers to
the list in ``test_encoder_catalog.py``. ``weights=random`` initialises by the rules in ``_random``: for convolutions,
linear layers, norms and the tokens of ViT; another kind of parameter needs a rule there. ``inversion list --recount``
adds the parameter counts to ``inversion list``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inversion.images import IMAGENET, Normalisation
from inversion.models.encoders.catalog import (
    ENCODERS,
    ENSEMBLE,
    EncoderCut,
    encoder_spec,
    parse_encoders,
)
from inversion.models.encoders.imagenet import imagenet_status
from inversion.models.encoders.specs import EncoderSpec, LayerSpec
from inversion.models.encoders.weights import WeightsSource, parse_weights

if TYPE_CHECKING:
    from inversion.models.encoders.build import Encoder, build_encoder

__all__ = [
    "ENCODERS",
    "ENSEMBLE",
    "IMAGENET",
    "Encoder",
    "EncoderCut",
    "EncoderSpec",
    "LayerSpec",
    "Normalisation",
    "WeightsSource",
    "build_encoder",
    "encoder_spec",
    "imagenet_status",
    "parse_encoders",
    "parse_weights",
]


def __getattr__(name: str) -> Any:
    if name in ("Encoder", "build_encoder"):
        from inversion.models.encoders import build

        return getattr(build, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
