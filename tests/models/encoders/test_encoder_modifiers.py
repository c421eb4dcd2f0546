"""Modifiers as a part of an encoder's name."""

from __future__ import annotations

import pytest

from inversion.errors import RequestError
from inversion.models.encoders import EncoderCut, parse_encoders

ENSEMBLE_IN_4_BITS = ["resnet34:layer1/bits=4", "vgg16:block1/bits=4", "vit_small:block1/bits=4",
                      "pvt_v2_b2:stage1/bits=4"]


@pytest.mark.parametrize(("encoder", "layer", "names"), [
    ("vgg16:block1/pool=2", "auto", ["vgg16:block1/pool=2"]),
    ("vgg16:block1/pool=2/bits=4", "auto", ["vgg16:block1/pool=2/bits=4"]),
    ("vgg16:block1/bits=4/pool=2", "auto", ["vgg16:block1/bits=4/pool=2"]),
    (" vgg16 : block1 / pool = 02 / noise = 0.10 ", "auto", ["vgg16:block1/pool=2/noise=0.1"]),
    ("vgg16:features.4/noise=1", "auto", ["vgg16:block1/noise=1"]),
    ("vgg16/channels=pca:16", "auto", ["vgg16:block1/channels=pca:16"]),
    ("resnet34:layer1/bits=4+vgg16:block1", "auto", ["resnet34:layer1/bits=4", "vgg16:block1"]),
    ("vgg16:block1/pool=2+vgg16:block1", "auto", ["vgg16:block1/pool=2", "vgg16:block1"]),
    ("ensemble/bits=4", "auto", ENSEMBLE_IN_4_BITS),
    ("vgg16", "block1/pool=2", ["vgg16:block1/pool=2"]),
    ("vgg16", "block2/channels=pca:4/bits=4", ["vgg16:block2/channels=pca:4/bits=4"]),
    ("vgg16/pool=2", "block2", ["vgg16:block2/pool=2"]),
    ("vgg16/bits=4", "block2/pool=2", ["vgg16:block2/pool=2/bits=4"]),
    ("timm/resnet18.tv_in1k:layer2/pool=2", "auto", ["timm/resnet18.tv_in1k:layer2/pool=2"]),
    ("timm/resnet18.tv_in1k/bits=4", "auto", ["timm/resnet18.tv_in1k:act1/bits=4"]),
    ("timm/resnet18.tv_in1k", "layer2/pool=2", ["timm/resnet18.tv_in1k:layer2/pool=2"]),
    ("timm/resnet18.tv_in1k:layer2", "auto", ["timm/resnet18.tv_in1k:layer2"]),
])
def test_a_name_with_modifiers_is_read_as_a_user_means_it(encoder: str, layer: str, names: list[str]) -> None:
    cuts = parse_encoders(encoder, layer)
    assert [str(cut) for cut in cuts] == names
    assert parse_encoders("+".join(names)) == cuts


@pytest.mark.parametrize(("encoder", "message"), [
    ("vgg16:block1/pol=2", "unknown modifier 'pol'. Known: bits, channels, noise, pool. Did you mean 'pool'?"),
    ("vgg16:block1/2", "unknown modifier '2'. Known: bits, channels, noise, pool."),
    ("vgg16:block1/", "a modifier is missing: write /name=value, as in vgg16:block1/pool=2. "
                      "Known: bits, channels, noise, pool."),
    ("vgg16:block1/pool", "modifier pool has no value. Allowed: a whole number, 2 to 512, that divides the map."),
    ("vgg16/pool=1", "modifier pool: '1' is not allowed. Allowed: a whole number, 2 to 512, that divides the map."),
    ("vgg16/bits=17", "modifier bits: '17' is not allowed. Allowed: a whole number, 1 to 16."),
    ("vgg16/bits=2.5", "modifier bits: '2.5' is not allowed. Allowed: a whole number, 1 to 16."),
    ("vgg16/channels=pac:8", "modifier channels: unknown projection 'pac'. Known: pca. Did you mean 'pca'?"),
    ("vgg16/channels=0", "modifier channels: '0' is not allowed. Allowed: a whole number, 1 or more, at most the "
                         "map's channels; also as pca:16."),
    ("vgg16/noise=0", "modifier noise: '0' is not allowed. Allowed: 0.000001 to 100, in units of the features' root "
                      "mean square."),
    ("timm/resnet18.tv_in1k/pol=2", "unknown modifier 'pol'. Known: bits, channels, noise, pool. Did you mean "
                                    "'pool'?"),
    ("vgg16/pool=2+vgg16:block1/pool=2", "encoder 'vgg16/pool=2+vgg16:block1/pool=2': vgg16:block1/pool=2 is there "
                                         "twice"),
])
def test_a_wrong_modifier_is_told_in_one_line(encoder: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_encoders(encoder)
    assert str(error.value) == message


@pytest.mark.parametrize("value", ["nan", "inf", "-0.5", "1e3", "1e-300", "much", "0.1.2"])
def test_noise_needs_a_number_in_range(value: str) -> None:
    with pytest.raises(RequestError, match="modifier noise"):
        parse_encoders(f"vgg16/noise={value}")


@pytest.mark.parametrize(("name", "shape", "bits"), [
    ("vgg16:block1", (64, 32, 32), None),
    ("vgg16:block1/pool=4", (64, 8, 8), None),
    ("vgg16:block1/channels=4", (4, 32, 32), None),
    ("vgg16:block1/noise=0.5", (64, 32, 32), None),
    ("vgg16:block1/bits=4", (64, 32, 32), 64 * 32 * 32 * 4),
    ("vgg16:block1/pool=2/channels=pca:8/bits=3", (8, 16, 16), 8 * 16 * 16 * 3),
    ("vgg16:block1/bits=3/pool=2", (64, 16, 16), 64 * 32 * 32 * 3),  # the receiver pools
    ("vgg16:block1/bits=8/pool=4/bits=4", (64, 8, 8), 64 * 8 * 8 * 4),
    ("vgg16:block1/bits=1/bits=8", (64, 32, 32), 64 * 32 * 32),
])
def test_shape_and_bits_follow_from_the_name(name: str, shape: tuple[int, int, int], bits: int | None) -> None:
    cut, = parse_encoders(name)
    assert cut.shape(64) == shape
    assert cut.bits(64) == bits
    assert cut.raw_shape(64) == (64, 32, 32)


def test_a_modifier_that_does_not_fit_the_layer_is_told_with_what_does() -> None:
    with pytest.raises(RequestError) as error:
        parse_encoders("vgg16:block5/pool=2/pool=2")[0].shape(64)
    assert str(error.value) == ("encoder vgg16:block5/pool=2/pool=2 at image_size 64: pool=2 does not divide a map of "
                                "1×1. Allowed here: none.")


def test_cuts_without_modifiers_are_what_they_were() -> None:
    assert parse_encoders("vgg16") == (EncoderCut("vgg16", "block1"),)
    assert str(EncoderCut("vgg16", "block1")) == "vgg16:block1"
