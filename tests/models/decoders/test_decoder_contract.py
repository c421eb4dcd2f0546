"""What every decoder promises, whatever its name: tried on each one in the registry."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inversion.errors import RequestError, UnknownNameError
from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, decoders, options_type, parse_decoder_options
from inversion.models.options import DesignOptions

IMAGE_SIZE = 64

SHAPES = [
    FeatureShape(64, 32, 32), FeatureShape(384, 4, 4), FeatureShape(512, 2, 2),
    FeatureShape(320, 5, 5),  # no power of two away from the image
    FeatureShape(3, IMAGE_SIZE, IMAGE_SIZE),  # as large as the image
    FeatureShape(48, 9, 6),  # not square
]

PUBLISHED = [f"{name}:published" for name in decoders.names() if issubclass(options_type(name), DesignOptions)]
EVERY_NAME = pytest.mark.parametrize("name", decoders.names())
EVERY_DESIGN = pytest.mark.parametrize("name", [*decoders.names(), *PUBLISHED])
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def build(name: str, shape: FeatureShape, image_size: int = IMAGE_SIZE, seed: int = 0, **options: str) -> Decoder:
    """A decoder by its name; ``NAME:published`` has the option ``design=published``."""
    name, _, design = name.partition(":")
    decoder_type = decoders.get(name)
    if design:
        options["design"] = design
    torch.manual_seed(seed)
    return decoder_type.build(shape, image_size, parse_decoder_options(name, decoder_type.OptionsType, options))


def standard_features(shape: FeatureShape, batch: int = 2) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))


@EVERY_SHAPE
@EVERY_DESIGN
def test_features_become_finite_images_in_0_to_1(name: str, shape: FeatureShape) -> None:
    decoder = build(name, shape)
    for scale, training in ((1, True), (1, False), (1000, False)):
        images = decoder.train(training)(standard_features(shape) * scale)
        assert images.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
        assert images.dtype == torch.float32
        assert torch.isfinite(images).all()
        assert images.min() >= 0
        assert images.max() <= 1


@EVERY_SHAPE
@EVERY_DESIGN
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(name: str, shape: FeatureShape) -> None:
    decoder = build(name, shape).train()
    target = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(2))
    (decoder(standard_features(shape)) - target).square().mean().backward()
    assert list(decoder.parameters())
    for parameter_name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@EVERY_DESIGN
def test_the_image_depends_on_every_channel_and_place_of_the_features(name: str) -> None:
    shape = FeatureShape(16, 8, 8)
    decoder = build(name, shape).eval()
    features = standard_features(shape).requires_grad_()
    target = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(2))
    (decoder(features) - target).square().sum().backward()
    assert features.grad is not None
    assert (features.grad != 0).float().mean() > 0.99


@EVERY_DESIGN
def test_the_same_seed_gives_the_same_parameters_and_another_seed_others(name: str) -> None:
    one, same, other = (build(name, SHAPES[0], seed=seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not all(torch.equal(value, other[key]) for key, value in one.items())


@EVERY_DESIGN
def test_each_image_of_a_batch_is_decoded_alone_in_eval_mode(name: str) -> None:
    decoder = build(name, SHAPES[1]).eval()
    features = standard_features(SHAPES[1], batch=3)
    together = decoder(features)
    torch.testing.assert_close(decoder(features[1:2]), together[1:2], atol=1e-5, rtol=0)


@EVERY_DESIGN
@pytest.mark.parametrize(("shape", "image_size"), [
    (FeatureShape(8, 2, 2), 96),  # 96 can be halved five times, but the features would have to be doubled six times
    (FeatureShape(8, 1, 1), 160), (FeatureShape(8, 7, 7), 224), (FeatureShape(8, 3, 3), 32),
])
def test_images_whose_side_is_no_power_of_two_come_out_at_their_size(
        name: str, shape: FeatureShape, image_size: int) -> None:
    with torch.no_grad():
        assert build(name, shape, image_size)(standard_features(shape)).shape == (2, 3, image_size, image_size)


@EVERY_DESIGN
def test_bf16_autocast_changes_an_image_a_little_and_its_type_not_at_all(name: str) -> None:
    decoder = build(name, SHAPES[1]).eval()
    features = standard_features(SHAPES[1])
    with torch.no_grad():
        exact = decoder(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = decoder(features)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.03, rtol=0)


@EVERY_NAME
def test_the_width_sets_the_capacity(name: str) -> None:
    shape = SHAPES[1]
    made = [build(name, shape, width=str(width)).eval() for width in (32, 64, 128)]
    small, middle, large = (sum(weight.numel() for weight in decoder.parameters()) for decoder in made)
    assert small < middle < large
    with torch.no_grad():
        assert made[-1](standard_features(shape)).shape[1:] == (3, IMAGE_SIZE, IMAGE_SIZE)
    with pytest.raises(RequestError, match=f"^decoder_options: width=-1 of decoder '{name}'"):
        build(name, shape, width="-1")


@pytest.mark.parametrize(("name", "default"), [
    ("transposed_conv", 0), ("wavelet", 1), ("frequency_aware", 1), ("attention", 2),
])
def test_the_depth_adds_equal_stages(name: str, default: int) -> None:
    made = [build(name, SHAPES[1], depth=str(default + more)) for more in range(3)]
    sizes = [sum(weight.numel() for weight in decoder.parameters()) for decoder in made]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0
    assert list(made[0].state_dict()) == list(build(name, SHAPES[1]).state_dict())
    with torch.no_grad():
        assert made[2].eval()(standard_features(SHAPES[1])).shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)


@EVERY_NAME
def test_options_have_defaults_descriptions_and_an_error_for_a_wrong_name(name: str) -> None:
    decoder_type = decoders.get(name)
    assert parse_decoder_options(name, decoder_type.OptionsType, {}) == decoder_type.OptionsType()
    for option, field in decoder_type.OptionsType.model_fields.items():
        assert field.description, option
    if decoder_type.OptionsType.model_fields:
        with pytest.raises(UnknownNameError, match=f"^decoder_options: decoder '{name}' has no option 'x'. Known: "):
            parse_decoder_options(name, decoder_type.OptionsType, {"x": "1"})
    else:
        with pytest.raises(RequestError, match=f"^decoder_options: decoder '{name}' has no options, so 'x' cannot"):
            parse_decoder_options(name, decoder_type.OptionsType, {"x": "1"})


@pytest.mark.parametrize(("name", "option", "value", "described"), [
    ("attention", "heads", "many", "attention heads"), ("attention", "depth", "25", "transformer blocks"),
    ("attention", "mlp_ratio", "0", "MLP"), ("attention", "pooled", "0", "pooled"),
    ("wavelet", "wavelet", "harr", "haar"), ("wavelet", "wavelet", "gaus1", "discrete wavelet"),
    ("frequency_aware", "block", "9", "4, 8, 16 or 32"), ("frequency_aware", "cutoff", "0", "low frequencies"),
])
def test_a_wrong_option_is_refused_with_its_description(name: str, option: str, value: str, described: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_decoder_options(name, decoders.get(name).OptionsType, {option: value})
    message = str(caught.value)
    assert message.startswith(f"decoder_options: {option}={value} of decoder {name!r}: ")
    assert described in message
    assert "\n" not in message


@pytest.mark.parametrize(("name", "shape", "parameters"), [
    ("wavelet", FeatureShape(64, 112, 112), 2_670_835), ("attention", FeatureShape(64, 112, 112), 233_667),
    ("frequency_aware", FeatureShape(64, 112, 112), 365_888), ("wavelet", FeatureShape(64, 56, 56), 2_814_707),
    ("attention", FeatureShape(64, 56, 56), 250_147), ("frequency_aware", FeatureShape(64, 56, 56), 509_760),
])
def test_a_published_decoder_has_the_parameters_of_the_released_code(
        name: str, shape: FeatureShape, parameters: int) -> None:
    with torch.device("meta"):
        decoder = build(f"{name}:published", shape, 224)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == parameters


def test_a_published_decoder_has_no_other_options() -> None:
    with pytest.raises(RequestError, match=r"^decoder_options of decoder 'wavelet': design=published has no other opti"
                                           r"ons, so depth, width cannot be set$"):
        build("wavelet:published", SHAPES[0], width="64", depth="2")
    with pytest.raises(RequestError, match=r"^decoder_options: design=publishd of decoder 'wavelet': .*'published'"):
        build("wavelet", SHAPES[0], design="publishd")


def test_transposed_conv_has_exactly_33731_parameters_at_vgg16_block1() -> None:
    decoder = build("transposed_conv", FeatureShape(64, 112, 112), 224)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 33_731


@pytest.mark.parametrize(("shape", "widths"), [
    (FeatureShape(64, 112, 112), [64, 32]), (FeatureShape(512, 7, 7), [512, 256, 128, 64, 32, 32]),
    (FeatureShape(384, 14, 14), [384, 192, 96, 48, 32]), (FeatureShape(64, 224, 224), [64]),
])
def test_transposed_conv_halves_the_channels_at_each_doubling_with_a_floor_of_32(
        shape: FeatureShape, widths: list[int]) -> None:
    with torch.device("meta"):
        decoder = build("transposed_conv", shape, 224)
    convolutions = [module for module in decoder.modules() if isinstance(module, torch.nn.ConvTranspose2d)]
    assert [widths[0], *(module.out_channels for module in convolutions)] == widths
    assert [module.in_channels for module in convolutions] == widths[:-1]
