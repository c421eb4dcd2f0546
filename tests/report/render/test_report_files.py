"""What a report leaves in a folder and in the study's run, and what stops it, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.report.data.collect import collect
from inversion.tracking.connection import connect


def report(*words: object) -> int:
    return run_command(cli, [str(word) for word in words])


@pytest.fixture
def half_done(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Any:
    """A study of which one run has not begun; ``missing`` is one of its tables."""
    made = make_study()
    made.add(scores(25))
    made.add(scores(24), decoder="wavelet")
    made.plan("vgg16:block3+wavelet")
    made.finish()
    return made


def logged(made: Any) -> set[str]:
    """Names of the tables in the study's run."""
    there = made.client.list_artifacts(made.parent, "report/tables")
    return {item.path.removeprefix("report/tables/") for item in there}


def test_tables_that_a_study_has_outgrown_are_removed_and_other_files_stay(
    half_done: Any, scores: Callable[..., Any], tmp_path: Path
) -> None:
    assert report("made", "--output", tmp_path) == 0
    (tmp_path / "tables" / "mine.csv").write_text("my own")
    assert (tmp_path / "tables" / "missing.csv").exists()
    assert "missing.csv" in logged(half_done)
    half_done.planned.pop()
    half_done.add(scores(20), encoder="vgg16:block3", decoder="wavelet")
    half_done.finish()
    assert report("made", "--output", tmp_path) == 0
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert "mine.csv" in names
    assert not [name for name in names | logged(half_done) if name.startswith("missing")]
    assert logged(half_done) == names - {"mine.csv"}  # what lay there is not the report's to upload


def test_a_store_that_cannot_remove_files_keeps_them_and_the_report_is_made(
    half_done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    half_done.client.log_text(half_done.parent, "old", "report/tables/old.csv")

    def refuse(self: Any, artifact_path: str | None = None) -> None:
        raise NotImplementedError

    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", refuse)
    assert report("made", "--output", tmp_path) == 0
    assert "keeps tables of an earlier report" in caplog.text


def test_a_list_from_elsewhere_removes_nothing_but_a_report_s_files(half_done: Any, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "tables").mkdir(parents=True)
    for name in ("../precious", "notes.md", "tables/.hidden.csv"):
        (folder / name).write_text("mine")
    names = ["../precious", "notes.md", "tables/../../precious", "tables/.hidden.csv", f"{tmp_path}/precious"]
    (folder / "files.json").write_text(json.dumps(names))
    assert report("made", "--output", folder) == 0
    assert (tmp_path / "precious").exists()
    assert (folder / "notes.md").exists()
    assert (folder / "tables" / ".hidden.csv").exists()


def test_a_folder_in_the_place_of_a_file_is_one_line(
    half_done: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").mkdir()
    assert report("made", "--output", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"error: --output {tmp_path}: index.html is a folder there, and the report would write a file\n")


@pytest.mark.parametrize(("number", "code"), [(28, 1), (30, 2)])  # no space left; read-only file system
def test_a_disk_that_refuses_is_one_line(
    number: int, code: int, half_done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:
    original = Path.write_text

    def refuse(self: Path, *words: Any, **options: Any) -> int:
        if self.name.startswith(".report.md."):  # written beside its place first
            raise OSError(number, "it refuses", str(self))
        return original(self, *words, **options)

    monkeypatch.setattr(Path, "write_text", refuse)
    assert report("made", "--output", tmp_path) == code
    error = capsys.readouterr().err
    assert error == f"error: --output {tmp_path}: {tmp_path}/report.md cannot be written: it refuses\n"


def test_an_experiment_that_is_not_there_is_told_and_not_made(
    half_done: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report("made", "--output", tmp_path, "--experiment", "inversoin") == 2
    error = capsys.readouterr().err
    assert "has no experiment 'inversoin'" in error
    assert "Did you mean 'inversion'?" in error
    assert half_done.client.get_experiment_by_name("inversoin") is None


@pytest.mark.parametrize("content", [b"PAR1 no table", b""])
def test_scores_that_cannot_be_read_are_told_of_their_run_alone(
    content: bytes, half_done: Any, scores: Callable[..., Any], tmp_path: Path
) -> None:
    broken = half_done.add(scores(30), decoder="attention")
    half_done.finish()
    file = tmp_path / "test_per_image.parquet"
    file.write_bytes(content)
    half_done.client.log_artifact(broken, str(file), "metrics")
    folder = tmp_path / "report"
    assert report("made", "--output", folder) == 0
    text = (folder / "report.md").read_text()
    assert "vgg16:block1+transposed_conv is first with 25.00 dB" in text
    assert f"is missing or cannot be read | {broken} |" in text
    assert "1 finished without scores" in text


def test_a_message_of_several_lines_stays_in_its_row(
    half_done: Any, tmp_path: Path
) -> None:
    half_done.add(None, status="FAILED", decoder="attention", tags={
        "inversion.failure": "error", "inversion.failure_message": "first | line\nsecond line"})
    half_done.finish()
    assert report("made", "--output", tmp_path) == 0
    row, = (line for line in (tmp_path / "report.md").read_text().splitlines() if "second line" in line)
    assert "first \\| line second line" in row
    assert row.endswith(" |")


def test_how_a_study_was_asked_for_and_what_its_runs_share_stand_in_the_report(half_done: Any, tmp_path: Path) -> None:
    half_done.client.log_text(half_done.parent, json.dumps(["grid.yaml --set data=photos --where decoder=wavelet"]),
                              "settings.json")
    assert report("made", "--output", tmp_path) == 0
    for name in ("index.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "inversion-sweep grid.yaml --set data=photos --where decoder=wavelet" in text
        assert "Parameters shared by all runs" in text
    shared = (tmp_path / "report.md").read_text().partition("## Parameters shared by all runs")[2]
    assert "- epochs: 30\n" in shared
    assert "- decoder: " not in shared.partition("##")[0]
    assert collect(connect(), "made").settings == ["grid.yaml --set data=photos --where decoder=wavelet"]


def test_sections_without_content_are_left_out_and_the_others_are_linked_once(
    make_study: Callable[..., Any], scores: Callable[..., Any], half_done: Any, tmp_path: Path
) -> None:
    alone = make_study("alone")
    alone.add(scores(25))
    alone.finish()
    assert report("alone", "--output", tmp_path / "alone") == 0
    text = (tmp_path / "alone" / "index.html").read_text().partition("<script")[0]
    assert 'href="#questions"' not in text
    assert "The study's questions" not in text
    assert "Is it real?" not in text
    assert report("made", "--output", tmp_path / "made") == 0
    text = (tmp_path / "made" / "index.html").read_text()
    assert '<a href="#missing">Not started</a>' in text
    assert text.count("Runs that have not begun") == 1
    assert "2 of 3 runs are finished." in text


@pytest.mark.parametrize("name", ["index.html", "report.md", "files.json"])
def test_a_report_is_not_written_through_a_link(half_done: Any, tmp_path: Path, name: str) -> None:
    folder, target = tmp_path / "report", tmp_path / "precious"
    folder.mkdir()
    target.write_text("[]")
    (folder / name).symlink_to(target)
    assert report("made", "--output", folder) == 0
    assert target.read_text() == "[]"
    assert (folder / name).is_file()
    assert not (folder / name).is_symlink()


def test_nor_into_a_folder_elsewhere(half_done: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report" / "tables").symlink_to(tmp_path / "elsewhere")
    assert report("made", "--output", tmp_path / "report") == 2
    assert "tables is a symbolic link there" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b""])
def test_a_list_that_is_no_text_is_begun_anew(half_done: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "files.json").write_bytes(content)
    assert report("made", "--output", tmp_path) == 0
    assert "index.html" in json.loads((tmp_path / "files.json").read_text())
