"""What the parameter ``weights`` may say, and what the digest of a run takes from it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest

from inversion.errors import UnknownNameError, WeightsError
from inversion.models.encoders import ENSEMBLE, EncoderCut, WeightsSource, parse_weights

VGG = EncoderCut("vgg16", "block1")
RESNET = EncoderCut("resnet34", "layer1")
TIMM = EncoderCut("timm/resnet18.a1_in1k", "layer1")


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())


def test_keywords_hold_for_every_encoder() -> None:
    for text, kind, seed in [("imagenet", "imagenet", 0), ("random", "random", 0), ("random:7", "random", 7)]:
        sources = parse_weights(text, ENSEMBLE)
        assert list(sources) == [cut.encoder for cut in ENSEMBLE]
        assert {(source.kind, source.seed, str(source)) for source in sources.values()} == {(kind, seed, text)}


def test_auto_is_for_the_caller_to_resolve() -> None:
    with pytest.raises(ValueError, match="resolved"):
        parse_weights("auto", [VGG])


def test_one_file_serves_several_cuts_of_one_encoder_but_not_two_encoders(tmp_path: Path) -> None:
    touch(tmp_path, "mine.pth")
    file = tmp_path / "mine.pth"
    assert parse_weights(str(file), [VGG, EncoderCut("vgg16", "block3")]) == {
        "vgg16": WeightsSource("vgg16", "file", path=file)}
    with pytest.raises(WeightsError, match=r"one file for several encoders.*vgg16=FILE,resnet34=FILE"):
        parse_weights(str(file), [VGG, RESNET])


def test_a_folder_has_one_file_per_encoder_and_an_exact_name_goes_first(tmp_path: Path) -> None:
    touch(tmp_path, "vgg16-397923af.pth", "resnet34.safetensors", "resnet34-old.pt", "resnet34.txt",
          "resnet18.a1_in1k.pth")
    sources = parse_weights(str(tmp_path), [VGG, RESNET, TIMM])
    assert [source.path.name for source in sources.values() if source.path] == [
        "vgg16-397923af.pth", "resnet34.safetensors", "resnet18.a1_in1k.pth"]


@pytest.mark.parametrize(("names", "message"), [
    (("resnet34.pth", "vgg.pth"), r"has no file vgg16\*.*it has resnet34.pth, vgg.pth"),
    ((), "has no file vgg16.*no weights at all"),
    (("vgg16-a.pth", "vgg16-b.pt"), "several files for vgg16: vgg16-a.pth, vgg16-b.pt"),
    (("vgg16.pth", "vgg16.safetensors"), "several files for vgg16: vgg16.pth, vgg16.safetensors"),
])
def test_a_folder_without_exactly_one_file_is_refused(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    touch(tmp_path, *names)
    with pytest.raises(WeightsError, match=message):
        parse_weights(str(tmp_path), [VGG])


def test_a_mapping_gives_each_encoder_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.pth")
    sources = parse_weights(f"resnet34=random:3, vgg16={tmp_path}/a.pth, pvt_v2_b2=imagenet", [VGG, RESNET])
    assert sources == {"vgg16": WeightsSource("vgg16", "file", path=tmp_path / "a.pth"),
                       "resnet34": WeightsSource("resnet34", "random", seed=3)}


@pytest.mark.parametrize(("text", "message"), [
    ("vgg16=random", "nothing is given for resnet34. Add resnet34=FILE"),
    ("vgg16=random,vgg16=imagenet,resnet34=random", "vgg16 is given twice"),
    ("vgg16=random,resnet34", "'resnet34' is not of the form ENCODER=FILE"),
    ("vgg16=random,resnet34=nowhere.pth", "'nowhere.pth': no such file"),
])
def test_a_mapping_that_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        parse_weights(text, [VGG, RESNET])


def test_an_encoder_that_does_not_exist_is_refused_in_a_mapping() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown encoder 'vgg61'.*Did you mean 'vgg16'"):
        parse_weights("vgg61=random", [VGG])


@pytest.mark.parametrize(("text", "message"), [
    ("imagnet", "Did you mean 'imagenet'"),
    ("random:x", "none of imagenet, random, random:SEED"),
    ("random:-1", "none of imagenet, random, random:SEED"),
    ("random:" + "9" * 5000, "has 5,000 digits. Allowed: a whole number of at most 18"),
    ("nowhere/vgg16.pth", "no such file or folder"),
])
def test_text_that_is_neither_a_keyword_nor_a_path_is_refused(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        parse_weights(text, [VGG])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "vgg16.h5")
    with pytest.raises(WeightsError, match=r"only state dicts as \.pth, \.pt, \.safetensors"):
        parse_weights(str(tmp_path / "vgg16.h5"), [VGG])


def test_the_identity_of_a_file_is_its_content(tmp_path: Path) -> None:
    touch(tmp_path, "vgg16.pth")
    source = parse_weights(str(tmp_path), [VGG])["vgg16"]
    assert source.identity() == "sha256:" + hashlib.sha256(b"vgg16.pth").hexdigest()
    (tmp_path / "vgg16.pth").write_bytes(b"other content")
    assert source.identity() == "sha256:" + hashlib.sha256(b"other content").hexdigest()
    (tmp_path / "vgg16.pth").unlink()
    with pytest.raises(WeightsError, match=r"vgg16\.pth cannot be read"):
        source.identity()


def test_the_identity_of_imagenet_weights_names_file_or_tag() -> None:
    assert [source.identity() for source in parse_weights("imagenet", [*ENSEMBLE, TIMM]).values()] == [
        "resnet34-b627a593.pth", "vgg16-397923af.pth", "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        "timm/pvt_v2_b2.in1k", "timm/resnet18.a1_in1k"]


def test_the_identity_of_random_weights_is_the_seed_and_who_draws_them() -> None:
    assert parse_weights("random:7", [VGG])["vgg16"].identity() == "random:7:v1"
    assert parse_weights("random", [TIMM])[TIMM.encoder].identity() == f"random:0:timm-{version('timm')}"
