"""Whole original models with random weights to compare with, and encoders that are built once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

from inversion.images import normalise
from inversion.models.encoders import ENCODERS, EncoderCut, WeightsSource, parse_encoders, parse_weights
from inversion.models.encoders.build import Encoder, build_encoder

IMAGE_SIZE = 64


@dataclass(frozen=True)
class Original:
    """A whole model as its library builds it, its state dict in both formats, and what its layers gave."""

    model: nn.Module
    pth: Path
    safetensors: Path
    images: Tensor
    features: dict[str, Tensor]

    def file(self, suffix: str) -> Path:
        return {".pth": self.pth, ".safetensors": self.safetensors}[suffix]


def _torchvision_model(name: str) -> nn.Module:
    if name == "resnet34":
        model: nn.Module = models.resnet34()
    else:  # with a small classifier: the real one is 500 MB
        with torch.device("meta"):
            model = models.vgg16()
        model.features = models.vgg.make_layers(models.vgg.cfgs["D"])
        model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 2))
        for module in model.features.modules():  # type: ignore[union-attr]
            if isinstance(module, nn.Conv2d) and module.bias is not None:  # as models.VGG does
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics of a trained model, not 0 and 1
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.weight)
    return model


def _whole_model(name: str) -> nn.Module:
    spec = ENCODERS[name]
    torch.manual_seed(7)
    if spec.source == "torchvision":
        return _torchvision_model(name).eval()
    sized = {"img_size": IMAGE_SIZE} if name == "vit_small" else {}
    return timm.create_model(spec.model, **sized).eval()  # type: ignore[arg-type]


def _as_map(output: Tensor, class_tokens: int = 1) -> Tensor:
    """Tokens behind the class token ``(B, 1 + h·w, C)`` as a map ``(B, C, h, w)``; maps as they are."""
    if output.ndim == 4:
        return output
    side = int((output.shape[1] - class_tokens) ** 0.5)
    return output[:, class_tokens:].transpose(1, 2).reshape(len(output), -1, side, side)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Original]:
    """``original("vgg16")``: the whole model, run once at 64 pixels with a hook on every layer."""

    @cache
    def make(name: str) -> Original:
        model, spec, folder = _whole_model(name), ENCODERS[name], tmp_path_factory.mktemp(name)
        outputs: dict[str, Tensor] = {}
        for layer, place in spec.layers.items():
            if place.part:  # in test_encoder_parts
                continue
            if place.skipped:  # what comes to the norm
                model.get_submodule(f"{place.node}.{place.skipped}").register_forward_pre_hook(
                    lambda _module, inputs, layer=layer: outputs.__setitem__(layer, _as_map(inputs[0], 0)))
            else:
                model.get_submodule(place.node).register_forward_hook(
                    lambda _module, _inputs, output, layer=layer: outputs.__setitem__(layer, _as_map(output)))
        images = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            model(normalise(images, spec.normalisation))
        torch.save(model.state_dict(), folder / f"{name}.pth")
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        return Original(model, folder / f"{name}.pth", folder / f"{name}.safetensors", images, outputs)

    return make


@pytest.fixture(scope="session")
def random_encoder() -> Callable[..., Encoder]:
    """``random_encoder("vgg16:block1", 64)``: built once; an encoder is frozen, so tests can share it."""

    @cache
    def make(text: str, image_size: int = IMAGE_SIZE, weights: str = "random") -> Encoder:
        cut, = parse_encoders(text)
        return build_encoder(cut, parse_weights(weights, [cut])[cut.encoder], image_size)

    return make


@pytest.fixture(scope="session")
def from_file() -> Callable[..., Encoder]:
    """``from_file("vgg16:block1", path)``: an encoder with the weights of a file."""

    def make(text: str, path: Path, image_size: int = IMAGE_SIZE) -> Encoder:
        encoder, _, layer = text.partition(":")
        return build_encoder(EncoderCut(encoder, layer), WeightsSource(encoder, "file", path=path), image_size)

    return make


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """``file(content, "x.ckpt")``: what ``torch.save`` makes of it."""

    def save(content: object, name: str = "x.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save
