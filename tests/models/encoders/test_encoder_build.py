"""Built encoders: the original's features, cut, normalised, frozen."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models  # type: ignore[import-untyped]

from inversion.errors import RequestError, WeightsError
from inversion.images import IMAGENET, normalise
from inversion.models import encoders
from inversion.models.encoders import ENCODERS, EncoderCut, WeightsSource, imagenet_status, parse_encoders
from inversion.models.encoders._torchvision import PairwiseMaxPool
from inversion.models.encoders.build import Encoder, build_encoder

IMAGE_SIZE = 64

Build = Callable[..., Encoder]
GetOriginal = Callable[[str], Any]

STUDY = ["vgg16:block1", "vgg16:block3", "resnet34:layer1", "resnet34:layer2",
         "vit_small:block1", "vit_small:block3", "pvt_v2_b2:stage1", "pvt_v2_b2:stage2"]
EVERY = [f"{name}:{layer}" for name, spec in ENCODERS.items() for layer, known in spec.layers.items()
         if not known.part]


@pytest.mark.parametrize("text", EVERY)
def test_every_layer_gives_the_features_of_the_whole_original_model(
        text: str, original: GetOriginal, from_file: Build) -> None:
    name, _, layer = text.partition(":")
    whole = original(name)
    encoder = from_file(text, whole.pth)
    features = encoder(whole.images)
    assert torch.equal(features, whole.features[layer])
    assert features.shape[1:] == encoder.feature_shape == EncoderCut(name, layer).shape(IMAGE_SIZE)


def test_the_example_in_the_packages_docstring_is_all_that_an_encoder_needs(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = inspect.cleandoc(str(encoders.__doc__)).partition("::\n")[2].partition("\n    )\n")[0] + ")"
    spec = eval(example.strip(), dict(vars(encoders)))
    monkeypatch.setitem(ENCODERS, spec.name, spec)
    weights = models.get_weight(spec.weights)
    assert spec.weights_url == weights.url
    whole = models.resnet18().eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    images = torch.rand(2, 3, 64, 64)
    early = whole.maxpool(whole.relu(whole.bn1(whole.conv1(normalise(images, IMAGENET)))))
    for layer, expected in (("layer1", whole.layer1(early)), ("layer2", whole.layer2(whole.layer1(early)))):
        (cut,) = parse_encoders(f"{spec.name}:{layer}")
        source = WeightsSource(spec.name, "file", path=tmp_path / "whole.pth")
        features = encoders.build_encoder(cut, source, 64)(images)
        assert torch.equal(features, expected)
        assert features.shape[1:] == cut.shape(64)
        encoders.build_encoder(cut, WeightsSource(spec.name, "random"), 64)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (tmp_path / "whole.pth").rename(checkpoints / weights.url.rpartition("/")[2])
    assert imagenet_status(cut) == "cached"


@pytest.mark.parametrize("text", STUDY)
@pytest.mark.parametrize("image_size", [224, 256])
def test_the_studys_layers_have_their_shapes_at_other_image_sizes(
        text: str, image_size: int, random_encoder: Build) -> None:
    encoder = random_encoder(text, image_size)
    images = torch.rand(1, 3, image_size, image_size)
    features = encoder(images)
    assert features.shape[1:] == encoder.feature_shape
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("text", ["vgg16:block1", "resnet34:layer2", "vit_small:block3", "pvt_v2_b2:stage2"])
def test_a_safetensors_file_serves_like_a_pth_file(text: str, original: GetOriginal, from_file: Build) -> None:
    whole = original(text.partition(":")[0])
    assert torch.equal(from_file(text, whole.safetensors)(whole.images), from_file(text, whole.pth)(whole.images))


@pytest.mark.parametrize("text", STUDY)
def test_a_file_of_only_the_needed_layers_serves_too(
        text: str, original: GetOriginal, from_file: Build, tmp_path: Path) -> None:
    whole = original(text.partition(":")[0])
    encoder = from_file(text, whole.pth)
    save_file(encoder.trunk_state(), tmp_path / "cut.safetensors")
    assert (tmp_path / "cut.safetensors").stat().st_size < 0.6 * whole.safetensors.stat().st_size
    assert torch.equal(from_file(text, tmp_path / "cut.safetensors")(whole.images), encoder(whole.images))


NEEDED_PARAMETERS = {  # of the layer's blocks and what comes before them, counted by hand from the papers' tables
    "vgg16:block1": 38_720, "resnet34:layer1": 9_408 + 128 + 6 * 36_864 + 12 * 64,
    "vit_small:block1": 16 * 16 * 3 * 384 + 384 + 384 + 17 * 384 + (12 * 384**2 + 13 * 384),
}


@pytest.mark.parametrize("text", STUDY)
def test_nothing_behind_the_cut_is_kept(text: str, original: GetOriginal, from_file: Build) -> None:
    name, _, layer = text.partition(":")
    encoder = from_file(text, original(name).pth)
    node = ENCODERS[name].layers[layer].node
    order = list(original(name).model.state_dict())
    last = max(index for index, tensor in enumerate(order) if tensor.startswith(f"{node}.")) if name != "vgg16" else \
        order.index(f"features.{int(node.split('.')[1]) - 2}.bias")
    assert set(encoder.trunk_state()) == set(order[: last + 1])
    stored = sum(tensor.untyped_storage().nbytes() for tensor in encoder.trunk.state_dict().values())
    assert stored == sum(tensor.nbytes for tensor in encoder.trunk.state_dict().values())
    if text in NEEDED_PARAMETERS:
        assert sum(parameter.numel() for parameter in encoder.parameters()) == NEEDED_PARAMETERS[text]


@pytest.mark.parametrize("text", STUDY)
def test_nothing_behind_the_cut_is_there_to_run(text: str, random_encoder: Build) -> None:
    encoder = copy.deepcopy(random_encoder(text))
    ran: set[str] = set()
    modules = {name: module for name, module in encoder.trunk.named_modules()
               if not list(module.children()) and next(module.parameters(), None) is not None}
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    encoder(torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    assert ran == set(modules)


@pytest.mark.parametrize(("text", "multiplications"), [
    ("vgg16:block1", 64 * 64 * 9 * (3 * 64 + 64 * 64)),
    ("resnet34:layer1", 32 * 32 * 49 * 3 * 64 + 6 * 16 * 16 * 9 * 64 * 64),
])
def test_a_forward_pass_costs_what_the_layers_up_to_the_cut_cost(
        text: str, multiplications: int, random_encoder: Build) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        random_encoder(text)(torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    assert counter.get_total_flops() == 2 * multiplications


@pytest.mark.parametrize("text", ["vgg16:block1", "resnet34:layer2", "vit_small:block1", "pvt_v2_b2:stage1"])
def test_ten_training_steps_leave_the_encoder_as_it_was(text: str, original: GetOriginal, from_file: Build) -> None:
    encoder = from_file(text, original(text.partition(":")[0]).pth)
    before = copy.deepcopy(encoder.trunk.state_dict())
    decoder = nn.Conv2d(encoder.feature_shape.channels, 3, 1)
    model = nn.Sequential(encoder, decoder)
    optimiser = torch.optim.AdamW(list(model.parameters()), lr=0.1, weight_decay=0.1)
    decoder_before = decoder.weight.clone()
    model.train()
    for _ in range(10):
        optimiser.zero_grad()
        model(torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE)).square().mean().backward()
        optimiser.step()
    assert not torch.equal(decoder.weight, decoder_before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.trunk.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


@pytest.mark.parametrize("text", ["vgg16:block1", "resnet34:layer2", "vit_small:block1", "pvt_v2_b2:stage1"])
def test_a_copy_is_as_frozen_as_the_encoder(text: str, random_encoder: Build) -> None:
    encoder = random_encoder(text)
    copied, images = copy.deepcopy(encoder), torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert not any(module.training for module in copied.modules())
    assert torch.equal(copied(images), encoder(images))


def test_features_carry_no_gradient_unless_asked_for(random_encoder: Build) -> None:
    encoder = random_encoder("vgg16:block1")
    images = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE, requires_grad=True)
    assert not encoder(images).requires_grad
    features = encoder.differentiable(images)
    assert torch.equal(features, encoder(images))
    features.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize(("text", "mean", "std"), [
    ("vgg16:block1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("resnet34:layer1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("vit_small:block1", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("pvt_v2_b2:stage1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
def test_each_encoder_normalises_as_it_was_trained(
        text: str, mean: tuple[float, ...], std: tuple[float, ...], random_encoder: Build) -> None:
    encoder = copy.deepcopy(random_encoder(text))
    seen: list[torch.Tensor] = []
    next(encoder.trunk.children()).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    if text.startswith("vgg16"):  # its first child is a container that the cut model does not call
        encoder.trunk.get_submodule("features.0").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    encoder(images)
    expected = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(seen[0], expected)


def test_another_normalisation_takes_the_place_of_the_encoders_own(random_encoder: Build) -> None:
    cut = EncoderCut("vit_small", "block1")
    published = build_encoder(cut, WeightsSource("vit_small", "random"), IMAGE_SIZE, normalisation=IMAGENET)
    images = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    own = random_encoder("vit_small:block1")
    undone = normalise(images, IMAGENET) * 0.5 + 0.5
    torch.testing.assert_close(published(images), own(undone))
    assert published.normalisation == IMAGENET


def test_position_embeddings_of_another_image_size_are_resampled_as_timm_does(
        original: GetOriginal, from_file: Build, tmp_path: Path) -> None:
    whole = copy.deepcopy(original("vit_small").model)
    kept = from_file("vit_small:block3", original("vit_small").pth)
    torch.save(kept.trunk_state(), tmp_path / "cut.pth")
    whole.set_input_size(img_size=96)
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        expected = whole.forward_intermediates(
            normalise(images, kept.normalisation), indices=[2], norm=False, intermediates_only=True)[0]
    for file in (original("vit_small").pth, tmp_path / "cut.pth"):
        torch.testing.assert_close(from_file("vit_small:block3", file, 96)(images), expected)


@pytest.mark.parametrize(("text", "name"), [
    ("vgg16:block1", "features.2.weight"), ("resnet34:layer1", "layer1.2.bn2.running_var"),
    ("vit_small:block1", "pos_embed"), ("pvt_v2_b2:stage1", "stages.0.blocks.1.attn.q.weight"),
])
def test_a_missing_or_misshapen_tensor_is_named(text: str, name: str, random_encoder: Build, from_file: Build,
                                                tmp_path: Path) -> None:
    state = random_encoder(text).trunk_state()
    tensor = state.pop(name)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=rf"x\.pth do not fit {text}: tensor '{name}' .* is missing \(1 of "):
        from_file(text, tmp_path / "x.pth")
    torch.save(state | {name: torch.cat([tensor, tensor], -1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=rf"x\.pth do not fit {text}: tensor '{name}' has shape .* is needed"):
        from_file(text, tmp_path / "x.pth")


def test_a_file_for_another_patch_size_is_refused_not_resized(random_encoder: Build, from_file: Build,
                                                             tmp_path: Path) -> None:
    state = random_encoder("vit_small:block1").trunk_state()
    state["patch_embed.proj.weight"] = torch.zeros(384, 3, 32, 32)
    state["pos_embed"] = torch.zeros(1, 5, 384)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"'patch_embed\.proj\.weight' has shape"):
        from_file("vit_small:block1", tmp_path / "x.pth")


def test_encoders_own_their_weights_not_the_file(random_encoder: Build, from_file: Build, tmp_path: Path) -> None:
    torch.save(random_encoder("vgg16:block1").trunk_state(), tmp_path / "x.pth")
    encoder = from_file("vgg16:block1", tmp_path / "x.pth")
    images = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    before = encoder(images)
    content = (tmp_path / "x.pth").read_bytes()
    with (tmp_path / "x.pth").open("r+b") as file:  # overwritten in place, under a mapping if there were one
        file.write(b"\xff" * len(content))
    assert torch.equal(encoder(images), before)


def test_an_image_size_the_encoder_cannot_have_is_refused() -> None:
    with pytest.raises(RequestError, match="image_size 100: vit_small:block1 needs a multiple of 32"):
        build_encoder(EncoderCut("vit_small", "block1"), WeightsSource("vit_small", "random"), 100)


def test_a_pairwise_maximum_is_pytorchs_pooling_with_and_without_a_gradient() -> None:
    values = torch.randn(2, 3, 9, 10)
    expected = torch.nn.functional.max_pool2d(values, 2)
    assert torch.equal(PairwiseMaxPool()(values), expected)
    one, other = values.clone().requires_grad_(), values.clone().requires_grad_()
    PairwiseMaxPool()(one).square().sum().backward()
    torch.nn.functional.max_pool2d(other, 2).square().sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(one.grad, other.grad)
