"""Weights files through the commands: unusable ones are told in one line before anything is tracked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from safetensors.torch import save_file

from inversion.models.encoders.state_dict import read_state_dict

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]
State = dict[str, torch.Tensor]


@pytest.fixture
def vgg(frozen: Any) -> Callable[[str], State]:
    """``vgg("random:1")``: what vgg16:block1 needs."""
    from inversion.models.encoders import parse_encoders, parse_weights
    from inversion.models.encoders.build import build_encoder

    def make(weights: str = "random") -> State:
        cut, = parse_encoders("vgg16:block1")
        return build_encoder(cut, parse_weights(weights, [cut])["vgg16"], 32).trunk_state()

    return make


def nan(state: State) -> State:
    name = list(state)[-2]
    return state | {name: state[name] * float("nan")}


def one_line(outcome: Any) -> str:
    assert outcome.code == 2, outcome.err
    line, = outcome.err.splitlines()
    assert line.startswith("error: ")
    return str(line)


def test_train_refuses_an_encoders_file_before_a_run_begins(
        train: Command, all_runs: Runs, vgg: Callable[[str], State], workplace: Path) -> None:
    torch.save(nan(vgg("random")), "nan.ckpt")
    Path("page.pth").write_text("<html>404</html>")
    torch.save({"student": vgg("random:1"), "teacher": vgg("random:2")}, "two.pth")
    assert "numbers of tensor 'features.2.weight' are NaN" in one_line(train(weights="nan.ckpt"))
    assert "page.pth cannot be read (it is a web page" in one_line(train(weights="page.pth"))
    assert "Say which: FILE#student or FILE#teacher" in one_line(train(weights="two.pth"))
    assert "no part 'techer'" in one_line(train(weights="two.pth#techer"))
    assert all_runs() == []


def test_numbers_that_changed_after_they_were_saved_are_noticed(
        train: Command, all_runs: Runs, vgg: Callable[[str], State], workplace: Path) -> None:
    torch.save(vgg("random"), "whole.pth")
    content = bytearray(Path("whole.pth").read_bytes())
    kernel = vgg("random")["features.2.weight"].numpy().tobytes()
    content[content.index(kernel) + 1000] ^= 1
    Path("changed.pth").write_bytes(content)
    assert "changed.pth cannot be read (it is damaged: " in one_line(train(weights="changed.pth"))
    save_file(vgg("random") | {"features.2.weight": torch.zeros(64, 64, 3, 3)}, "half.safetensors")
    assert "all numbers of tensor 'features.2.weight' are 0: " in one_line(train(weights="half.safetensors"))
    assert all_runs() == []


def test_a_file_without_checksums_is_read(vgg: Callable[[str], State], workplace: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(vgg("random"), "plain.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_state_dict(Path("plain.pth")).keys() == vgg("random").keys()


@pytest.mark.parametrize("words", [["train", "--epochs", "1", "--lpips-weights", "off"], ["optimize", "--steps", "2"]])
@pytest.mark.parametrize("encoder", ["vgg16:block1", "vgg16:block1/channels=pca:4"])
def test_weights_whose_features_overflow_are_told_as_the_cause(
        words: list[str], encoder: str, inversion: Command, all_runs: Runs, vgg: Callable[[str], State],
        workplace: Path) -> None:
    torch.save({name: tensor * 1e30 for name, tensor in vgg("random").items()}, "large.pth")
    outcome = inversion(*words, "--encoder", encoder, "--weights", "large.pth", "--data", "sample",
                        "--image-size", "32", "--test-limit", "1")
    assert outcome.code == 1
    said = outcome.err.splitlines()[-1]
    assert "are not finite, before any " in said
    assert "weights are damaged, or too large" in said
    run, = all_runs()
    assert (run.info.status, run.data.tags["inversion.failure"]) == ("FAILED", "nonfinite")


def test_train_refuses_a_file_of_lpips_before_a_run_begins(
        train: Command, all_runs: Runs, random_trunk: State, workplace: Path) -> None:
    torch.save(nan(random_trunk), "nan.bin")
    torch.save({name: tensor.to(torch.int8) for name, tensor in random_trunk.items()}, "int8.pth")
    line = one_line(train(lpips_weights="nan.bin"))
    assert "nan.bin do not fit AlexNet (needed for LPIPS): " in line
    assert "numbers of tensor 'features.10.weight' are NaN" in line
    assert "'features.0.weight' holds int8" in one_line(train(lpips_weights="int8.pth"))
    assert all_runs() == []


def test_optimize_refuses_it_too(
        inversion: Command, all_runs: Runs, vgg: Callable[[str], State], photo_folder: Path, workplace: Path) -> None:
    torch.save(nan(vgg("random")), "nan.pth")
    line = one_line(inversion("optimize", "--encoder", "vgg16:block1", "--data", str(photo_folder), "--weights",
                              "nan.pth", "--lpips-weights", "off", "--image-size", "32"))
    assert "are NaN" in line
    assert all_runs() == []


def test_a_download_that_was_cut_short_is_refused_before_a_run_begins(
        train: Command, all_runs: Runs, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(workplace / "torch"))
    for name in ("vgg16-397923af.pth", "alexnet-owt-7be5be79.pth"):
        file = workplace / "torch" / "hub" / "checkpoints" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"PK\x03\x04 torn")
        parameter = {"weights": "imagenet"} if name.startswith("vgg") else {"lpips_weights": "imagenet"}
        line = one_line(train(**parameter))
        assert "cut short" in line
        assert f"delete {file}, and it is downloaded again" in line
    assert all_runs() == []


def test_a_part_of_a_file_is_trained_from_and_logged_as_what_it_is_from_everywhere(
        train: Command, all_runs: Runs, vgg: Callable[[str], State], workplace: Path) -> None:
    torch.save({"student": vgg("random:1"), "teacher": vgg("random:2")}, "two.pth")
    assert train(weights="two.pth#teacher").code == 0
    run, = all_runs()
    assert run.data.params["weights"] == f"{workplace}/two.pth#teacher"
    assert run.info.status == "FINISHED"
