"""The folder that ``inversion reconstruct`` writes: names of files, and what is never replaced."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from PIL import Image

from inversion.reconstruct.side_by_side import FileNames
from inversion.reconstruct.sources import Source

Command = Callable[..., Any]


def test_pictures_of_one_name_get_files_of_their_own(reconstruct: Callable[..., Any],
                                                     picture: Callable[..., Path]) -> None:
    one, two = picture("a/cat.png"), picture("b/cat.jpg")
    made = reconstruct(one, two, one)
    assert len(made.rows) == 2, "the same file is taken once"
    assert {"cat_original.png", "cat-2_original.png"} <= made.names()


def test_a_long_name_is_cut_and_still_its_own(reconstruct: Callable[..., Any], picture: Callable[..., Path]) -> None:
    made = reconstruct(picture(f"{'x' * 250}.png"), picture(f"{'x' * 249}y.png"))
    assert made.outcome.code == 0, made.outcome.err
    assert {f"{'x' * 100}_original.png", f"{'x' * 100}-2_original.png"} <= made.names()


def test_only_its_own_files_are_replaced(reconstruct: Callable[..., Any], picture: Callable[..., Path],
                                         workplace: Path) -> None:
    path = picture("cat.png")
    assert reconstruct(path).outcome.code == 0
    (workplace / "out" / "notes.txt").write_text("mine")
    picture("cat.png", 90, 40)
    made = reconstruct(path, "--size", "tiles")
    assert made.outcome.code == 0, made.outcome.err
    assert made.pixels("cat_original.png").shape == (40, 90, 3)
    foreign = workplace / "out" / "dog_original.png"
    foreign.write_text("mine")
    refused = reconstruct(path, picture("dog.png"))
    assert refused.outcome.code == 2
    assert "already has dog_original.png, which this command did not make" in refused.outcome.err
    assert foreign.read_text() == (workplace / "out" / "notes.txt").read_text() == "mine"
    assert len(refused.rows) == 1, "the table is that of the time before"


def test_an_output_that_is_a_file_is_refused(reconstruct: Callable[..., Any], picture: Callable[..., Path],
                                             workplace: Path) -> None:
    (workplace / "out").write_text("mine")
    made = reconstruct(picture("cat.png"))
    assert (made.outcome.code, (workplace / "out").read_text()) == (2, "mine")
    assert "--output out cannot be written" in made.outcome.err


@pytest.mark.parametrize("name", ["cat_original.png", "scores.csv", "contact-sheet.png"])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(reconstruct: Callable[..., Any], picture: Callable[..., Path],
                                           workplace: Path, name: str, there: bool) -> None:
    target = workplace / "precious"
    if there:
        target.write_text("mine")
    (workplace / "out").mkdir()
    (workplace / "out" / name).symlink_to(target)
    made = reconstruct(picture("cat.png"))
    assert made.outcome.code == 2
    assert f"already has {name}, which this command did not make" in made.outcome.err
    assert target.exists() == there
    assert not there or target.read_text() == "mine"


def test_a_link_in_place_of_a_file_that_it_made_is_refused(reconstruct: Callable[..., Any], workplace: Path,
                                                           picture: Callable[..., Path]) -> None:
    path = picture("cat.png")
    assert reconstruct(path).outcome.code == 0
    (workplace / "out" / "scores.csv").unlink()
    (workplace / "out" / "scores.csv").symlink_to(workplace / "precious")
    assert reconstruct(path).outcome.code == 2
    assert not (workplace / "precious").exists()


@pytest.mark.parametrize("content", [b"caf\xe9.png\n\xff\xfe", b"\0\0", b""])
def test_a_list_of_its_files_that_is_no_text_names_nothing(reconstruct: Callable[..., Any], workplace: Path,
                                                           picture: Callable[..., Path], content: bytes) -> None:
    (workplace / "out").mkdir()
    (workplace / "out" / ".made-by-inversion").write_bytes(content)
    made = reconstruct(picture("cat.png"))
    assert made.outcome.code == 0, made.outcome.err
    assert "cat_original.png" in (workplace / "out" / ".made-by-inversion").read_text("utf-8")


def test_its_list_is_not_written_through_a_link_either(reconstruct: Callable[..., Any], workplace: Path,
                                                       picture: Callable[..., Path]) -> None:
    (workplace / "out").mkdir()
    (workplace / "precious").write_text("cat_original.png\n")
    (workplace / "out" / ".made-by-inversion").symlink_to(workplace / "precious")
    assert reconstruct(picture("cat.png")).outcome.code == 0
    assert (workplace / "precious").read_text() == "cat_original.png\n"


def test_an_output_that_is_a_link_to_nowhere_is_called_so(reconstruct: Callable[..., Any], workplace: Path,
                                                          picture: Callable[..., Path]) -> None:
    (workplace / "out").symlink_to(workplace / "nowhere")
    made = reconstruct(picture("cat.png"))
    assert (made.outcome.code, (workplace / "nowhere").exists()) == (2, False)
    assert "cannot be written: it is a link to nowhere" in made.outcome.err


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "x" * 300])
def test_an_output_whose_name_is_too_long_is_refused(inversion: Command, trained: Run, picture: Callable[..., Path],
                                                     name: str) -> None:
    outcome = inversion("reconstruct", trained.info.run_id, str(picture("cat.png")), "--output", name)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "File name too long" in outcome.err


def test_names_that_differ_in_capitals_only_are_two_files_everywhere(reconstruct: Callable[..., Any],
                                                                     picture: Callable[..., Path]) -> None:
    made = reconstruct(picture("a/Cat.png"), picture("b/cat.png"))
    assert {"Cat_original.png", "cat-2_original.png"} <= made.names()


def test_a_full_disk_is_told_in_a_line(reconstruct: Callable[..., Any], picture: Callable[..., Path],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture("cat.png")
    assert reconstruct(path).outcome.code == 0

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    made = reconstruct(path)
    assert (made.outcome.code, made.outcome.err.count("\n")) == (1, 1)
    assert "cat_original.png cannot be written: No space left on device" in made.outcome.err


@pytest.mark.parametrize(("names", "labels"), [(["a_x", "a"], ["y", "x_y"]), (["a"], ["r b", "r-b"]),
                                               (["a"], ["R", "r"])])
def test_no_two_pictures_and_runs_share_a_file(names: list[str], labels: list[str]) -> None:
    sources = [Source(name, Path(f"{name}.png")) for name in names]
    files = FileNames(sources, labels, [32, 32], "fit")
    made = [files.result(source, label, what) for source in sources for label in labels
            for what in ("reconstruction", "difference")]
    assert len({name.casefold() for name in made}) == len(made)
    assert set(made) < set(files.all())
