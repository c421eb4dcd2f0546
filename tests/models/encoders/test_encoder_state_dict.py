"""Reading state dicts, and the messages when they do not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from inversion.errors import WeightsError
from inversion.models.encoders.state_dict import fit, read_state_dict

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = TENSORS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("content", [
    TENSORS,
    {"state_dict": TENSORS, "epoch": 3},
    {"model": TENSORS},
    {"model_state_dict": TENSORS, "optimizer": {"lr": 0.1}},
    {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
    {f"_orig_mod.module.{name}": tensor for name, tensor in TENSORS.items()},
    TENSORS | {"version": 2},
], ids=["plain", "state_dict", "model", "model_state_dict", "module.", "_orig_mod.module.", "other entries"])
def test_state_dicts_are_found_in_the_usual_wrappings(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert same(read_state_dict(tmp_path / "x.pth"))


def test_a_prefix_that_only_some_names_have_is_part_of_the_names(tmp_path: Path) -> None:
    tensors = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    torch.save(tensors, tmp_path / "x.pt")
    assert same(read_state_dict(tmp_path / "x.pt"), tensors)


def test_safetensors_and_the_old_pickle_format_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(read_state_dict(tmp_path / "x.safetensors"))
    assert same(read_state_dict(tmp_path / "old.pth"))


class Hostile:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    torch.save({"a": Hostile(tmp_path / "hacked")}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"x\.pth cannot be read \(.*posix\.mkdir.*: do not trust it\)") as error:
        read_state_dict(tmp_path / "x.pth")
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 torn"])
def test_files_that_are_no_state_dicts_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name} cannot be read \(.*\): only plain state dicts"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], {"epoch": 3}, {}])
def test_a_file_without_tensors_by_name_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_state_dict(tmp_path / "x.pth")


def test_a_missing_tensor_is_named_with_its_shape_the_count_and_the_nearest_name() -> None:
    needed = {"a.weight": torch.empty(2, 3), "b.bias": torch.empty(2), "c.bias": torch.empty(2)}
    with pytest.raises(WeightsError) as error:
        fit(needed, TENSORS, "weights x.pth do not fit y")
    assert str(error.value) == ("weights x.pth do not fit y: tensor 'b.bias' (2,) is missing (2 of 3 are). "
                                "Nearest name in it: 'a.bias'.")


def test_a_misshapen_tensor_is_named_with_both_shapes() -> None:
    with pytest.raises(WeightsError) as error:
        fit({"a.weight": torch.empty(3, 3)}, TENSORS, "weights x.pth do not fit y")
    assert str(error.value) == ("weights x.pth do not fit y: tensor 'a.weight' has shape (2, 3) where (3, 3) is needed")


def test_only_counters_of_batches_may_be_missing_and_types_are_those_needed() -> None:
    needed = {"a.bias": torch.empty(2, device="meta"), "n.num_batches_tracked": torch.tensor(5)}
    fitted = fit(needed, {"a.bias": torch.ones(2).half(), "extra": torch.ones(1)}, "")
    assert same(fitted, {"a.bias": torch.ones(2), "n.num_batches_tracked": torch.tensor(0)})
    assert fitted["a.bias"].dtype == torch.float32


def test_what_is_fitted_is_a_copy() -> None:
    found = {"a": torch.ones(2)}
    fit({"a": torch.empty(2)}, found, "")["a"].zero_()
    assert found["a"].sum() == 2
