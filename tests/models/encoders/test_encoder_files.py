"""Weights files as people have them: other names, things beside the tensors, several models, damage."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import shlex
import subprocess
import sys
import zipfile
from collections import defaultdict
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
from inversion.models.encoders.state_dict import read_state_dict

VGG = EncoderCut("vgg16", "block1")

State = dict[str, Tensor]


def vgg(seed: int = 0, prefix: str = "", change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> State:
    """What vgg16:block1 needs, random."""
    chance = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (64, 3, 3, 3), "0.bias": (64,), "2.weight": (64, 64, 3, 3), "2.bias": (64,)}
    return {f"{prefix}features.{name}": change(torch.randn(shape, generator=chance)) for name, shape in shapes.items()}


def built(path: Path | str) -> State:
    """What ``weights=PATH`` builds."""
    return build_encoder(VGG, parse_weights(str(path), [VGG])["vgg16"], 32).trunk_state()


def refused(path: Path | str) -> str:
    """The one line that ``weights=PATH`` ends with."""
    with pytest.raises(WeightsError) as error:
        built(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path).partition("#")[0] in line
    return line


def same(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """``file(content, "x.ckpt")``: what ``torch.save`` makes of it."""

    def save(content: object, name: str = "x.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


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
    "too large for fp32": (vgg(change=lambda tensor: tensor.double() * 1e300), "are infinite"),
    "int8": (vgg(change=lambda tensor: tensor.to(torch.int8)), "'features.0.weight' holds int8 where floating-point"),
    "bool": (vgg(change=lambda tensor: tensor > 0), "'features.0.weight' holds bool where floating-point"),
    "complex": (vgg(change=lambda tensor: tensor.to(torch.complex64)), "'features.0.weight' holds complex64 where"),
    "meta": (vgg(change=lambda tensor: tensor.to("meta")), "'features.0.weight' has no numbers"),
    "sparse": (vgg(change=lambda tensor: tensor.to_sparse()), "'features.0.weight' is sparse: save it dense"),
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


def saved(content: object, folder: Path, **options: Any) -> bytes:
    torch.save(content, folder / "whole", **options)
    return (folder / "whole").read_bytes()


def archive(member: str, folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "a.zip", "w") as made:
        made.writestr(member, b"x")
    return (folder / "a.zip").read_bytes()


def stored(folder: Path) -> bytes:
    save_file(vgg(), folder / "whole")
    return (folder / "whole").read_bytes()


BYTES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "it is empty"),
    "web page": (lambda _: b"\n<!DOCTYPE html><html>", "it is a web page"),
    "JSON": (lambda _: b'{"error": "Repository not found"}', "it is JSON text"),
    "git-lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
    "gzip": (lambda _: b"\x1f\x8b\x08\x00", "compressed with gzip: unpack it first"),
    "HDF5": (lambda _: b"\x89HDF\r\n", "an HDF5 file"),
    "zeros": (lambda _: bytes(5000), "begins with zeros"),
    "noise": (lambda _: b"torn file", "damaged, or neither PyTorch nor safetensors"),
    "half a zip": (lambda folder: saved(vgg(), folder)[:90_000], "damaged or cut short"),
    "half of the old format": (lambda folder: saved(vgg(), folder, _use_new_zipfile_serialization=False)[:90_000],
                               "damaged or cut short"),
    "half of a safetensors": (lambda folder: stored(folder)[:90_000], "safetensors file that is cut short: 90000 of "),
    "a safetensors' header": (lambda folder: stored(folder)[:60], "cut short within its header"),
    "NumPy": (lambda folder: archive("weight.npy", folder), "it is a NumPy archive"),
    "photographs": (lambda folder: archive("1.png", folder), "it is a zip archive of something else"),
    "a pickle": (lambda _: pickle.dumps({"a": 1}), "it is a Python pickle that torch.save did not write"),
}


@pytest.mark.parametrize(("make", "message"), BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_that_is_none_is_named_for_what_it_is(
        make: Callable[[Path], bytes], message: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(make(tmp_path))
    line = refused(tmp_path / name)
    assert message in line
    assert "cannot be read" in line


def test_a_file_of_another_name_and_content_is_refused_for_both(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"<html>")
    line = refused(tmp_path / "page.html")
    assert "only state dicts as .pth" in line
    assert "by its content it is a web page" in line


class Settings:
    """An object that only the user's program knows."""


OBJECTS: dict[str, tuple[object, str]] = {
    "a dict with a default": ({"model": vgg(), "meters": defaultdict(list)}, "collections.defaultdict"),
    "an object of its program": ({"state_dict": vgg(), "settings": Settings()}, f"{__name__}.Settings"),
    "NumPy's arrays": ({"model": vgg(), "curve": np.zeros(3)}, "numpy.ndarray"),
    "a whole module": (nn.Sequential(nn.ReLU()), "torch.nn.modules.container.Sequential"),
}


@pytest.mark.parametrize(("content", "name"), OBJECTS.values(), ids=OBJECTS)
def test_what_was_refused_is_named_with_a_line_that_converts(
        content: object, name: str, file: Callable[..., Path]) -> None:
    line = refused(file(content))
    assert name in line
    assert "If you trust the file, convert it: python -c " in line


@pytest.mark.acceptance
@pytest.mark.parametrize(("content", "options"), [
    ({"state_dict": vgg(), "curve": np.zeros(3)}, {}),
    ({"state_dict": vgg(), "curve": np.zeros(3)}, {"_use_new_zipfile_serialization": False}),
    (vgg(), {"pickle_protocol": 4}),
], ids=["zip", "old format", "another protocol"])
def test_the_line_converts(content: object, options: dict[str, Any], file: Callable[..., Path], tmp_path: Path) -> None:
    path = file(content, "my weights.pth", **options)
    words = shlex.split(refused(path).partition("convert it: ")[2])
    subprocess.run([sys.executable, *words[1:]], check=True)
    assert words[0] == "python"
    assert same(built(tmp_path / "my weights-tensors.pth"), vgg())


class Calling:
    """Calls a function when it is unpickled."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("function", [exec, subprocess.run], ids=["exec", "subprocess.run"])
@pytest.mark.parametrize("zipped", [True, False])
def test_functions_that_no_weights_need_are_neither_called_nor_advised(
        function: Callable[..., Any], zipped: bool, file: Callable[..., Path], tmp_path: Path) -> None:
    hacked = tmp_path / "hacked"
    call = Calling(function, f"open({str(hacked)!r}, 'w')" if function is exec else ["touch", str(hacked)])
    line = refused(file({"state_dict": vgg(), "args": call}, _use_new_zipfile_serialization=zipped))
    assert re.search(r"unpickling it would call (builtins\.)?exec," if function is exec else r"subprocess\.run,", line)
    assert "do not trust it" in line
    assert "weights_only" not in line
    assert not hacked.exists()


def test_stand_ins_for_plain_data_keep_nothing(file: Callable[..., Path]) -> None:
    path = file({"state_dict": vgg(), "args": argparse.Namespace(state_dict=vgg(1))})
    assert same(read_state_dict(path), vgg())


@pytest.mark.parametrize("text", ["x" * 400 + ".pth", "a\0b", "nowhere.pth#teacher", "#teacher"])
def test_a_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(WeightsError, match="no such file or folder"):
        parse_weights(text, [VGG])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pth")
    assert "neither a regular file nor a folder" in refused(tmp_path / "x.pth")
