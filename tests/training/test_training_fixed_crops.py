"""Features of fixed crops: what is stored, by whom it is used, and what happens when it is not there."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pytest
import torch
from torch import Tensor

from inversion.errors import InterruptedRunError
from inversion.files import LOCK_NAME
from inversion.images import from_stored
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import LAST, load_checkpoint
from inversion.training.feature_folder import FeatureFolder, NoRoomError
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer
from tests.training.same import assert_same

Make = Callable[..., Trainer]


@pytest.fixture
def make_fixed(make_trainer: Make, tmp_path: Path) -> Make:
    """As ``make_trainer``, with two fixed crops of each photograph, whose features are below ``tmp_path``."""

    def make(folder: str = "run", passes: list[int] | None = None, lpips: bool = True, **values: Any) -> Trainer:
        trainer = make_trainer(folder, crops="fixed:2", lpips=lpips, **values)
        encoders = [None if encoder.modifiers.are_random else {"encoder": str(encoder.cut)}
                    for encoder in trainer.model.frozen]
        store = FeatureFolder(tmp_path / "features", {"photographs": "five"}, encoders,
                              {"lpips": "random"} if lpips else None)
        trainer.data = dataclasses.replace(trainer.data, features=store)
        if passes is not None:
            count(trainer, passes)
        return trainer

    return make


def count(trainer: Trainer, passes: list[int]) -> None:
    """Fills ``passes`` with the sizes of the batches that are encoded from now on, by this trainer or a later one."""
    for encoder in trainer.model.frozen:
        run = encoder._run

        def counted(trunk: Any, images: Tensor, taps: Any, run: Any = run) -> list[Tensor]:
            passes.append(len(images))
            result: list[Tensor] = run(trunk, images, taps)
            return result

        encoder._run = counted


def left_by(trainer: Trainer) -> dict[str, Any]:
    return {name: value for name, value in load_checkpoint(trainer.folder / LAST).items() if name != "metrics"}


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_training_sees_the_features_of_its_batches_rounded_to_bf16(make_fixed: Make) -> None:
    trainer = make_fixed(layers=["vgg16:block1", "vgg16:block2"])
    trainer._calibrate()
    trainer._store_features()
    for epoch in (0, 1, 2):
        for step, stored in enumerate(trainer.data.batches.epoch(epoch + 1)):
            images = from_stored(stored)
            for first in range(len(images)):  # of every micro-batch
                which = (epoch, step, 1, first)
                part = images[first:first + 1]
                found = trainer.gradients.features.of_images(part, [0], which)
                for one, other in zip(found, trainer.model.encode(part), strict=True):
                    assert one.shape == other.shape
                    assert one.is_contiguous(memory_format=torch.channels_last)
                    torch.testing.assert_close(one, other, rtol=2**-8, atol=1e-5)
                assert trainer.loss.lpips
                targets = trainer.gradients.features.of_targets(part, which)
                for one, other in zip(targets, trainer.loss.lpips.target_features(part), strict=True):
                    torch.testing.assert_close(one, other, rtol=2**-8, atol=1e-5)


def test_the_encoder_runs_once_for_each_crop_whatever_the_decoder_and_the_seed(make_fixed: Make, tmp_path: Path
                                                                                    ) -> None:
    passes: list[int] = []
    make_fixed("first", passes, epochs=6).fit()
    encoded = sum(passes)
    others: Sequence[dict[str, Any]] = ({"decoder": "wavelet"}, {"seed": 3}, {"lr": 1e-2})
    for number, values in enumerate(others):
        again: list[int] = []
        make_fixed(f"other{number}", again, epochs=6, **values).fit()
        assert sum(again) == encoded - 10  # five photographs with two crops; calibration and validation are as before
    assert len(list((tmp_path / "features").glob("*/entry.json"))) == 2  # the encoder, and LPIPS


def test_a_run_is_the_same_whether_features_were_there_or_not_and_after_a_resume(make_fixed: Make, tmp_path: Path
                                                                                 ) -> None:
    class StopAfter(Callback):
        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            if (epoch, step) == (2, 1):
                stop.set("asked by a test")

    whole = make_fixed("whole", seed=1)
    whole.fit()
    shutil.rmtree(tmp_path / "features")
    stop = StopRequest()
    with pytest.raises(InterruptedRunError):
        make_fixed("stopped", seed=1, callbacks=[StopAfter()], stop=stop).fit()
    resumed = make_fixed("stopped", seed=1)
    resumed.resume(resumed.folder / LAST)
    resumed.fit()
    assert_same(left_by(resumed), left_by(whole))


def test_features_with_noise_are_computed_in_every_step(make_fixed: Make, tmp_path: Path) -> None:
    trainer = make_fixed(layers=["vgg16:block1/noise=0.3", "vgg16:block2"], lpips=False)
    trainer.fit()
    entry, = (tmp_path / "features").glob("*/entry.json")
    assert json.loads(entry.read_text())["encoder"] == "vgg16:block2"


def test_a_stop_while_they_are_computed_leaves_nothing_half(make_fixed: Make, tmp_path: Path) -> None:
    class StopAtOnce(Callback):
        def on_preparation(self, what: str, done: int, total: int) -> None:
            seen.append((done, total))
            stop.set("asked by a test")

    stop = StopRequest()
    seen: list[tuple[int, int]] = []
    with pytest.raises(InterruptedRunError):
        make_fixed(callbacks=[StopAtOnce()], stop=stop).fit()
    assert seen == [(2, 10)]
    assert [path.name for path in (tmp_path / "features").rglob("*") if path.is_file()] == [".lock"]
    resumed = make_fixed()
    resumed.resume(resumed.folder / LAST)
    assert resumed.fit().epoch == 4


def test_a_stop_is_obeyed_while_another_process_computes_them(
    make_fixed: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopAtOnce(Callback):
        def on_preparation(self, what: str, done: int, total: int) -> None:
            assert what.endswith("(by another process)")
            stop.set("asked by a test")

    monkeypatch.setattr("inversion.files.WAIT_SECONDS", 0.01)
    make_fixed("before", lpips=False, epochs=1).fit()
    entry, = (tmp_path / "features").glob("*/entry.json")
    entry.unlink()
    stop = StopRequest()
    with filelock.FileLock(entry.with_name(LOCK_NAME)), pytest.raises(InterruptedRunError):
        make_fixed(lpips=False, callbacks=[StopAtOnce()], stop=stop).fit()
    assert not entry.exists()


@pytest.mark.parametrize("damage", [
    lambda entry: entry.write_text("{}"), lambda entry: entry.write_text("no JSON"),
    lambda entry: entry.with_name("0.bf16").write_bytes(b"short"),
    lambda entry: entry.with_name("0.bf16").unlink()], ids=["empty", "text", "short", "gone"])
def test_an_entry_that_is_damaged_is_made_anew(damage: Callable[[Path], Any], make_fixed: Make, tmp_path: Path) -> None:
    make_fixed("before", lpips=False, epochs=1).fit()
    entry, = (tmp_path / "features").glob("*/entry.json")
    damage(entry)
    passes: list[int] = []
    make_fixed("after", passes, lpips=False, epochs=1).fit()
    assert json.loads(entry.read_text())["count"] == 10
    encoded = sum(passes)
    again: list[int] = []
    make_fixed("again", again, lpips=False, epochs=1).fit()
    assert encoded == sum(again) + 10


def test_a_full_disk_loses_the_entry_that_was_unused_for_longest_and_then_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10 * 2**30

    def usage(path: Path) -> Disk:
        return Disk(0, 0, free - sum(2**30 for _ in path.glob("*/entry.json")))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    store = FeatureFolder(tmp_path, {}, [], None)

    def load(name: str) -> None:
        store.load({"name": name}, 3, lambda numbers: [torch.ones(len(numbers), 2, 1, 1)], 2, lambda *_: None)

    def names() -> set[str]:
        return {json.loads(entry.read_text())["name"] for entry in tmp_path.glob("*/entry.json")}

    for age, name in enumerate(("a", "b", "c")):
        load(name)
        for entry in tmp_path.glob("*/entry.json"):
            if json.loads(entry.read_text())["name"] == name:
                os.utime(entry, (age, age))
    load("a")  # used now
    free = 4 * 2**30 - 1  # with three entries, less than the reserve
    load("d")
    assert names() == {"a", "c", "d"}
    free = 2**20
    with pytest.raises(NoRoomError, match=r"0\.0 GB are needed, and .* are free\): make room there"):
        load("e")
    assert names() == set()


def test_a_disk_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("inversion.training.feature_folder.alone_in", refuse)
    with pytest.raises(NoRoomError, match=r"cannot be written in .*Read-only file system") as error:
        FeatureFolder(tmp_path, {}, [], None).load({}, 1, ones, 1, lambda *_: None)
    assert "\n" not in str(error.value)


def ones(numbers: Sequence[int]) -> list[Tensor]:
    return [torch.ones(len(numbers), 2, 1, 1)]
