"""Parts of transformer blocks as features: class tokens, register tokens, queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from timm.models.eva import EvaBlock
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.errors import UnknownNameError
from inversion.images import normalise
from inversion.models.decoders import decoders
from inversion.models.encoders import EncoderCut, WeightsSource, encoder_spec, parse_encoders
from inversion.models.encoders import _timm_models as timm_models
from inversion.models.encoders._attention import BlockInput, project, projected_channels
from inversion.models.encoders.build import Encoder, EncoderRequest, build_several, encode
from inversion.models.encoders.specs import PROJECTIONS, SHORT_NAMES, TOKENS
from inversion.models.model import build_model

Build = Callable[..., Encoder]

MODELS = [  # image size; class tokens; registers; whether attention gets queries and keys as they are projected
    ("vit_small", 64, 1, 0, True),
    ("timm/test_vit2", 64, 0, 1, True),
    ("timm/deit_tiny_distilled_patch16_224", 64, 1, 0, True),
    ("timm/vit_small_patch16_dinov3", 64, 1, 4, False),
    ("timm/eva02_tiny_patch14_224", 224, 1, 0, False),
    ("timm/beit_base_patch16_224", 64, 1, 0, True),
]


def parts_of(name: str) -> set[str]:
    return {layer.part for layer in encoder_spec(name).layers.values()} - {""}


@pytest.mark.parametrize(("name", "image_size", "classes", "registers", "plain"), MODELS)
def test_parts_are_what_the_whole_model_computes(
        name: str, image_size: int, classes: int, registers: int, plain: bool, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    spec = encoder_spec(name)
    torch.manual_seed(3)
    whole = timm_models.create(spec.model, image_size, device="cpu").eval()
    del cast(nn.ModuleList, whole.get_submodule("blocks"))[2:]  # only the first two are looked at
    for module in whole.modules():  # no projection without its bias, no norm that changes nothing
        for key, tensor in module.named_parameters(recurse=False):
            if tensor.ndim == 1 and ("bias" in key or isinstance(module, nn.LayerNorm)):
                nn.init.normal_(tensor)
    torch.save(whole.state_dict(), tmp_path / "x.pth")
    attended, blocks = _record(whole, monkeypatch)
    images = torch.rand(2, 3, image_size, image_size)
    with torch.no_grad():
        whole(normalise(images, spec.normalisation))
    expected = {"cls": classes > 0, "registers": registers > 0, "q": True, "k": True, "v": True}
    assert parts_of(name) == {part for part, has in expected.items() if has}
    source = WeightsSource(spec.name, "file", path=tmp_path / "x.pth")
    names = [(number, part) for number in (1, 2) for part in sorted(parts_of(name))]
    encoders = build_several([EncoderRequest(EncoderCut(spec.name, f"block{number}-{part}"), source)
                              for number, part in names], image_size)
    for (number, part), encoder, features in zip(names, encoders, encode(encoders, images), strict=True):
        assert tuple(features.shape[1:]) == encoder.feature_shape
        if part in TOKENS:
            first = 0 if part == "cls" else classes
            tokens = blocks[number - 1][:, first:first + (1 if part == "cls" else registers)]
            assert features.shape[2:] == (1, 1)
            assert torch.equal(features.flatten(1), tokens.flatten(1))
            continue
        found = features.flatten(2).transpose(1, 2)  # (B, patches, C)
        wanted = attended[number - 1][PROJECTIONS.index(part)]  # (B, heads, tokens, C / heads)
        wanted = wanted[:, :, -found.shape[1]:].transpose(1, 2).flatten(2)
        if not plain and part != "v":  # rotations keep the norm of a token
            found, wanted = found.norm(dim=2), wanted.norm(dim=2)
        torch.testing.assert_close(found, wanted)


def _record(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[Tensor, ...]], list[Tensor]]:
    """Queries, keys and values of each attention, and the output of each block, from now on."""
    attended: list[tuple[Tensor, ...]] = []
    blocks: list[Tensor] = []
    attention = F.scaled_dot_product_attention

    def recording(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
        attended.append((query.detach().clone(), key.detach().clone(), value.detach().clone()))
        return attention(query, key, value, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    for block in model.get_submodule("blocks").children():
        block.register_forward_hook(lambda _module, _inputs, output: blocks.append(output.clone()))
    return attended, blocks


@pytest.mark.parametrize("name", ["vit_small", *(name for name in SHORT_NAMES if "b" not in name.split("_")[1:])])
def test_shapes_of_parts_are_known_before_anything_is_built(name: str) -> None:
    spec = encoder_spec(name)
    for layer, known in spec.layers.items():
        if known.part and known.node in ("blocks.0", "blocks.11"):
            whole, shape = (EncoderCut(spec.name, text).shape(224) for text in (layer.rpartition("-")[0], layer))
            assert shape[1:] == ((1, 1) if known.part in TOKENS else whole[1:])
            assert shape.channels == (4 if known.part == "registers" else 1) * whole.channels


@pytest.mark.parametrize(("text", "behind"), [
    ("vit_small:block2-q", "blocks.1.attn.qkv"), ("timm/test_vit:block1-v", "blocks.0.attn.qkv"),
    ("timm/eva02_tiny_patch14_224:block1-k", "blocks.0.attn.qkv"),
])
def test_nothing_behind_a_projection_is_kept(text: str, behind: str, random_encoder: Build) -> None:
    kept = {name.rpartition(".")[0] for name in random_encoder(text, 224).trunk_state()}
    last = behind.split(".")[1]
    assert behind in kept
    assert {name.split(".")[2] for name in kept if name.startswith(f"blocks.{last}.")} == {"norm1", "attn"}
    assert not any(name.endswith("attn.proj") for name in kept if name.startswith(f"blocks.{last}."))
    assert not any(name.startswith(f"blocks.{int(last) + 1}.") for name in kept)


def test_projections_that_are_separate_are_read_too() -> None:
    block = EvaBlock(32, 2, qkv_fused=False, norm_layer=nn.LayerNorm).eval()
    assert projected_channels([block, block]) == {"q": 32, "k": 32, "v": 32}
    tokens = torch.randn(2, 32, 3, 5)
    values = cast(nn.Linear, block.attn.v_proj)
    wanted = values(block.norm1(tokens.flatten(2).transpose(1, 2))).transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(project(block, tokens, "v"), wanted)
    assert torch.equal(project(BlockInput(block), tokens, "v"), project(block, tokens, "v"))
    shared = EvaBlock(32, 2, attn_type="rope", num_kv_heads=1, qkv_fused=False, norm_layer=nn.LayerNorm)
    assert projected_channels([shared]) == {"q": 32, "k": 16, "v": 16}
    assert projected_channels([shared, block]) == {}


@pytest.mark.parametrize(("text", "message"), [
    ("siglip2_b:block3-cls", "siglip_224.v2_webli has no layer 'block3-cls': the model has no class token. Known: "),
    ("dinov2_s:block9-registers", "has no layer 'block9-registers': the model has no register tokens. Known: "),
    ("vgg16:block1-q", "vgg16 has no layer 'block1-q': it has no attention whose queries, keys and values can be read. "
                       "Known: block1, block2, block3, block4, block5. Did you mean 'block1'?"),
    ("swin_t:layers.1-k", "has no layer 'layers.1-k': it has no attention whose"),
    ("timm/vit_small_patch16_18x2_224:block1-v", "has no layer 'block1-v': it has no attention whose"),  # in parallel
    ("vit_small:blok3-cls", "block12, block1-cls..12, block1-q..12, block1-k..12, block1-v..12. "
                            "Did you mean 'block3-cls'?"),
    ("vit_small:block13-q", "Did you mean 'block3-q'?"),
])
def test_a_part_that_a_layer_does_not_have_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        parse_encoders(text)
    assert message in str(error.value)


@pytest.mark.parametrize("decoder", decoders.ours())
@pytest.mark.parametrize("text", ["timm/test_vit2:block8-registers", "timm/test_vit:block3-cls",
                                  "timm/test_vit:block3-q"])
def test_every_decoder_makes_images_of_a_part(text: str, decoder: str, frozen: Build) -> None:
    model = build_model([frozen(text)], decoder, {}, None, 64, seed=0)
    images = torch.rand(2, 3, 64, 64)
    model.calibrate([images])
    found = model.train()(images)
    assert found.shape == images.shape
    found.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.trainable())
