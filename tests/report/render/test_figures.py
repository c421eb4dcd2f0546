"""``--figures``: the charts as files for a paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plotly.io  # type: ignore[import-untyped]
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.report.render import figures


@pytest.fixture
def made(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Any:
    """A study of two configurations."""
    made = make_study()
    made.add(scores(25))
    made.add(scores(24), decoder="wavelet")
    made.finish()
    return made


def test_every_chart_is_a_file_in_each_format_and_the_next_report_removes_it(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(drawn: Sequence[Any], files: Sequence[Path], formats: Sequence[str]) -> None:
        for figure, file, form in zip(drawn, files, formats, strict=True):
            file.write_text(f"{form} {figure.layout.width} {figure.layout.font.color}")

    monkeypatch.setattr(plotly.io, "write_images", write)
    monkeypatch.setattr(figures, "find_spec", lambda name: object())
    assert run_command(cli, ["made", "--output", str(tmp_path), "--figures", "svg, PDF"]) == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"leaderboard.svg", "leaderboard.pdf", "differences.svg", "differences.pdf"} <= names
    assert (tmp_path / "figures" / "leaderboard.pdf").read_text() == "pdf 720 black"
    assert {f"figures/{name}" for name in names} <= set(json.loads((tmp_path / "files.json").read_text()))
    logged = [item.path for item in made.client.list_artifacts(made.parent, "report/figures")]
    assert {path.rpartition("/")[2] for path in logged} == names
    assert run_command(cli, ["made", "--output", str(tmp_path)]) == 0
    assert not list((tmp_path / "figures").iterdir())
    assert not made.client.list_artifacts(made.parent, "report/figures")


def test_without_kaleido_or_with_another_format_it_is_one_line(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    assert run_command(cli, ["made", "--output", str(tmp_path / "r"), "--figures", "svg"]) == 2
    assert capsys.readouterr().err == ("error: --figures needs kaleido and an installed Chrome or Chromium: "
                                       "pip install 'inversion[figures]'\n")
    assert run_command(cli, ["made", "--output", str(tmp_path / "r"), "--figures", "svg,png"]) == 2
    assert "'png' is no format of figures. Allowed: svg, pdf" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_browser_that_fails_is_one_line_and_the_earlier_report_stays(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(cli, ["made", "--output", str(tmp_path)]) == 0

    def fail(*words: Any) -> None:
        raise RuntimeError("Chrome\nis not there")

    monkeypatch.setattr(plotly.io, "write_images", fail)
    monkeypatch.setattr(figures, "find_spec", lambda name: object())
    capsys.readouterr()
    assert run_command(cli, ["made", "--output", str(tmp_path), "--figures", "pdf"]) == 2
    assert capsys.readouterr().err == "error: --figures: the charts cannot be drawn: Chrome is not there\n"
    assert (tmp_path / "index.html").exists()


@pytest.mark.acceptance
def test_kaleido_draws_them(made: Any, tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    assert run_command(cli, ["made", "--output", str(tmp_path), "--figures", "svg,pdf"]) == 0
    assert (tmp_path / "figures" / "leaderboard.pdf").read_bytes().startswith(b"%PDF")
    assert "vgg16:block1+wavelet" in (tmp_path / "figures" / "leaderboard.svg").read_text()
