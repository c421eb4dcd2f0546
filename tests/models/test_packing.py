"""A packed model is the model, without the network and without the files it was trained from."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inversion.images import IMAGENET
from inversion.models.encoders import EncoderCut, WeightsSource
from inversion.models.encoders.build import Encoder, build_encoder
from inversion.models.model import InversionModel, build_model
from inversion.models.packing import load_packed, pack_model

Frozen = Callable[..., Encoder]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def trained(model: InversionModel) -> InversionModel:
    """With statistics, a scale and weights that no fresh model has."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.calibrate([images])
    optimizer = torch.optim.Adam(model.trainable(), lr=1e-2)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        (model(images) - images).square().mean().backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def assert_same(model: InversionModel, folder: Path) -> InversionModel:
    torch.manual_seed(123)
    loaded = load_packed(folder)
    assert not any(module.training for module in loaded.modules())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(images), model(images))
    return loaded


@pytest.mark.parametrize(("layers", "decoder", "options", "fusion"), [
    (["vgg16:block1"], "transposed_conv", {}, None),
    (["vit_small:block3"], "wavelet", {"wavelet": "db2"}, None),
    (["pvt_v2_b2:stage2"], "attention", {"depth": "1", "heads": "2"}, None),
    (["resnet34:layer1", "vgg16:block1", "vit_small:block1", "pvt_v2_b2:stage1"], "frequency_aware", {}, "concat"),
    (["vgg16:block1", "vgg16:block3"], "wavelet", {}, "attention"),
])
def test_a_packed_model_gives_the_same_images_bit_by_bit(
        layers: list[str], decoder: str, options: dict[str, str], fusion: str | None, frozen: Frozen,
        tmp_path: Path) -> None:
    model = trained(build_model([frozen(layer) for layer in layers], decoder, options, fusion, 64, seed=5))
    pack_model(model, decoder, options, fusion, 64, tmp_path / "packed")
    assert_same(model, tmp_path / "packed")


def test_a_normalisation_that_is_not_the_encoders_own_is_packed_too(frozen: Frozen, tmp_path: Path) -> None:
    encoder = build_encoder(EncoderCut("vit_small", "block1"), WeightsSource("vit_small", "random"), 64, IMAGENET)
    model = trained(build_model([encoder], "wavelet", {}, None, 64, seed=5))
    pack_model(model, "wavelet", {}, None, 64, tmp_path)
    assert assert_same(model, tmp_path).frozen[0].normalisation == IMAGENET
    assert frozen("vit_small:block1").normalisation != IMAGENET


def test_a_folder_can_be_moved_and_holds_plain_data_only(frozen: Frozen, tmp_path: Path) -> None:
    model = trained(build_model([frozen("vgg16:block1")], "wavelet", {}, None, 64, seed=5))
    pack_model(model, "wavelet", {}, None, 64, tmp_path / "packed")
    assert {path.suffix for path in (tmp_path / "packed").iterdir()} == {".json", ".safetensors"}
    assert str(tmp_path) not in (tmp_path / "packed" / "model.json").read_text()
    (tmp_path / "packed").rename(tmp_path / "moved")
    assert_same(model, tmp_path / "moved")


def test_packing_into_a_folder_that_holds_another_model_replaces_it(frozen: Frozen, tmp_path: Path) -> None:
    first = build_model([frozen("vgg16:block1")], "wavelet", {}, None, 64, seed=5)
    pack_model(first, "wavelet", {}, None, 64, tmp_path)
    model = trained(build_model([frozen("resnet34:layer1")], "transposed_conv", {}, None, 64, seed=5))
    pack_model(model, "transposed_conv", {}, None, 64, tmp_path)
    assert_same(model, tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["decoder"] == "transposed_conv"
