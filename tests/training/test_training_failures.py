"""Training as it goes wrong: numbers that are not finite, full disks, files that are not what they should be."""

from __future__ import annotations

import errno
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion.errors import NonFiniteError
from inversion.training.checkpoint import LAST, CheckpointError, load_checkpoint, save_checkpoint
from inversion.training.trainer import Trainer

Make = Callable[..., Trainer]


def floats_of(content: Any) -> list[Tensor]:
    if isinstance(content, Tensor):
        return [content]
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for value in values for tensor in floats_of(value)]


def ruin_batch(trainer: Trainer, step: int) -> None:
    """Puts one NaN into one image of the step's batch, counted from 1 over all epochs."""
    count = 0

    def ruin(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal count
        count += torch.is_grad_enabled()  # in training alone
        if torch.is_grad_enabled() and count == step:
            inputs[0][0, 0, 5, 5] = torch.nan

    trainer.model.frozen[0].register_forward_pre_hook(ruin)


def ruin_gradient(trainer: Trainer, name: str, step: int, value: float = torch.nan) -> None:
    count = 0

    def ruin(gradient: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.full_like(gradient, value) if count == step else gradient

    dict(trainer.model.named_parameters())[name].register_hook(ruin)


def weights_after(make: Make, steps: int, **values: Any) -> dict[str, Tensor]:
    """What a run of the same seed has learned after so many steps."""
    from inversion.errors import InterruptedRunError
    from inversion.training.callbacks import Callback
    from inversion.training.stop import StopRequest

    stop = StopRequest()

    class Counter(Callback):
        count = 0

        def on_step(self, epoch: int, step: int, steps_of_epoch: int, loss: float | None) -> None:
            self.count += 1
            if self.count == steps:
                stop.set("enough")

    trainer = make("reference", [Counter()], stop, **values)
    with pytest.raises(InterruptedRunError):
        trainer.fit()
    state: dict[str, Tensor] = load_checkpoint(trainer.folder / LAST)["model"]
    return state


@pytest.mark.parametrize("decoder", ["transposed_conv", "wavelet"])
def test_a_nan_in_an_image_names_step_and_terms_and_the_last_good_weights_are_saved(
        decoder: str, make_trainer: Make) -> None:
    trainer = make_trainer(decoder=decoder)
    ruin_batch(trainer, step=5)
    with pytest.raises(NonFiniteError, match=r"^step 2 of epoch 2: mse and lpips is not finite\. Try a lower lr"):
        trainer.fit()
    content = load_checkpoint(trainer.folder / LAST)
    assert (content["progress"]["epoch"], content["progress"]["step"]) == (1, 1)
    assert all(torch.isfinite(tensor).all() for tensor in floats_of(content))
    expected = weights_after(make_trainer, 4, decoder=decoder)
    assert all(torch.equal(value, expected[name]) for name, value in content["model"].items())


def test_a_nan_in_a_gradient_alone_is_found_before_the_step_and_named(make_trainer: Make) -> None:
    trainer = make_trainer()
    ruin_gradient(trainer, "decoder.head.to_rgb.bias", step=3)
    with pytest.raises(NonFiniteError, match=r"^step 3 of epoch 1: gradient of decoder\.head\.to_rgb\.bias is not"):
        trainer.fit()
    content = load_checkpoint(trainer.folder / LAST)
    assert all(torch.isfinite(tensor).all() for tensor in floats_of(content))
    expected = weights_after(make_trainer, 2)
    assert all(torch.equal(value, expected[name]) for name, value in content["model"].items())


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_an_infinite_gradient_is_found_too(value: float, make_trainer: Make) -> None:
    trainer = make_trainer(lpips=False)
    ruin_gradient(trainer, "decoder.head.to_rgb.weight", step=1, value=value)
    with pytest.raises(NonFiniteError, match=r"gradient of decoder\.head\.to_rgb\.weight .*lr \(now 0\.001\)"):
        trainer.fit()


def test_weights_ruined_by_the_last_step_of_an_epoch_are_found_in_validation(make_trainer: Make) -> None:
    trainer = make_trainer(decoder="wavelet", lpips=False, epochs=1, batch_size=5, lr=1e30)
    with pytest.raises(NonFiniteError, match=r"^validation after epoch 1: val/loss is nan\. Try a lower lr"):
        trainer.fit()
    assert not (trainer.folder / LAST).exists()


# checkpoints

CONTENT = {"digest": "d", "model": {"weight": torch.arange(50_000.0)},
           "progress": {"epoch": 3, "best_loss": float("inf")}}


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new" / "folder" / LAST, CONTENT)
    content = load_checkpoint(tmp_path / "new" / "folder" / LAST)
    assert content["format"] == 1
    assert torch.equal(content["model"]["weight"], torch.arange(50_000.0))
    assert content["progress"] == CONTENT["progress"]
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [LAST]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """The system refuses to write a file beyond ``size`` bytes: half a checkpoint is written, then an error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_earlier_checkpoint_intact_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / LAST
    save_checkpoint(path, CONTENT)
    before = path.read_bytes()
    with files_end_at(len(before) // 2), \
            pytest.raises(CheckpointError, match=r"^cannot write the checkpoint .*last\.pt: .*File too large"):
        save_checkpoint(path, {**CONTENT, "digest": "another"})
    assert path.read_bytes() == before
    assert load_checkpoint(path)["digest"] == "d"
    assert [file.name for file in tmp_path.iterdir()] == [LAST]


def test_a_full_disk_in_the_middle_of_a_run_ends_it_with_the_earlier_epoch_saved(
        make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, written, real = make_trainer(), 0, os.fsync

    def fsync(file: int) -> None:  # where a file system that allots room late says that there is none
        nonlocal written
        written += 1
        if written > 2:  # the first epoch's best and last
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError, match="No space left on device"):
        trainer.fit()
    assert load_checkpoint(trainer.folder / LAST)["progress"]["epoch"] == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*file/last\.pt"):
        save_checkpoint(tmp_path / "file" / LAST, CONTENT)


def test_a_truncated_checkpoint_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / LAST
    save_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for length in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"^cannot read the checkpoint .*last\.pt: .+") as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_refused_by_name_or_read_but_never_something_else(tmp_path: Path) -> None:
    path = tmp_path / LAST
    save_checkpoint(path, {"digest": "d", "model": {"weight": torch.arange(10.0)}})
    whole = path.read_bytes()
    chance, refused = torch.Generator().manual_seed(0), 0
    for _ in range(300):
        place, value = (int(torch.randint(end, (1,), generator=chance)) for end in (len(whole), 256))
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            load_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00.", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / LAST)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), "text"])
def test_a_file_with_something_else_in_it_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it holds a (list|Tensor|str)"):
        load_checkpoint(tmp_path / LAST)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 2}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="has checkpoint format 2, this version reads 1"):
        load_checkpoint(tmp_path / LAST)
    torch.save({"model": {}}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="has checkpoint format None"):
        load_checkpoint(tmp_path / LAST)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    content = {"format": 1, "model": Bomb(tmp_path / "ran")}
    if zipped:
        torch.save(content, tmp_path / LAST)
    else:
        (tmp_path / LAST).write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        load_checkpoint(tmp_path / LAST)
    assert not (tmp_path / "ran").exists()
    if zipped:
        torch.load(tmp_path / LAST, weights_only=False)
    else:
        pickle.loads((tmp_path / LAST).read_bytes())
    assert (tmp_path / "ran").exists()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*absent\.pt: .*No such file"):
        load_checkpoint(tmp_path / "absent.pt")
