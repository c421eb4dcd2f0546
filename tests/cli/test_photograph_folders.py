"""Folders and names of photographs as people have them, through the commands."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run
from PIL import Image

from inversion.cli.app import run_command
from inversion.cli.report import cli as report
from inversion.cli.sweep import cli as sweep

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


@pytest.fixture
def picture() -> Callable[..., None]:
    """``picture("photos/train/a.png")``: another photograph-like picture with each call, 48×44 pixels."""
    made = 0

    def make(*names: str) -> None:
        nonlocal made
        for name in names:
            made += 1
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(made).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = Image.fromarray(values).resize((48, 44), Image.Resampling.BICUBIC)
            with open(name, "wb") as file:
                image.save(file, "PNG")

    return make


EMPTY = {
    "data": ("data", "{}"), "evaluate": ("evaluate", "{}"), "resume": ("train", "--resume", "{}"),
    "study": ("optimize", "--study", "{}"), "picture": ("reconstruct", "run", "{}", "--output", "out"),
    "one of several pictures": ("reconstruct", "run", "a.png", "{}", "--output", "out"),
    "output": ("reconstruct", "run", "a.png", "--output", "{}"), "end": ("doctor", "--end", "{}"),
    "compare": ("reconstruct", "run", "a.png", "--output", "out", "--compare", "{}"),
}


@pytest.mark.parametrize("text", ["", "  "])
@pytest.mark.parametrize("words", EMPTY.values(), ids=EMPTY)
def test_an_empty_text_is_not_the_present_folder(inversion: Command, workplace: Path, picture: Callable[..., None],
                                                 words: tuple[str, ...], text: str) -> None:
    picture("a.png", "b.png", "c.png")
    before = sorted(path.name for path in workplace.iterdir())
    outcome = inversion(*(word.replace("{}", text) for word in words))
    assert outcome.code == 2
    assert "an empty text" in outcome.err
    assert outcome.err.count("\n") == 1
    assert sorted(path.name for path in workplace.iterdir()) == before


@pytest.mark.parametrize(("command", "words"), [(sweep, ("",)), (report, ("",)), (report, ("x", "--output", "")),
                                                (report, ("x", "--output", " "))])
def test_nor_is_it_for_sweeps_and_reports(workplace: Path, command: Any, words: tuple[str, ...],
                                          capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(workplace.iterdir())
    words = (*words, "--output", "out") if command is report and len(words) == 1 else words
    assert run_command(command, list(words)) == 2
    assert "an empty text" in capsys.readouterr().err
    assert sorted(workplace.iterdir()) == before


@pytest.mark.parametrize("words", [("--data-dir", ""), ("--data-dir", " ")])
def test_where_there_is_a_default_an_empty_text_means_that(inversion: Command, workplace: Path,
                                                           words: tuple[str, ...]) -> None:
    before = sorted(workplace.iterdir())
    outcome = inversion("data", "sample", "--image-size", "32", *words)
    assert outcome.code == 0, outcome.err
    assert os.environ["INVERSION_DATA"] in outcome.out.replace("\n", "")
    assert sorted(workplace.iterdir()) == before


def test_the_home_of_nobody_is_named(inversion: Command, workplace: Path) -> None:
    for words in (("data", "sample", "--data-dir", "~nobody-at-all/x"),
                  ("reconstruct", "run", "~nobody-at-all/x.png", "--output", "out"),
                  ("reconstruct", "run", "x.png", "--output", "~nobody-at-all/out")):
        outcome = inversion(*words)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "the home folder of a user who does not exist" in outcome.err


def test_names_of_any_length_and_letters_are_trained_on(train: Command, workplace: Path, picture: Callable[..., None],
                                                        all_runs: Runs) -> None:
    """MLflow's names of images have key, step, time and a number of their own: 255 bytes are soon full."""
    names = ["v" * 245 + "1.png", "v" * 245 + "2.png", "é" * 125 + ".png", "日" * 83 + ".png", "a b.png", "a_b.png",
             "e\u0301.png", "\u00e9.png", "x" * 200 + "/" + "y" * 200 + ".png"]
    picture(*(f"photos/train/{name}" for name in ("1.png", "2.png")), *(f"photos/val/{name}" for name in names),
            *(f"photos/test/{name}" for name in names))
    outcome = train(data="photos")
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    artifacts = Path(run.info.artifact_uri)
    keys = {re.sub(r"\+timestamp.*", "", path.name) for path in (artifacts / "images").iterdir()}
    shown = len([key for key in keys if key.endswith("+step+1")])
    best = len([key for key in keys if key.startswith("best_")])
    assert (len(keys) - best, best) == (2 * (shown - best), 3), "before training and after the epoch, and the best"
    assert shown > 1
    tested = [path.name for path in (artifacts / "reconstructions").glob("*.png")]
    assert len(tested) == 8
    assert max(map(len, tested)) < 120


def test_bytes_that_are_no_text_are_told_before_training(inversion: Command, train: Command, workplace: Path,
                                                         picture: Callable[..., None], all_runs: Runs) -> None:
    folder = os.fsdecode(b"caf\xe9")
    picture(*(f"{folder}/{number}.png" for number in range(3)))
    for outcome in (train(data=folder), inversion("data", folder)):
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "not UTF-8" in outcome.err
    assert not all_runs()


def test_two_names_that_differ_in_bytes_that_are_no_text_stay_two(train: Command, workplace: Path, all_runs: Runs,
                                                                  picture: Callable[..., None]) -> None:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    picture("photos/train/a.png", "photos/val/b.png",
            *(f"photos/test/{os.fsdecode(name)}" for name in (b"caf\xe9.png", b"caf\xe8.png")))
    assert train(data="photos").code == 0
    run, = all_runs()
    table = pq.read_table(Path(run.info.artifact_uri) / "metrics" / "test_per_image.parquet")
    assert len(set(table["image"].to_pylist())) == 2


def test_training_says_what_was_taken_for_what_and_what_was_left_out(train: Command, workplace: Path,
                                                                     picture: Callable[..., None]) -> None:
    picture(*(f"coco/train2017/{number}.png" for number in range(5)), "coco/val2017/a.png")
    with Image.open("coco/train2017/0.png") as image:
        image.crop((1, 1, 47, 43)).save("coco/val2017/near.png")
    for number in range(9):
        Path(f"coco/val2017/{number}.nef").write_bytes(b"raw")
    outcome = train(data="coco")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "train2017/ → train and val (a fifth, by a fixed seed), val2017/ → test" in said
    assert "9 files are left out, more than the 7 photographs that are used: 9 .nef (convert them" in said
    assert "data leakage: 1 photograph in test is a near-duplicate of photographs in" in said
    assert "val2017/near.png ~ train2017/0.png" in said


def test_the_data_command_and_optimize_say_so_too(inversion: Command, workplace: Path, picture: Callable[..., None]
                                                  ) -> None:
    picture(*(f"set/images/train/{number}.png" for number in range(5)), "set/images/val/a.png", "set/images/val/b.png")
    Path("set/images/list.txt").write_text("x")
    for words in (("data", "set"), ("optimize", "--data", "set", "--encoder", "vgg16:block1", "--weights", "random",
                                  "--lpips-weights", "off", "--steps", "1")):
        outcome = inversion(*words, "--image-size", "32")
        assert outcome.code == 0, outcome.err
        said = " ".join(outcome.out.split())
        assert "images/train/ → train and val (a fifth, by a fixed seed), images/val/ → test" in said
        assert "1 file is left out: 1 .txt" in said


def test_photographs_of_the_training_are_noticed_in_another_set(
    finished: Any, inversion: Command, workplace: Path, photo_folder: Path, picture: Callable[..., None]
) -> None:
    shutil.copy(finished.folder / "mlflow.db", workplace)
    picture("other/train/a.png", "other/val/b.png", "other/test/c.png")
    with Image.open(photo_folder / "train" / "train1.png") as image:
        image.convert("RGB").save("other/test/again.jpg", quality=60)
    outcome = inversion("evaluate", finished.run.info.run_id, "--data", "other")
    assert outcome.code == 0, outcome.err
    assert ("data leakage: 1 photograph of 2 is a near-duplicate of the run's training photographs (test/again.jpg ~ "
            "train/train1.png)") in " ".join(outcome.out.split())


def test_it_is_said_when_the_photographs_of_the_training_are_gone(
    finished: Any, inversion: Command, workplace: Path, picture: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inversion.data.datasets import find_photo_set
    from inversion.errors import DataError

    shutil.copy(finished.folder / "mlflow.db", workplace)
    picture("other/train/a.png", "other/val/b.png", "other/test/c.png")

    def only_others(data: str, *rest: Any) -> Any:
        if data != "other":
            raise DataError("gone")
        return find_photo_set(data, *rest)

    monkeypatch.setattr("inversion.runs.evaluate.find_photo_set", only_others)
    outcome = inversion("evaluate", finished.run.info.run_id, "--data", "other")
    assert outcome.code == 0, outcome.err
    assert "it is unknown whether some of them are scored here (data leakage)" in " ".join(outcome.out.split())
