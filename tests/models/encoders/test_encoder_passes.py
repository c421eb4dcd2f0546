"""Several cuts of one encoder: one forward pass, and the features of each cut alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inversion.images import IMAGENET
from inversion.models.encoders import WeightsSource, parse_encoders, parse_weights
from inversion.models.encoders.build import (
    Encoder,
    EncoderRequest,
    build_encoder,
    build_several,
    encode,
    encode_differentiably,
)
from inversion.models.model import InversionModel, build_model
from inversion.models.packing import load_packed, pack_model


def together(text: str, image_size: int = 64, weights: str = "random") -> list[Encoder]:
    cuts = parse_encoders(text)
    sources = parse_weights(weights, cuts)
    return build_several([EncoderRequest(cut, sources[cut.encoder]) for cut in cuts], image_size)


def alone(encoder: Encoder, image_size: int = 64) -> Encoder:
    return build_encoder(encoder.cut, WeightsSource(encoder.cut.encoder, "random"), image_size)


def passes(encoders: Sequence[Encoder]) -> int:
    return len({id(encoder.trunk) for encoder in encoders})


def counted(encoders: Sequence[Encoder]) -> list[int]:
    """Gets the batch size of every pass through the trunks from now on."""
    sizes: list[int] = []
    for encoder in encoders:
        run = encoder._run

        def counting(trunk: torch.nn.Module, images: Tensor, taps: Sequence[object], run: object = run) -> list[Tensor]:
            sizes.append(len(images))
            return run(trunk, images, taps)  # type: ignore[operator,no-any-return]

        encoder._run = counting
    return sizes


MIXED = "timm/test_vit:block3-cls+block2+block3-q+block2-k+block5+block5-v/pool=2"


@pytest.mark.parametrize(("text", "count"), [
    ("vgg16:block1+block3+block2", 1),
    ("resnet34:layer1+layer2+layer2/pool=2", 1),
    ("vit_small:block1+block3+vgg16:block2+vit_small:block2", 2),
    ("pvt_v2_b2:stage1+stage3", 1),
    ("pvt_v2_b2:stage1+stage1-prenorm+stage2", 2),  # the norm that one of them lacks is needed for the others
    (MIXED, 1),
    ("timm/test_vit:block1-q+block1-k+block2-q", 2),  # timm gives the first block's input in place of its output
    ("timm/vit_small_patch16_dinov3:block2+block2-registers+block1-cls", 1),
    ("timm/test_convnext:stage1+stage2+stage3", 1), ("timm/test_efficientnet:block1+block2+block3", 1),
    ("timm/test_resnet:act1+layer1+layer2", 1), ("timm/swin_tiny_patch4_window7_224:layers.0+layers.1", 1),
    ("timm/densenet121:features.norm0+features.denseblock1", 1), ("timm/resnetv2_18:stem.conv+stage1+stage2", 1),
    ("timm/mobilenetv3_small_050:bn1+block1+block4", 1), ("timm/test_nfnet:stem.conv3+stage1+stage2", 1),
])
def test_cuts_of_an_encoder_share_a_pass_and_have_the_features_of_each_alone(text: str, count: int) -> None:
    encoders = together(text)
    sizes, images = counted(encoders), torch.rand(2, 3, 64, 64)
    features = encode(encoders, images)
    assert sizes == [2] * count == [2] * passes(encoders)
    for encoder, found in zip(encoders, features, strict=True):
        assert tuple(found.shape[1:]) == encoder.feature_shape
        assert torch.equal(found, alone(encoder)(images)), encoder.cut
        assert torch.equal(found, encoder(images))
    with_gradient = encode_differentiably(encoders, images.requires_grad_())
    assert all(torch.equal(one, other) for one, other in zip(with_gradient, features, strict=True))
    assert torch.autograd.grad(torch.stack([one.sum() for one in with_gradient]).sum(), images)[0].isfinite().all()


def test_encoders_of_other_weights_or_normalisation_share_nothing() -> None:
    cut, other = parse_encoders("vit_small:block1+block2")
    random, seven = WeightsSource("vit_small", "random"), WeightsSource("vit_small", "random", seed=7)
    assert passes(build_several([EncoderRequest(cut, random), EncoderRequest(other, seven)], 64)) == 2
    assert passes(build_several([EncoderRequest(cut, random), EncoderRequest(other, random, IMAGENET)], 64)) == 2
    assert passes(build_several([EncoderRequest(cut, random), EncoderRequest(other, random)], 64)) == 1


def test_noise_of_layers_that_share_a_pass_is_that_of_each_alone() -> None:
    encoders, images = together("vgg16:block1/noise=1+block2/noise=1"), torch.rand(2, 3, 64, 64)
    for seeds in (None, [3, 4]):
        singles = [alone(encoder)(images, seeds) for encoder in encoders]
        assert all(map(torch.equal, encode(encoders, images, seeds), singles))


def test_a_model_of_several_layers_runs_the_encoder_once_also_after_packing(tmp_path: Path) -> None:
    encoders = together("vgg16:block1+block3/bits=4+resnet34:layer1")
    model = build_model(encoders, "wavelet", {}, "concat", 64, seed=0)
    images = torch.rand(2, 3, 64, 64)
    model.calibrate([images])
    model.eval()
    pack_model(model, "wavelet", {}, "concat", 64, tmp_path)
    assert sorted(file.name for file in tmp_path.glob("encoder*")) == ["encoder0.safetensors", "encoder2.safetensors"]
    for one in (model, load_packed(tmp_path), copy.deepcopy(model)):
        sizes = counted(one.frozen)
        assert torch.equal(one(images), separate(model)(images))
        assert sizes == [2, 2]


def separate(model: InversionModel) -> InversionModel:
    """The model with a trunk of its own for each encoder."""
    encoders = [alone(encoder) for encoder in model.frozen]
    other = build_model(encoders, "wavelet", {}, "concat", 64, seed=0)
    other.load_learned_state(model.learned_state())
    return other.eval()
