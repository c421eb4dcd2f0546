"""What every modifier promises, whatever its name: tried on each example value of each one in the registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inversion.models import FeatureShape
from inversion.models.decoders import decoders
from inversion.models.encoders import parse_encoders, parse_weights
from inversion.models.encoders.build import Encoder, build_encoder
from inversion.models.model import build_model
from inversion.models.modifiers import Modifier, modifiers, parse_modifiers
from inversion.models.modifiers._layers import Modifiers

EXAMPLES = [f"{name}={value}" for name in modifiers.names() for value in modifiers.get(name).examples]
EVERY = pytest.mark.parametrize("text", EXAMPLES)
SHAPE = FeatureShape(24, 8, 12)


def parsed(text: str) -> Modifier:
    modifier, = parse_modifiers([text])
    return modifier


def fitted(text: str, maps: Tensor) -> Modifiers:
    chain = Modifiers([parsed(text)], FeatureShape(*maps.shape[1:]), "test")
    chain.fit(lambda: iter([(maps, [7] * len(maps))]))
    return chain


def some_maps(count: int = 5) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1)) * 3 + 1


def encoder_of(text: str) -> Encoder:
    cut, = parse_encoders(text)
    return build_encoder(cut, parse_weights("random", [cut])[cut.encoder], 64)


def some_images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def test_there_is_an_example_of_each() -> None:
    assert {text.partition("=")[0] for text in EXAMPLES} == {"bits", "channels", "noise", "pool"}


@EVERY
def test_a_name_is_read_as_it_is_written(text: str) -> None:
    modifier = parsed(text)
    assert str(modifier) == text
    assert parsed(str(modifier)) == modifier
    assert hash(parsed(text)) == hash(modifier)
    assert modifiers.get(modifier.name) is type(modifier)


@EVERY
def test_maps_become_finite_maps_of_the_shape_announced(text: str) -> None:
    chain = fitted(text, some_maps())
    shape = parsed(text).shape(SHAPE)
    for scale in (1, 1e4, 0):
        changed = chain(some_maps(2) * scale, [1, 2])
        assert changed.shape == (2, *shape)
        assert changed.dtype == torch.float32
        assert torch.isfinite(changed).all()


@EVERY
def test_an_image_does_not_depend_on_its_neighbours_in_a_batch(text: str) -> None:
    chain, maps = fitted(text, some_maps()), some_maps(4)
    together = chain(maps, [3, 4, 5, 6])
    for index in range(4):
        torch.testing.assert_close(chain(maps[index:index + 1], [3 + index]), together[index:index + 1])


@EVERY
def test_a_gradient_reaches_the_features(text: str) -> None:
    maps = some_maps().requires_grad_()
    fitted(text, some_maps())(maps).square().sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
    assert maps.grad.flatten(1).any(dim=1).all()


@EVERY
@pytest.mark.parametrize("decoder", decoders.names())
def test_a_decoder_learns_from_the_features_and_the_encoder_stays_as_it_is(text: str, decoder: str) -> None:
    encoder = encoder_of(f"vgg16:block1/{text}")
    model = build_model([encoder], decoder, {}, None, 64, seed=0)
    model.calibrate([some_images()])
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    images = model.train()(some_images())
    assert images.shape == (3, 3, 64, 64)
    (images - some_images()).square().mean().backward()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in model.trainable())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(features.requires_grad for features in model.encode(some_images().requires_grad_()))


@EVERY
def test_the_state_is_learned_state_and_the_trunk_is_not(text: str) -> None:
    model = build_model([encoder_of(f"vgg16:block1/{text}")], "wavelet", {}, None, 64, seed=0)
    names = {name for name in model.learned_state() if name.startswith("encoders.")}
    state = parsed(text).state(FeatureShape(64, 32, 32))
    assert names == {f"encoders.0.modifiers.0.{name}" for name in state}


@EVERY
def test_calibration_does_not_depend_on_how_the_images_are_batched(text: str) -> None:
    one, other = encoder_of(f"vgg16:block1/{text}"), encoder_of(f"vgg16:block1/{text}")
    one.calibrate([some_images(4)])
    other.calibrate(list(some_images(4).split(1)))
    for name, value in one.modifiers.state_dict().items():
        torch.testing.assert_close(other.modifiers.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@EVERY
def test_the_features_have_the_shape_of_the_cut_and_are_the_same_for_the_same_images(text: str) -> None:
    encoder = encoder_of(f"vgg16:block1/{text}")
    encoder.calibrate([some_images()])
    assert encoder(some_images()).shape == (3, *encoder.cut.shape(64))
    assert encoder.feature_shape == encoder.cut.shape(64)
    assert torch.equal(encoder(some_images()), encoder(some_images()))


def test_modifiers_apply_in_the_order_written_and_each_is_calibrated_on_what_those_before_it_make() -> None:
    maps = some_maps()
    chain = Modifiers(parse_modifiers(["pool=2", "bits=3"]), SHAPE, "test")
    chain.fit(lambda: iter([(maps, [1] * len(maps))]))
    pooled = torch.nn.functional.avg_pool2d(maps, 2)
    state = chain.state_dict()
    assert torch.equal(state["1.low"], pooled.amin((0, 2, 3)))
    torch.testing.assert_close(chain(maps), fitted("bits=3", pooled)(pooled))
    other = Modifiers(parse_modifiers(["bits=3", "pool=2"]), SHAPE, "test")
    other.fit(lambda: iter([(maps, [1] * len(maps))]))
    assert (other(maps) - chain(maps)).abs().max() > 0.01


def test_an_encoder_without_modifiers_gives_its_features_untouched(frozen: Callable[..., Encoder]) -> None:
    plain = frozen("vgg16:block1")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert plain(some_images()).dtype == torch.bfloat16  # as before there were modifiers
        assert encoder_of("vgg16:block1/bits=8")(some_images()).dtype == torch.float32
    assert list(plain.modifiers) == []


def test_names_values_and_shapes_are_known_without_importing_torch() -> None:
    program = """
import sys
from inversion.models.encoders import parse_encoders
from inversion.models.modifiers import modifiers
for name in modifiers.names():
    for value in modifiers.get(name).examples:
        cut, = parse_encoders(f"vgg16:block1/{name}={value}")
        cut.shape(64), cut.bits(64), modifiers.summary(name)
print([name for name in ("torch", "numpy", "timm", "mlflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
