"""A well-formed ``last.pt`` without all that training goes on from is refused by name, and nothing of it is loaded."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from inversion.training.checkpoint import (
    LAST,
    CheckpointError,
    furthest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from inversion.training.trainer import Trainer

Make = Callable[..., Trainer]
Change = Callable[[dict[str, Any]], object]


def first(tensors: dict[Any, Any]) -> Any:
    return next(iter(tensors))


def without(name: str, content: dict[str, Any]) -> None:
    del content[name]


def spoil(name: str, value: str, content: dict[str, Any]) -> None:
    content[name][first(content[name])].view(-1)[0] = float(value)


def moments(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["optimizer"]["state"][0]
    return found


CHANGES: dict[str, tuple[Change, str]] = {
    **{f"no {name}": (partial(without, name), f"{name} is missing")
       for name in ("model", "best_model", "optimizer", "schedule", "progress")},
    "no digest": (lambda content: content.pop("digest"), "belongs to configuration None"),
    "a model that is a list": (lambda content: content.update(model=[1]), "model is a list"),
    "a tensor less": (lambda content: content["model"].pop(first(content["model"])), "is missing"),
    "a tensor more": (lambda content: content["model"].update(more=torch.ones(1)), "model has an unknown more"),
    "a tensor of another shape": (
        lambda content: content["model"].update({first(content["model"]): torch.ones(3, 7)}), r"is float32 \(3, 7\),"),
    "a tensor of another type": (
        lambda content: content["model"].update({name: tensor.half() for name, tensor in content["model"].items()}),
        "is float16"),
    "a model of NaN": (partial(spoil, "model", "nan"), r"model\..* holds values that are not finite"),
    "an infinite best model": (partial(spoil, "best_model", "inf"), r"best_model\..* holds values that are not finite"),
    "a model without numbers": (
        lambda content: content["model"].update({name: tensor.to("meta") for name, tensor in content["model"].items()}),
        "has no numbers"),
    "moments of NaN": (
        lambda content: moments(content)["exp_avg"].fill_(torch.nan), "exp_avg holds values that are not"),
    "a rate of NaN": (
        lambda content: content["optimizer"]["param_groups"][0].update(lr=math.nan), "lr is not a number"),
    "a schedule of NaN": (lambda content: content["schedule"].update(best=math.nan), "schedule.best is not a number"),
    "progress of NaN": (
        lambda content: content["progress"].update(best_loss=math.nan), "progress.best_loss is not a number"),
    "a metric of NaN": (
        lambda content: content["progress"]["last_metrics"].update({"val/loss": math.nan}), "val/loss is not a number"),
    "an empty best model": (lambda content: content.update(best_model={}), "best_model.* is missing"),
    "a best model of texts": (lambda content: content.update(best_model=dict.fromkeys(content["model"], "x")), "a str"),
    "no state": (lambda content: content["optimizer"].pop("state"), r"optimizer\.state is missing"),
    "no moments": (lambda content: content["optimizer"].update(state={}), r"optimizer\.state\.0 is missing"),
    "moments of another shape": (
        lambda content: moments(content).update(exp_avg=torch.ones(2)), r"optimizer\.state\.0\.exp_avg is float32"),
    "one moment": (lambda content: moments(content).pop("exp_avg_sq"), r"exp_avg_sq is missing"),
    "no step": (lambda content: moments(content).pop("step"), r"optimizer\.state\.0\.step is missing"),
    "an unknown parameter": (
        lambda content: content["optimizer"]["state"].update({999: moments(content)}), "has an unknown 999"),
    "no groups": (lambda content: content["optimizer"].update(param_groups=[]), "param_groups differ in number"),
    "no rate": (lambda content: content["optimizer"]["param_groups"][0].pop("lr"), "has no lr"),
    "a rate that is a text": (lambda content: content["optimizer"]["param_groups"][0].update(lr="1"), "has no lr"),
    "other parameters": (
        lambda content: content["optimizer"]["param_groups"][0].update(params=[0]), "have other parameters"),
    "an empty schedule": (lambda content: content.update(schedule={}), "schedule has no"),
    "a schedule without its best": (lambda content: content["schedule"].pop("best"), "schedule has no best"),
    "a schedule with a text": (lambda content: content["schedule"].update(patience="x"), "patience is a str"),
    "a schedule that replaces a method": (
        lambda content: content["schedule"].update(step=3), "schedule has an unknown step"),
    "progress without its epoch": (lambda content: content["progress"].pop("epoch"), r"progress\.epoch is missing"),
    "progress of texts": (lambda content: content["progress"].update(epoch="2"), r"progress\.epoch is a str"),
    "progress below zero": (lambda content: content["progress"].update(epoch=-1), r"progress\.epoch is -1"),
    "progress behind the end": (
        lambda content: content["progress"].update(step=99, images=999), "progress.step is 99, and an epoch has 3"),
    "steps without images": (lambda content: content["progress"].update(step=2), "images is 0 after 2 steps"),
    "progress with more": (lambda content: content["progress"].update(more=1), "progress has an unknown more"),
    "no metrics": (lambda content: content["progress"].update(last_metrics={}), "last_metrics.train/loss is missing"),
}


@pytest.fixture
def saved(make_trainer: Make) -> Path:
    """The ``last.pt`` of two epochs of four."""
    trainer = make_trainer("saved", epochs=2)
    trainer.fit()
    return trainer.folder / LAST


def test_what_does_not_fit_is_named_and_changes_nothing(saved: Path, make_trainer: Make) -> None:
    trainer = make_trainer("other", epochs=4)
    before = {name: value.clone() for name, value in trainer.model.learned_state().items()}
    rate = trainer.optimizer.param_groups[0]["lr"]
    for name, (change, says) in CHANGES.items():
        content = load_checkpoint(saved)
        change(content)
        save_checkpoint(saved.parent / "changed.pt", content)
        with pytest.raises(CheckpointError, match=says) as caught:
            trainer.resume(saved.parent / "changed.pt")
        assert "changed.pt" in str(caught.value), name
        assert "\n" not in str(caught.value), name
        assert trainer.state.epoch == 0
        assert trainer.optimizer.param_groups[0]["lr"] == rate
        assert all(torch.equal(value, before[key]) for key, value in trainer.model.learned_state().items()), name
    content = load_checkpoint(saved)
    del content["progress"]["validation_seconds"], content["progress"]["micro_batch"]  # as the first version wrote it
    save_checkpoint(saved, content)
    trainer.resume(saved)
    assert trainer.state.epoch == 2


def test_one_that_does_not_fit_is_passed_over_for_one_that_does(
    saved: Path, make_trainer: Make, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer("other", epochs=4)
    content = load_checkpoint(saved)
    content["progress"]["epoch"] = 3
    del content["schedule"]
    save_checkpoint(saved.parent / "further.pt", content)
    paths = [saved.parent / "further.pt", saved]
    assert furthest_checkpoint(paths, trainer.load_resumable) == saved
    assert "skipped: the checkpoint" in caplog.text
    assert "schedule is missing" in caplog.text


def test_a_single_byte_that_changed_is_found(saved: Path) -> None:
    """PyTorch itself would go on with another number."""
    content = bytearray(saved.read_bytes())
    weights = next(value for value in load_checkpoint(saved)["model"].values() if value.numel() > 100)
    place = content.index(bytes(weights.untyped_storage().tolist()))
    content[place + 10] ^= 1
    saved.write_bytes(content)
    torch.load(saved, weights_only=True)
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .* is damaged"):
        load_checkpoint(saved)


class Call:
    """Would call a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("function", [eval, exec, print, Path, torch.nn.Linear], ids=str)
@pytest.mark.parametrize("way", ["zip", "pickle 2", "pickle 4"])
def test_the_refusal_of_code_never_advises_to_run_it(function: Callable[..., Any], way: str, tmp_path: Path) -> None:
    content = {"format": 1, "model": Call(function, "1")}
    if way == "zip":
        torch.save(content, tmp_path / LAST)
    else:
        (tmp_path / LAST).write_bytes(pickle.dumps(content, protocol=int(way[-1])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / LAST)
    message = str(caught.value)
    assert "holds code or objects other than tensors" in message
    assert "refused" in message
    assert not any(word in message for word in ("weights_only", "safe_globals", "trust", "\n"))


def test_the_refusal_of_an_archive_of_code_never_advises_to_run_it(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / LAST))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / LAST)
    assert "weights_only" not in str(caught.value)
    assert "refused" in str(caught.value)
