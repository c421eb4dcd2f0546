"""Encoders from outside the package: their notation, their cuts, their weights, and how what is wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inversion.errors import RequestError, WeightsError
from inversion.models.encoders import parse_encoders, parse_weights
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.build import Encoder, build_encoder
from inversion.models.encoders.catalog import expand_layers
from inversion.models.trial import try_encoder

CODE = """
import random
import torch
from torch import nn

class Mine(nn.Module):
    image_mean, image_std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.inner = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True))

    def forward(self, images):
        return self.inner(self.first(images))
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(code)``: how ``Mine`` in a file with that code is asked for."""

    def make(code: str) -> str:
        (tmp_path / "mine.py").write_text(code)
        return f"{tmp_path}/mine.py:Mine"

    return make


def build(text: str, weights: str = "imagenet", image_size: int = 32) -> Encoder:
    cut, = parse_encoders(text)
    source = parse_weights(weights, [cut])[cut.encoder]
    try_encoder(cut, source, source.identity(), image_size)
    return build_encoder(cut, source, image_size)


@pytest.mark.parametrize(("text", "pieces"), [
    ("vgg16", ("vgg16", None, [])),
    ("vgg16:block1/pool=2/bits=4", ("vgg16", "block1", ["pool=2", "bits=4"])),
    ("timm/resnet18.a1_in1k:layer1/pool=2", ("timm/resnet18.a1_in1k", "layer1", ["pool=2"])),
    ("../my own/net.py:f", ("../my own/net.py:f", None, [])),
    ("a.py/net.py:f:stages.1.conv/pool=2", ("a.py/net.py:f", "stages.1.conv", ["pool=2"])),
    ("net.py:f@0123456789ab:layer4", ("net.py:f@0123456789ab", "layer4", [])),
    ("dir/net.py", ("dir/net.py", None, [])),
    ("lab@1.2.0_cu124:layer1", ("lab@1.2.0_cu124", "layer1", [])),
])
def test_a_request_is_taken_apart(text: str, pieces: tuple[str, str | None, list[str]]) -> None:
    assert split_request(text) == pieces


def test_a_range_of_layers_is_expanded_without_executing_the_file(write: Write) -> None:
    name = write("raise RuntimeError\nclass Mine: pass\n")
    full = str(parse_encoders(name)[0]).removesuffix(":output")
    assert expand_layers(f"{name}:stages.1..3/pool=2") == [f"{full}:stages.{number}/pool=2" for number in (1, 2, 3)]
    with pytest.raises(RequestError, match="the same name and rising numbers"):
        expand_layers(f"{name}:stages.3..1")


def test_the_features_are_those_of_the_module_at_the_cut(write: Write) -> None:
    name = write(CODE)
    images = torch.rand(2, 3, 32, 32)
    whole, first = build(name), build(f"{name}:first")
    normalised = (images - torch.tensor([0.5, 0.25, 0.0]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 1.0]).view(3, 1, 1)
    convolution = first.trunk.get_submodule("first")
    assert torch.equal(first(images), convolution(normalised))  # the in-place ReLU after the cut does not run
    assert torch.equal(whole(images), whole.trunk(normalised))
    assert not list(filter(lambda parameter: parameter.requires_grad, whole.parameters()))
    seen = images.clone().requires_grad_()
    first.differentiable(seen).sum().backward()
    assert seen.grad is not None


def changed(before: str, after: str) -> str:
    assert before in CODE
    return CODE.replace(before, after)


@pytest.mark.parametrize(("code", "weights", "said"), [
    (changed("4, 3, 2, 1)", "4, 3, 2, 1); self.first.bias.data.fill_(random.random())"), "imagenet",
     "its weights are others each time that it is made"),
    (changed("self.inner =", "self.first.weight.data.fill_(1); self.first.bias.data.fill_(1); self.inner ="), "random",
     "its weights do not depend on random numbers"),
    (changed("self.inner(", "self.inner(torch.rand(1) + "), "imagenet",
     "it encodes the same images differently each time"),
    (changed("(0.5, 0.25, 1.0)", "(0.5, 0.25)"), "imagenet", "image_mean and image_std are three numbers each"),
    (changed("(0.5, 0.25, 1.0)", "(0.5, 0.25, 0)"), "imagenet", "those of image_std above 0"),
    (CODE + "    image_sizes = (64, 128)\n", "imagenet", "image_size 32: encoder mine.py:Mine@"),
    (CODE + "    image_sizes = 64\n", "imagenet", "image_sizes is a collection of whole numbers"),
    (changed("self.inner(self", "self.inner(images.view(2, 3, -1)[:, :2] + self"), "imagenet", "RuntimeError: "),
    (changed("self.inner(self.first(images))", "self.first(images) / 0"), "imagenet", "values that are not finite"),
])
def test_what_is_wrong_is_told_in_one_line(write: Write, code: str, weights: str, said: str) -> None:
    name = write(code)
    with pytest.raises(RequestError) as caught:
        build(name, weights)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_never_called_is_told(write: Write) -> None:
    name = write(changed("self.inner =", "self.unused = nn.ReLU(); self.inner ="))
    with pytest.raises(RequestError, match="the layer 'unused' is not called"):
        build(f"{name}:unused")


def test_a_file_of_weights_has_all_tensors(write: Write, tmp_path: Path) -> None:
    name = write(CODE)
    state = build(name, "random:3").trunk_state()
    torch.save(state, tmp_path / "own.pth")
    assert torch.equal(build(name, str(tmp_path / "own.pth")).trunk_state()["first.weight"], state["first.weight"])
    del state["first.bias"]
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=r"first\.bias"):
        build(name, str(tmp_path / "own.pth"))


def test_pretrained_is_passed_on_where_it_is_a_parameter(write: Write) -> None:
    name = write(CODE.replace("__init__(self)", "__init__(self, pretrained=True)").replace(
        "self.inner =", "pretrained and nn.init.ones_(self.first.weight); self.inner ="))
    assert bool((build(name).trunk_state()["first.weight"] == 1).all())
    assert not bool((build(name, "random").trunk_state()["first.weight"] == 1).any())
