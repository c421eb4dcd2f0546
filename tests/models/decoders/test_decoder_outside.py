"""Decoders in files of a user's own: what is accepted, and how what is wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inversion.errors import RequestError, UnknownNameError
from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.trial import try_decoder

SHAPE = FeatureShape(8, 4, 4)

PLAIN = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, features, image_size, width: int = 4, gated=False, scale: float | None = None):
        super().__init__()
        self.size, self.width, self.gated, self.scale = image_size, width, gated, scale
        self.net = nn.Conv2d(features.channels, 3, 1)

    def forward(self, features):
        return nn.functional.interpolate(self.net(features), size=(self.size, self.size)).sigmoid()
"""

DERIVED = """
from __future__ import annotations
from pydantic import Field
from torch import nn
from inversion.models.decoders import Decoder, Options

class MineOptions(Options):
    width: int = Field(4, ge=1)
    \"\"\"channels\"\"\"

class Mine(Decoder):
    OptionsType = MineOptions

    def __init__(self, features, image_size, options):
        super().__init__(features, image_size, options)
        self.width = options.width
        self.net = nn.Sequential(nn.Conv2d(features.channels, 3, 1), nn.Upsample((image_size,) * 2), nn.Sigmoid())

    def forward(self, features):
        return self.net(features)
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """``write(code)``: the full name of ``Mine`` in a file with that code."""

    def make(code: str) -> str:
        (tmp_path / "mine.py").write_text(code)
        return decoders.full_name(f"{tmp_path}/mine.py:Mine")

    return make


@pytest.mark.parametrize("code", [PLAIN, DERIVED, PLAIN.replace("class Mine", "class Other") + """
def Mine(features, image_size, width: int = 4):
    return Other(features, image_size, width)
"""])
def test_a_module_a_decoder_and_a_function_are_decoders(write: Callable[[str], str], code: str) -> None:
    name = write(code)
    kind = decoders.get(name)
    built = kind.build(SHAPE, 32, parse_decoder_options(name, kind.OptionsType, {"width": "6"}))
    assert built.width == 6
    assert built(torch.randn(2, *SHAPE)).shape == (2, 3, 32, 32)
    try_decoder(name, (("width", "6"),), SHAPE, 32)


def test_parameters_are_options_with_their_types(write: Callable[[str], str]) -> None:
    name = write(PLAIN)
    declared = decoders.get(name).OptionsType
    options = parse_decoder_options(name, declared, {"gated": "true", "scale": "0.5"})
    assert dict(options) == {"width": 4, "gated": True, "scale": 0.5}
    with pytest.raises(UnknownNameError, match="Did you mean 'width'"):
        parse_decoder_options(name, declared, {"widht": "6"})
    with pytest.raises(RequestError, match=r"width=many of decoder 'mine\.py:Mine@.*': Input should be a valid"):
        parse_decoder_options(name, declared, {"width": "many"})


def test_an_option_that_is_declared_has_its_description(write: Callable[[str], str]) -> None:
    assert decoders.get(write(DERIVED)).OptionsType.model_fields["width"].description == "channels"


def changed(before: str, after: str) -> str:
    """``PLAIN`` with a change."""
    assert before in PLAIN
    return PLAIN.replace(before, after)


@pytest.mark.parametrize(("code", "said"), [
    (changed("class Mine(nn.Module)", "class Mine"), "the class is not a torch.nn.Module"),
    ("Mine = 3\n", "it is of type int, and not a class or function"),
    ("def Mine(features, size): return {}\n", "it makes an object of type dict, and not a torch.nn.Module"),
    (changed("features, image_size, width: int = 4, gated=False, scale: float | None = None", "channels"),
     "it is called with (features, image_size), and takes (channels): too many positional arguments"),
    (changed("features, image_size, width: int = 4", "channels, height, columns"),
     "missing a required argument: 'columns'"),
    (changed("features.channels", "features.width2"), "mine.py:9: AttributeError: 'FeatureShape' object"),
    (changed("self.net(features)", "self.net(features[:, :2])"), "mine.py:12: RuntimeError: "),
    (changed("size=(self.size, self.size)", "size=(8, 8)"),
     "for features (2, 8, 4, 4) it gives (2, 3, 8, 8), and not images (2, 3, 32, 32)"),
    (changed(".sigmoid()", " + 2"), "and images are in [0, 1]: end with a sigmoid"),
    (changed(".sigmoid()", " * float('nan')"), "gives values from nan to nan, and images are in [0, 1]"),
    (changed(".sigmoid()", ".sigmoid().round().long()"), "gives int64, and not floating-point numbers"),
    (changed("        return nn", "        return [1]\n        return nn"), "gives an object of type list, and not"),
    (changed("nn.Conv2d(features.channels, 3, 1)", "nn.AdaptiveAvgPool3d((3, 4, 4))"), "no parameters to train"),
    (changed("width: int", "width: 'Wide'"), "name 'Wide' is not defined"),
])
def test_what_is_wrong_is_told_before_training_in_one_line(write: Callable[[str], str], code: str, said: str) -> None:
    name = write(code)
    with pytest.raises(RequestError) as caught:
        try_decoder(name, (), SHAPE, 32)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_trying_one_leaves_the_random_state_alone(write: Callable[[str], str]) -> None:
    name = write(PLAIN + "# another file\n")
    before = torch.get_rng_state()
    try_decoder(name, (), SHAPE, 32)
    assert torch.equal(before, torch.get_rng_state())
