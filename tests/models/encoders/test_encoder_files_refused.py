"""Files that are no weights: named for what they are, and nothing of them is run."""

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
from torch import nn

from inversion.errors import WeightsError
from inversion.files import ABSENT
from inversion.models.encoders import parse_weights
from inversion.models.encoders.state_dict import read_state_dict
from tests.models.encoders.files import VGG, built, refused, same, vgg


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


class Weights(nn.Module):
    """A module with the names of VGG16."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
        self.load_state_dict(vgg(), strict=False)


@pytest.mark.parametrize(("content", "options"), [
    ({"state_dict": vgg(), "curve": np.zeros(3)}, {}),
    ({"state_dict": vgg(), "curve": np.zeros(3)}, {"_use_new_zipfile_serialization": False}),
    (vgg(), {"pickle_protocol": 4}),
    ({"net": vgg(), "settings": Settings()}, {}),
    (vgg() | {"settings": Settings()}, {}),
    ({"model": Weights(), "epoch": 3}, {}),
    ({name: tensor.numpy() for name, tensor in vgg().items()}, {}),
], ids=["zip", "old format", "another protocol", "another key", "beside the tensors", "a module in it",
        "NumPy's arrays"])
def test_the_line_converts(content: object, options: dict[str, Any], file: Callable[..., Path], tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(content, "my weights.pth", **options)
    python, flag, program, *arguments = shlex.split(refused(path).partition("convert it: ")[2])
    assert (python, flag) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    exec(program, {})
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


@pytest.mark.parametrize(("text", "why"), [("x" * 400 + ".pth", "File name too long"), ("a\0b", ABSENT),
                                           ("nowhere.pth#teacher", ABSENT), ("#teacher", ABSENT)])
def test_a_text_that_is_no_path_is_refused(text: str, why: str) -> None:
    with pytest.raises(WeightsError, match=f": {why}, and none of imagenet"):
        parse_weights(text, [VGG])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pth")
    assert "neither a regular file nor a folder" in refused(tmp_path / "x.pth")
