"""Any timm model as ``timm/NAME:LAYER``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.models._registry import _deprecated_models

from inversion.errors import RequestError, UnknownNameError, WeightsError
from inversion.images import normalise
from inversion.models.encoders import ENCODERS, _timm_names, encoder_spec, parse_encoders
from inversion.models.encoders import _timm_models as timm_models
from inversion.models.encoders.build import Encoder
from inversion.models.encoders.catalog import EncoderCut
from inversion.models.encoders.specs import SHORT_NAMES

Build = Callable[..., Encoder]


@pytest.mark.parametrize(("request_text", "cut"), [
    ("timm/test_vit", "timm/test_vit.r160_in1k:block1"),
    ("timm/test_vit:blocks.1", "timm/test_vit.r160_in1k:block2"),
    ("timm/test_convnext:stage2", "timm/test_convnext.r160_in1k:stage2"),
    ("timm/resnet18.tv_in1k:layer2", "timm/resnet18.tv_in1k:layer2"),
    ("timm/resnet18", "timm/resnet18.a1_in1k:act1"),
    ("dinov2_s_reg:block6", "timm/vit_small_patch14_reg4_dinov2.lvd142m:block6"),
    ("resnet50:layer1/pool=2", "timm/resnet50.a1_in1k:layer1/pool=2"),
])
def test_a_cut_of_a_timm_model_is_named_in_full(request_text: str, cut: str) -> None:
    assert [str(found) for found in parse_encoders(request_text)] == [cut]
    assert [str(found) for found in parse_encoders(cut)] == [cut]


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_short_name_is_a_model_of_timm_with_weights_that_can_be_cut_at_224_pixels(name: str) -> None:
    spec = encoder_spec(name)
    assert spec.name == f"timm/{SHORT_NAMES[name]}"
    assert SHORT_NAMES[name] in timm.list_models(pretrained=True)
    assert all(EncoderCut(spec.name, layer).shape(224).channels > 0 for layer in (*spec.layers,)[:2])


def test_an_image_that_is_no_multiple_of_the_patches_is_refused_and_not_cropped() -> None:
    cut, = parse_encoders("dinov2_s:block1")
    assert str(cut.shape(448)) == "384×32×32"
    with pytest.raises(RequestError, match=r"patches have 14 × 14 pixels\. Allowed: multiples of 224, such as 224 or"):
        cut.shape(256)
    with pytest.raises(RequestError, match="such as 224 or 448"):
        cut.shape(64)
    with pytest.raises(RequestError, match="such as 448 or 672"):
        cut.shape(640)


@pytest.mark.parametrize(("node", "name"), [
    ("blocks.0", "block1"), ("stages.3", "stage4"), ("stages_0", "stage1"), ("layers.1", "layers.1"),
    ("features.norm0", "features.norm0"), ("blocks.0.stack.act3", "blocks.0.stack.act3"), ("", "feature5"),
])
def test_layers_are_counted_from_one_where_timm_counts_blocks_and_stages(node: str, name: str) -> None:
    assert timm_models.layer_name(node, 5) == name


@pytest.mark.parametrize(("text", "message"), [
    ("timm/resnet344", r"timm has no model 'resnet344' among its [\d,]+\. Nearest: resnet34, "),
    ("timm/resnet18.a1_in2k", r"timm's resnet18 has no weights tag 'a1_in2k'.*Did you mean 'a1_in1k'"),
    ("timm/resnet18:layer5", r"timm/resnet18.a1_in1k has no layer 'layer5'. Known: act1, layer1.*Did you mean"),
    ("timm/", r"timm has no model ''"),
])
def test_unknown_names_of_timm_are_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        parse_encoders(text)


def test_names_of_timm_are_read_from_its_source_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(_timm_names.model_names()) == set(timm.list_models())
    monkeypatch.delitem(sys.modules, "timm")
    with pytest.raises(UnknownNameError, match=r"timm has no model 'resnet344' among its [\d,]+\. Nearest: resnet34, "):
        _timm_names.require_possible_model("resnet344")
    for name in (*timm.list_models()[::100], *list(_deprecated_models)[::20], "resnet18.any_tag"):
        _timm_names.require_possible_model(name)


@pytest.mark.parametrize("name", ["vit_small", "pvt_v2_b2"])
def test_the_catalogue_says_of_timms_models_what_timm_says(name: str) -> None:
    ours, theirs = ENCODERS[name], encoder_spec(f"timm/{ENCODERS[name].model}")
    assert ours.layers == theirs.layers
    assert ours.normalisation == theirs.normalisation


@pytest.mark.parametrize(("text", "image_size"), [
    ("timm/test_vit:block3", 64), ("timm/test_vit:block3", 224), ("timm/test_convnext:stage2", 64),
    ("timm/test_efficientnet:block2", 224), ("timm/test_resnet:layer1", 64), ("timm/mobilenetv3_small_050:block4", 64),
    ("timm/swin_tiny_patch4_window7_224:layers.0", 64),
])
def test_features_are_those_of_the_unpruned_model_as_a_map(
        text: str, image_size: int, from_file: Build, tmp_path: Path) -> None:
    cut, = parse_encoders(text)
    torch.manual_seed(3)
    whole = timm_models.create(cut.spec.model, image_size, device="cpu").eval()
    torch.save(whole.state_dict(), tmp_path / "x.pth")
    outputs: list[torch.Tensor] = []
    whole.get_submodule(cut.spec.layers[cut.layer].node).register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output))
    images = torch.rand(2, 3, image_size, image_size)
    with torch.no_grad():
        whole(normalise(images, cut.spec.normalisation))
    encoder = from_file(str(cut), tmp_path / "x.pth", image_size)
    features = encoder(images)
    assert features.shape[1:] == encoder.feature_shape
    assert torch.equal(features, _as_map(outputs[0], features.shape))
    kept = sum(parameter.numel() for parameter in encoder.parameters())
    assert kept < sum(parameter.numel() for parameter in whole.parameters())


@pytest.mark.parametrize(("encoder", "layer"), [("pvt_v2_b2", "stage1"), ("pvt_v2_b2", "stage3"),
                                                ("timm/pvt_v2_b0", "stage2")])
def test_a_layer_can_be_cut_before_its_norm(encoder: str, layer: str, random_encoder: Build) -> None:
    before, after = (random_encoder(f"{encoder}:{layer}{suffix}", 64) for suffix in ("-prenorm", ""))
    node = after.cut.spec.layers[layer].node
    norm = after.trunk.get_submodule(node).norm
    assert isinstance(norm, torch.nn.LayerNorm)
    assert after.trunk_state().keys() - before.trunk_state().keys() == {f"{node}.norm.weight", f"{node}.norm.bias"}
    images = torch.rand(2, 3, 64, 64)
    tokens = before(images)
    assert before.feature_shape == after.feature_shape
    torch.testing.assert_close(norm(tokens.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), after(images))
    assert not torch.allclose(tokens, after(images))


def _as_map(output: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if output.ndim == 3:  # tokens behind a class token
        return output[:, -shape[2] * shape[3]:].transpose(1, 2).reshape(shape)
    return output if output.shape == shape else output.permute(0, 3, 1, 2)


def test_position_embeddings_of_any_timm_vit_follow_the_image_size(random_encoder: Build, from_file: Build,
                                                                   tmp_path: Path) -> None:
    text = "timm/test_vit.r160_in1k:block1"
    torch.save(random_encoder(text, 160).trunk_state(), tmp_path / "x.pth")
    encoder = from_file(text, tmp_path / "x.pth", 96)
    assert encoder(torch.rand(1, 3, 96, 96)).shape == (1, 64, 6, 6)


def test_a_size_that_a_model_cannot_have_is_refused_by_name() -> None:
    cut, = parse_encoders("timm/efficientformer_l1:stage4")
    with pytest.raises(RequestError, match=r"timm/efficientformer_l1\.\w+ cannot be run at image_size 64: "):
        cut.shape(64)


def test_a_model_without_timms_feature_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_models, "create", lambda name: torch.nn.Linear(1, 1))
    with pytest.raises(RequestError, match=r"timm/resnet10t\.c3_in1k cannot be cut"):
        parse_encoders("timm/resnet10t")


def test_timm_tells_where_the_weights_are() -> None:
    assert timm_models.weights_location("resnet18.a1_in1k")[1] == "timm/resnet18.a1_in1k"
    untrained = next(name for name in timm.list_models() if not timm_models.pretrained_config(name).has_weights)
    assert timm_models.weights_location(untrained)[:2] == ("", "")


State = dict[str, torch.Tensor]


def renamed(state: State, *rules: tuple[str, str]) -> State:
    """timm's names as those of the original authors, by regular expressions."""
    found = {}
    for name, tensor in state.items():
        for pattern, text in rules:
            name = re.sub(pattern, text, name)
        found[name] = tensor
    return found


def pvt_of_its_authors(state: State) -> State:
    state = renamed(state, (r"dwconv", r"dwconv.dwconv"), (r"^patch_embed\.", r"patch_embed1."))
    for stage in range(4):
        state = renamed(state, (rf"^stages\.{stage}\.blocks\.", f"block{stage + 1}."),
                        (rf"^stages\.{stage}\.downsample", f"patch_embed{stage + 1}"),
                        (rf"^stages\.{stage}\.norm", f"norm{stage + 1}"))
    return state


def convnext_of_its_authors(state: State) -> State:
    return renamed(state, (r"^stem\.", "downsample_layers.0."), (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
                   (r"^stages\.(\d)\.downsample", r"downsample_layers.\1"), (r"conv_dw", "dwconv"),
                   (r"mlp\.fc", "pwconv"), (r"^head\.norm", "norm"), (r"^head\.fc", "head"))


def swin_of_its_authors(state: State) -> State:
    """They downsample at a stage's end, timm at the beginning of the next."""
    for stage in range(1, 4):
        state = renamed(state, (rf"^layers\.{stage}\.downsample", f"layers.{stage - 1}.downsample"))
    return renamed(state, (r"^head\.fc", "head"))


ORIGINALS: dict[str, Callable[[State], State]] = {
    "pvt_v2_b2:stage2": pvt_of_its_authors,
    "timm/convnext_atto:stage2": convnext_of_its_authors,
    "timm/swin_tiny_patch4_window7_224:layers.1": swin_of_its_authors,
    "timm/deit3_small_patch16_224:block2": lambda state: renamed(state, (r"ls(\d)\.gamma", r"gamma_\1")),
    "timm/test_vit:block2": lambda state: state | {
        "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)},  # of a linear layer
}


@pytest.mark.parametrize(("text", "original"), ORIGINALS.items(), ids=ORIGINALS)
def test_checkpoints_of_the_original_authors_are_read_by_timms_own_filter(
        text: str, original: Callable[[State], State], from_file: Build, tmp_path: Path) -> None:
    cut, = parse_encoders(text)
    torch.manual_seed(3)
    state = timm_models.create(cut.spec.model, 224, device="cpu").state_dict()
    backbone = {f"module.backbone.{name}": tensor for name, tensor in original(state).items()}
    torch.save({"model": backbone | {"module.neck.weight": torch.ones(2)}, "epoch": 3}, tmp_path / "x.pth")
    found = from_file(str(cut), tmp_path / "x.pth", 224).trunk_state()
    assert len(found) > 10
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())


def test_of_several_original_checkpoints_in_a_file_one_is_named(
        random_encoder: Build, from_file: Build, tmp_path: Path) -> None:
    student, teacher = (pvt_of_its_authors(random_encoder("pvt_v2_b2:stage1", 64, weights).trunk_state())
                        for weights in ("random:1", "random:2"))
    torch.save({"student": student, "teacher": teacher}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"there 2 times, as 'student', 'teacher'\. Say which: FILE#student"):
        from_file("pvt_v2_b2:stage1", tmp_path / "x.pth")
    assert torch.equal(student["patch_embed1.proj.weight"],
                       random_encoder("pvt_v2_b2:stage1", 64, "random:1").trunk_state()["patch_embed.proj.weight"])


def test_a_dino_checkpoint_is_read_at_another_image_size(random_encoder: Build, from_file: Build, tmp_path: Path
                                                         ) -> None:
    text = "timm/test_vit.r160_in1k:block1"
    state = random_encoder(text, 160).trunk_state()
    torch.save({"teacher": {f"backbone.{name}": tensor for name, tensor in state.items()}
                | {"head.mlp.0.weight": torch.ones(3, 64)}}, tmp_path / "dino.pth")
    torch.save(state, tmp_path / "plain.pth")
    found, expected = (from_file(text, tmp_path / name, 96).trunk_state() for name in ("dino.pth", "plain.pth"))
    assert found["pos_embed"].shape[1] < state["pos_embed"].shape[1]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
