"""Weights files as people have them: other names, things beside the tensors, several models, damage."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inversion.errors import WeightsError
from inversion.models.encoders import EncoderCut, WeightsSource, parse_weights
from inversion.models.encoders.build import build_encoder
from tests.models.encoders.files import VGG, built, refused, same, vgg

State = dict[str, Tensor]


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.ckpt", "x.pth.tar", "x.bin", "x.safetensors", "x", "x.model",
                                  "epoch=3-step=100.ckpt", "a#b.pth"])
def test_the_content_decides_and_not_the_name(name: str, file: Callable[..., Path], tmp_path: Path) -> None:
    assert same(built(file(vgg(), name)), vgg())
    assert same(built(file(vgg(), name, _use_new_zipfile_serialization=False)), vgg())
    (tmp_path / name).unlink()
    save_file(vgg(), tmp_path / name)
    assert same(built(tmp_path / name), vgg())


@pytest.mark.parametrize("name", ["vgg16.ckpt", "vgg16-mine.pth.tar", "vgg16.bin"])
def test_a_folder_may_have_files_of_every_kind(name: str, file: Callable[..., Path], tmp_path: Path) -> None:
    file(vgg(), name)
    assert parse_weights(str(tmp_path), [VGG])["vgg16"] == WeightsSource("vgg16", "file", path=tmp_path / name)


@pytest.mark.parametrize("content", [
    {"state_dict": vgg(), "best": np.float64(0.3), "epoch": np.int64(3)},
    {"state_dict": vgg(), "args": argparse.Namespace(lr=0.1, output=Path("/tmp"), seed=np.float32(1))},
    {"net": vgg(), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0]}]}},
    {"model": vgg(), "model_ema": vgg()},
    {"state_dict": vgg(0, "module.encoder_q.") | {"module.queue": torch.ones(3)}},
    {"backbone": vgg(), "head": {"weight": torch.ones(2)}},
    {"ema": {"module": vgg()}, "decay": 0.9},
    vgg(0, "model.backbone."),
    vgg(0, "_orig_mod.module.encoder."),
    vgg() | vgg(1, "ema."),
    {"state_dict": {name: nn.Parameter(tensor) for name, tensor in vgg().items()}},
    vgg() | {"classifier.6.weight": torch.ones(10, 4096), "beside": torch.ones(1, dtype=torch.complex64)},
], ids=["NumPy's numbers", "Namespace", "optimizer", "twice the same", "MoCo", "backbone and head", "nested twice",
        "model.backbone.", "_orig_mod.module.encoder.", "own names go first", "Parameters", "what is not needed"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_models_tensors_are_found(content: object, zipped: bool, file: Callable[..., Path]) -> None:
    assert same(built(file(content, _use_new_zipfile_serialization=zipped)), vgg())


@pytest.mark.parametrize("content", [
    {"student": vgg(0, "module.backbone."), "teacher": vgg(1, "backbone.")},
    {"state_dict": {"student": vgg(0), "teacher": vgg(1)}, "epoch": 3},
    {"state_dict": vgg(0, "student.") | vgg(1, "teacher.") | {"queue": torch.ones(1)}},
], ids=["dicts", "inside a dict", "in the names"])
def test_of_several_models_one_is_named(content: object, file: Callable[..., Path]) -> None:
    path = file(content, "a#b.ckpt")
    line = refused(path)
    assert "the tensors are there 2 times, as 'student" in line
    assert "Say which: FILE#student" in line
    for part, state in (("student", vgg(0)), ("teacher", vgg(1))):
        assert same(built(f"{path}#{part}"), state)
    named = line.split("FILE#")[1].split(" or ")[0]  # what the line says can be used
    assert same(built(f"{path}#{named}"), vgg(0))


def test_a_part_is_part_of_the_identity_and_survives_a_round_trip(file: Callable[..., Path]) -> None:
    path = file({"student": vgg(0), "teacher": vgg(1)})
    whole, student, teacher = (parse_weights(f"{path}{part}", [VGG])["vgg16"] for part in ("", "#student", "#teacher"))
    assert student.identity() == f"{whole.identity()}#student" != teacher.identity()
    assert str(teacher) == f"{path}#teacher"
    assert parse_weights(f"vgg16={teacher}", [VGG])["vgg16"] == teacher


@pytest.mark.parametrize(("part", "message"), [
    ("#techer", "has no part 'techer'. Known: 'student', "), ("#techer", "Did you mean 'teacher'?"),
    ("#", "the name of a part is missing after #"), ("#teacher.features.0.weight", "has no part 'teacher.features.0"),
])
def test_a_part_that_is_not_there_is_refused(part: str, message: str, file: Callable[..., Path]) -> None:
    path = file({"student": vgg(0), "teacher": vgg(1)})
    assert message in refused(f"{path}{part}")


def test_of_several_models_only_one_may_have_the_shapes(file: Callable[..., Path]) -> None:
    smaller = {name: tensor[:8] for name, tensor in vgg(1).items()}
    assert same(built(file({"a": smaller, "b": vgg()})), vgg())


def itself() -> dict[str, object]:
    content: dict[str, object] = {**vgg()}
    content["self"] = content
    return content


def deep() -> object:
    content: object = vgg()
    for _ in range(200):
        content = {"more": content}
    return content


def wide() -> object:
    content: object = vgg()
    for _ in range(30):
        content = {"left": content, "right": content}
    return content


def spoilt(value: float) -> State:
    state = vgg()
    state["features.2.weight"][3, 2, 1, 0] = value
    return state


HELD = {
    "NaN": (spoilt(float("nan")), "1 of 36864 numbers of tensor 'features.2.weight' are NaN"),
    "infinite": (spoilt(float("-inf")), "1 of 36864 numbers of tensor 'features.2.weight' are infinite"),
    "too large for fp32": (vgg(change=lambda tensor: tensor.double() * 1e300), "are too large for float32"),
    "int8": (vgg(change=lambda tensor: tensor.to(torch.int8)), "'features.0.weight' holds int8 where floating-point"),
    "bool": (vgg(change=lambda tensor: tensor > 0), "'features.0.weight' holds bool where floating-point"),
    "complex": (vgg(change=lambda tensor: tensor.to(torch.complex64)), "'features.0.weight' holds complex64 where"),
    "meta": (vgg(change=lambda tensor: tensor.to("meta")), "'features.0.weight' has no numbers"),
    "sparse": (vgg(change=lambda tensor: tensor.to_sparse()), "'features.0.weight' is sparse: save it dense"),
    "float8": (vgg(change=lambda tensor: tensor.to(torch.float8_e4m3fn)), "'features.0.weight' is quantised"),
    "quantised": (lambda: vgg(change=lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)),
                  "is quantised"),
    "nested": (lambda: vgg(change=lambda tensor: torch.nested.nested_tensor([tensor, tensor])), "is nested"),
    "itself": (itself, "the dict 'self' contains itself"),
    "deep": (deep, "dicts more than 32 deep"),
    "wide": (wide, "more than 200,000 entries"),
    "a list": ([vgg()], "holds no tensors by name but a list"),
    "numbers as names": ({0: torch.ones(1)}, "holds no tensors by name"),
    "tuples as names": ({("a", "b"): torch.ones(1)}, "holds no tensors by name"),
    "other shapes": ({name: tensor[:8] for name, tensor in vgg().items()}, "'features.0.weight' has shape (8, 3, 3,"),
    "a missing tensor": (dict(list(vgg().items())[:3]), "'features.2.bias' (64,) is missing (1 of 4 are)"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("content", "message"), HELD.values(), ids=HELD)
def test_tensors_that_cannot_be_used_are_named(content: object, message: str, file: Callable[..., Path]) -> None:
    assert message in refused(file(content() if callable(content) else content))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_cast(dtype: torch.dtype, file: Callable[..., Path]) -> None:
    lossy = vgg(change=lambda tensor: tensor.to(dtype))
    assert same(built(file(lossy)), {name: tensor.float() for name, tensor in lossy.items()})


def test_a_negative_variance_is_named(file: Callable[..., Path], random_encoder: Callable[..., Any]) -> None:
    cut = EncoderCut("resnet34", "layer1")
    state = random_encoder("resnet34:layer1").trunk_state()
    state["layer1.2.bn2.running_var"] = -state["layer1.2.bn2.running_var"]
    with pytest.raises(WeightsError, match=r"x\.pth .*'layer1\.2\.bn2\.running_var' has negative variances"):
        build_encoder(cut, WeightsSource("resnet34", "file", path=file(state)), 64)
