"""Which encoders and layers there are, and how requests for them are read."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import timm

from inversion.errors import RequestError, UnknownNameError
from inversion.models import FeatureShape
from inversion.models.encoders import ENCODERS, ENSEMBLE, EncoderCut, parse_encoders
from inversion.models.encoders._forms import timm_names


def cuts(encoder: str, layer: str = "auto") -> list[str]:
    return [str(cut) for cut in parse_encoders(encoder, layer)]


@pytest.mark.parametrize(("cut", "shape"), [
    ("vgg16:block1", (64, 112, 112)), ("vgg16:block2", (128, 56, 56)), ("vgg16:block3", (256, 28, 28)),
    ("vgg16:block4", (512, 14, 14)), ("vgg16:block5", (512, 7, 7)),
    ("resnet34:layer1", (64, 56, 56)), ("resnet34:layer2", (128, 28, 28)), ("resnet34:layer3", (256, 14, 14)),
    ("resnet34:layer4", (512, 7, 7)), ("vit_small:block1", (384, 14, 14)), ("vit_small:block12", (384, 14, 14)),
    ("pvt_v2_b2:stage1", (64, 56, 56)), ("pvt_v2_b2:stage2", (128, 28, 28)), ("pvt_v2_b2:stage3", (320, 14, 14)),
    ("pvt_v2_b2:stage4", (512, 7, 7)),
])
def test_features_at_224_are_those_of_the_study(cut: str, shape: tuple[int, int, int]) -> None:
    assert parse_encoders(cut)[0].shape(224) == FeatureShape(*shape)


def test_the_layers_are_those_of_the_study() -> None:
    assert {name: list(spec.layers) for name, spec in ENCODERS.items()} == {
        "vgg16": [f"block{number}" for number in range(1, 6)],
        "resnet34": [f"layer{number}" for number in range(1, 5)],
        "vit_small": [f"block{number}{part}" for part in ("", "-cls", "-q", "-k", "-v") for number in range(1, 13)],
        "pvt_v2_b2": [f"stage{number}{norm}" for norm in ("", "-prenorm") for number in range(1, 5)],
    }


@pytest.mark.parametrize(("encoder", "layer", "expected"), [
    ("vgg16", "auto", ["vgg16:block1"]),
    ("vgg16", "block3", ["vgg16:block3"]),
    ("resnet34:layer2", "auto", ["resnet34:layer2"]),
    (" vgg16 : block2 + resnet34 ", "auto", ["vgg16:block2", "resnet34:layer1"]),
    ("vgg16:block1+vgg16:block3", "auto", ["vgg16:block1", "vgg16:block3"]),
    ("ensemble", "auto", ["resnet34:layer1", "vgg16:block1", "vit_small:block1", "pvt_v2_b2:stage1"]),
    ("ensemble+vgg16:block3", "auto", [*map(str, ENSEMBLE), "vgg16:block3"]),
    ("vit_small:blocks.2", "auto", ["vit_small:block3"]),
    ("vgg16:block1+block3+resnet34", "auto", ["vgg16:block1", "vgg16:block3", "resnet34:layer1"]),
    ("vgg16:block1/pool=2 + block1 + features.9", "auto", ["vgg16:block1/pool=2", "vgg16:block1", "vgg16:block2"]),
    ("vit_small:block6-cls+block6-k", "auto", ["vit_small:block6-cls", "vit_small:block6-k"]),
    ("vgg16", "block1+block3/pool=2", ["vgg16:block1", "vgg16:block3/pool=2"]),
])
def test_requests_are_read(encoder: str, layer: str, expected: list[str]) -> None:
    assert cuts(encoder, layer) == expected


def test_what_a_cut_prints_is_read_back_as_the_same_cut() -> None:
    every = [EncoderCut(name, layer) for name, spec in ENCODERS.items() for layer in spec.layers]
    assert [parse_encoders(str(cut)) for cut in every] == [(cut,) for cut in every]


@pytest.mark.parametrize(("encoder", "message"), [
    ("vgg16:blok1", "vgg16 has no layer 'blok1'. Known: block1, block2, block3, block4, block5. "
                    "Did you mean 'block1'?"),
    ("vgg17", "unknown encoder 'vgg17'. Known: vgg16, resnet34, vit_small, pvt_v2_b2, ensemble, timm/NAME:LAYER. "
              "Did you mean 'vgg16'?"),
    ("resnet18", "unknown encoder 'resnet18'. Known: vgg16, resnet34, vit_small, pvt_v2_b2, ensemble, timm/NAME:LAYER. "
                 "Did you mean 'timm/resnet18'?"),
    ("dinov3_x", "unknown encoder 'dinov3_x'. Known: vgg16, resnet34, vit_small, pvt_v2_b2, ensemble, timm/NAME:LAYER. "
                 "Did you mean 'dinov3_s'?"),
    ("torchvision/convnext_tiny:stage1", "unknown encoder 'torchvision/convnext_tiny'. Known: vgg16, resnet34, "
     "vit_small, pvt_v2_b2, ensemble, timm/NAME:LAYER. Did you mean 'timm/convnext_tiny'?"),
    ("ViT-S/16", "unknown encoder 'ViT-S/16': timm's ViT-S/16 has this short name; timm has Vision Transformers of "
                 "other sizes. Known: vgg16, resnet34, vit_small, pvt_v2_b2, ensemble, timm/NAME:LAYER. Did you mean "
                 "'vit_small'?"),
    ("vgg16:", "vgg16 has no layer ''. Known: block1, block2, block3, block4, block5."),
])
def test_an_unknown_name_lists_the_known_ones_and_suggests(encoder: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        parse_encoders(encoder)
    assert str(error.value) == message


@pytest.mark.parametrize(("text", "ours"), [
    ("resnet-34", "resnet34"), ("ResNet34:layer2", "resnet34"), ("VGG-16", "vgg16"), ("vit-small", "vit_small"),
    ("vit_s", "vit_small"), ("ViT-S/16", "vit_small"), ("ViT-S/16:block2", "vit_small"), ("pvt", "pvt_v2_b2"),
    ("vgg16+pvt", "pvt_v2_b2"), ("torchvision.models.vgg16", "vgg16"), ("torchvision/resnet34:layer1", "resnet34"),
    ("torchvision.models.resnet50", "resnet50"), ("timm:resnet50", "resnet50"),
    ("timm.resnet50:layer2", "resnet50"), ("timm/ResNet50", "timm/resnet50"), ("resnet-50", "resnet50"),
    ("hf://timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
    ("hf_hub:facebook/dinov2-base", "timm/vit_base_patch14_dinov2"),
    ("hf-hub:timm/vgg16.tv_in1k", "timm/vgg16.tv_in1k"),
    ("https://huggingface.co/microsoft/resnet-50", "resnet50"), ("dinov2-s", "dinov2_s"),
    ("dinov2", "timm/vit_small_patch14_dinov2"), ("CLIP", "timm/vit_base_patch16_clip_224.openai"),
    ("open_clip:ViT-B-32", "timm/vit_base_patch32_clip_224.openai"), ("ViT-B/16", "timm/vit_base_patch16_224"),
])
def test_other_spellings_are_answered_with_ours(text: str, ours: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"^unknown encoder .* Did you mean '{re.escape(ours)}'\?$"):
        parse_encoders(text)


@pytest.mark.parametrize(("text", "said"), [
    ("alexnet", "there is none here; only timm's models can be encoders"),
    ("hf://some/thing", "models of Hugging Face's hub in timm's format are written as hf-hub:USER/REPO"),
    ("torchvision.models.squeezenet1_0", "timm has none of that name"),
    ("timm:resnet500", "timm has no model of that name"), ("vqgan", "timm has no such autoencoder"),
])
def test_what_is_not_supported_is_said_to_be_so_and_nothing_is_suggested(text: str, said: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        parse_encoders(text)
    assert said in str(error.value)
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(("encoder", "layer", "part"), [
    ("vgg16:block1", "block2", "Write encoder=NAME:LAYER"),
    ("vgg16:block1", "block1", "Write encoder=NAME:LAYER"),
    ("vgg16+resnet34", "block1", "Write encoder=NAME:LAYER"),
    ("ensemble", "block1", "Write encoder=NAME:LAYER"),
    ("vgg16+vgg16:block1", "auto", "vgg16:block1 is there twice"),
    ("ensemble+vgg16", "auto", "vgg16:block1 is there twice"),
    ("vgg16+", "auto", "a name is missing"),
    ("vgg16:block1+block1", "auto", "vgg16:block1 is there twice"),
    ("vgg16:block1+blok3", "auto", "vgg16 has no layer 'blok3'.*Did you mean 'block3'"),
    ("vgg16:block1+resnet33", "auto", "unknown encoder 'resnet33'.*Did you mean 'resnet34'"),
    ("vgg16+block3", "auto", "unknown encoder 'block3'"),
    ("vgg16:block1+block3..5", "auto", "vgg16:block3..5' is a range of layers"),
    ("", "auto", "a name is missing"),
])
def test_contradictory_requests_are_refused(encoder: str, layer: str, part: str) -> None:
    with pytest.raises(RequestError, match=part):
        parse_encoders(encoder, layer)


@pytest.mark.parametrize("image_size", [0, 16, 100])
def test_an_image_size_that_is_no_multiple_of_32_is_refused(image_size: int) -> None:
    with pytest.raises(RequestError, match="multiple of 32"):
        EncoderCut("vgg16", "block1").shape(image_size)


def test_the_catalogue_and_the_weights_are_known_without_importing_torch() -> None:
    program = """
import sys
from inversion.models.encoders import ENCODERS, parse_encoders, parse_weights
cuts = parse_encoders("ensemble+vgg16:block3")
[cut.shape(224) for cut in cuts]
[source.identity() for kind in ("imagenet", "random") for source in parse_weights(kind, cuts).values()]
print([name for name in ("torch", "torchvision", "timm", "mlflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_timms_models_are_known_from_its_source() -> None:
    assert set(timm.list_models()) <= timm_names()
