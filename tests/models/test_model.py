"""The network of a run: every combination of the study learns, and the encoders stay as they are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion.errors import RequestError, UnknownNameError
from inversion.images import from_stored
from inversion.models.decoders import decoders
from inversion.models.encoders import ENSEMBLE
from inversion.models.encoders.build import Encoder
from inversion.models.fusion import fusions
from inversion.models.model import InversionModel, UnitScale, build_model

Frozen = Callable[..., Encoder]

STUDY_LAYERS = ["resnet34:layer1", "resnet34:layer2", "vgg16:block1", "vgg16:block3",
                "vit_small:block1", "vit_small:block3", "pvt_v2_b2:stage1", "pvt_v2_b2:stage2"]
ENSEMBLE_LAYERS = [str(cut) for cut in ENSEMBLE]
COMBINATIONS = [*(([layer], None, decoder) for layer in STUDY_LAYERS for decoder in decoders.names()),
                *((ENSEMBLE_LAYERS, fusion, decoder) for fusion in fusions.names() for decoder in decoders.names())]


@pytest.fixture
def photographs(photograph: Callable[[str, int], NDArray[np.uint8]]) -> Tensor:
    """Two photographs of 64 pixels, as images."""
    return from_stored(torch.from_numpy(np.stack([photograph("astronaut", 64), photograph("chelsea", 64)])))


def some_images(count: int = 2, size: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def learned(model: InversionModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.learned_state().items()}


def steps(model: InversionModel, images: Tensor, count: int, lr: float = 1e-3) -> list[float]:
    """Losses of so many optimiser steps in train mode, on the same images."""
    optimizer, losses = torch.optim.Adam(model.trainable(), lr=lr), []
    model.train()
    for _ in range(count):
        loss = (model(images) - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_study_has_44_combinations() -> None:
    more = {"linear", "residual"}  # a floor, and what can be got out: no parts of the study
    assert sum(decoder not in more for *_, decoder in COMBINATIONS) == 44


@pytest.mark.parametrize(("layers", "fusion", "decoder"), COMBINATIONS, ids=lambda value: str(
    "ensemble" if value == ENSEMBLE_LAYERS else "+".join(value) if isinstance(value, list) else value))
def test_a_combination_reconstructs_learns_and_leaves_its_encoders_alone(
        layers: list[str], fusion: str | None, decoder: str, frozen: Frozen, photographs: Tensor) -> None:
    encoders = [frozen(layer) for layer in layers]
    before = copy.deepcopy([encoder.state_dict() for encoder in encoders])
    model = build_model(encoders, decoder, {}, fusion, 64, seed=0)
    model.calibrate([photographs])
    start = learned(model)
    images = model(photographs)
    assert images.shape == (2, 3, 64, 64)
    assert images.min() >= 0
    assert images.max() <= 1
    losses = steps(model, photographs, 4, lr=1e-4)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    for encoder, state in zip(encoders, before, strict=True):
        assert not any(module.training for module in encoder.modules())
        assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in encoder.parameters())
    end = learned(model)
    assert all(torch.equal(end[name], start[name]) for name in start if name.startswith("scales."))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(not torch.equal(end[name], start[name]) for name in trained)
    assert all(name.startswith(("decoder.", "fusion.")) for name in trained)


def test_building_leaves_the_global_random_state_untouched_and_does_not_depend_on_it(frozen: Frozen) -> None:
    encoders = [frozen("vgg16:block1"), frozen("resnet34:layer1")]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = build_model(encoders, "attention", {}, "concat", 64, seed=3).learned_state()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    torch.rand(5)
    again = build_model(encoders, "attention", {}, "concat", 64, seed=3).learned_state()
    other = build_model(encoders, "attention", {}, "concat", 64, seed=4).learned_state()
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("layers", [["resnet34:layer2"], ["vgg16:block1", "vit_small:block1"]])
def test_calibration_gives_the_features_root_mean_square_1(layers: list[str], frozen: Frozen) -> None:
    model = build_model([frozen(layer) for layer in layers], "wavelet", {}, "weighted" if layers[1:] else None, 64, 0)
    batches = [some_images(3, seed=1), some_images(2, seed=2)]
    model.calibrate(batches)
    for index, layer in enumerate(model.scales):
        raw = torch.cat([model.encode(batch)[index].flatten() for batch in batches])
        assert abs(raw.square().mean().item() - 1) > 0.05
        assert layer(raw).square().mean().item() == pytest.approx(1, abs=1e-4)


def test_a_scale_is_one_number_and_keeps_zeros_and_the_channels_relative_sizes() -> None:
    layer = UnitScale()
    features = torch.randn(2, 4, 3, 3).relu() * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1)
    layer.fit(features.square().mean().item())
    assert {name: value.shape for name, value in layer.state_dict().items()} == {"scale": ()}
    scaled = layer(features)
    assert torch.equal(scaled == 0, features == 0)
    torch.testing.assert_close(scaled * features.square().mean().sqrt(), features)


def test_features_that_are_all_zero_are_not_divided_by_zero() -> None:
    layer = UnitScale()
    layer.fit(0)
    assert layer(torch.zeros(1, 3, 4, 4)).abs().max() == 0


def test_a_learned_state_has_no_encoder_and_all_that_was_learned(frozen: Frozen) -> None:
    model = build_model([frozen("resnet34:layer1"), frozen("vgg16:block1")], "transposed_conv", {}, "weighted", 64, 0)
    state = model.learned_state()
    assert not [name for name in state if name.startswith("encoders.")]
    assert {name.partition(".")[0] for name in state} == {"scales", "fusion", "decoder"}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} <= set(state)
    assert any("running_var" in name for name in state)


def test_a_learned_state_put_back_gives_the_same_images(frozen: Frozen) -> None:
    one, other = (build_model([frozen("vgg16:block1")], "frequency_aware", {}, None, 64, seed) for seed in (0, 1))
    one.calibrate([some_images()])
    steps(one, some_images(), 2)
    other.load_learned_state(learned(one))
    with torch.no_grad():
        assert torch.equal(other.eval()(some_images()), one.eval()(some_images()))


def test_a_learned_state_that_does_not_fit_is_refused_and_changes_nothing(frozen: Frozen) -> None:
    model = build_model([frozen("vgg16:block1")], "transposed_conv", {}, None, 64, seed=0)
    before, trunk = learned(model), frozen("vgg16:block1").trunk_state()["features.0.weight"].clone()
    state = {name: value + 1 for name, value in before.items()}
    missing = {name: value for name, value in state.items() if name != "decoder.head.to_rgb.bias"}
    with pytest.raises(RuntimeError, match=r"missing \['decoder\.head\.to_rgb\.bias'\], unexpected \[\]"):
        model.load_learned_state(missing)
    with pytest.raises(RuntimeError, match=r"unexpected \['decoder\.other'\]"):
        model.load_learned_state(state | {"decoder.other": torch.zeros(1)})
    frozen_name = next(name for name in model.state_dict() if name.startswith("encoders."))
    with pytest.raises(RuntimeError, match=r"unexpected \['encoders\."):
        model.load_learned_state(state | {frozen_name: torch.zeros_like(model.state_dict()[frozen_name])})
    assert all(torch.equal(value, before[name]) for name, value in model.learned_state().items())
    assert torch.equal(frozen("vgg16:block1").trunk_state()["features.0.weight"], trunk)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_learned_state(before | {"decoder.head.to_rgb.bias": torch.zeros(4)})


def test_no_gradient_is_kept_for_the_encoders(frozen: Frozen) -> None:
    model = build_model([frozen("vgg16:block1")], "wavelet", {}, None, 64, seed=0)
    assert not any(features.requires_grad for features in model.encode(some_images().requires_grad_()))
    assert model(some_images()).requires_grad


def test_decoder_options_reach_the_decoder(frozen: Frozen) -> None:
    model = build_model([frozen("vgg16:block1")], "wavelet", {"wavelet": "db2"}, None, 64, seed=0)
    assert getattr(model.decoder, "wavelet") == "db2"  # noqa: B009


def test_unknown_names_and_options_are_refused(frozen: Frozen) -> None:
    encoders = [frozen("vgg16:block1")]
    with pytest.raises(UnknownNameError, match="unknown decoder 'wave'"):
        build_model(encoders, "wave", {}, None, 64, 0)
    with pytest.raises(RequestError, match="has no option 'heads'"):
        build_model(encoders, "transposed_conv", {"heads": "1"}, None, 64, 0)
    with pytest.raises(UnknownNameError, match="unknown fusion 'sum'"):
        build_model(encoders * 2, "wavelet", {}, "sum", 64, 0)


def test_a_single_encoder_goes_to_the_decoder_without_a_fusion(frozen: Frozen) -> None:
    model = build_model([frozen("vgg16:block1")], "wavelet", {}, None, 64, seed=0)
    assert model.fusion is None
    seen: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model.calibrate([some_images()])
    model(some_images())
    features, = model.encode(some_images())
    assert torch.equal(seen[0], model.scales[0](features))
