"""Tags and comments that users give to a study or a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inversion.cli.app import cli as inversion
from inversion.cli.app import run_command
from inversion.config.labels import COMMENT
from inversion.report.build import make_report
from inversion.report.data.collect import collect
from inversion.report.render.page import render
from inversion.sweeps.spec.spec import load_spec
from inversion.tracking.connection import connect
from tests.sweeps.lab import BASE, SHORT

Sweep = Callable[..., Any]


def given(run: Any) -> dict[str, str]:
    return {key: value for key, value in run.data.tags.items() if key in ("campaign", "who", COMMENT)}


def test_tags_and_comment_are_those_of_the_study_and_of_all_its_runs(
    lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[..., None]
) -> None:
    text = "grid: [{decoder: wavelet}]\ntags: {campaign: spring, who: me}\ncomment: the *first* [try]"
    queued(text, "--tag", "campaign=autumn", epochs=1)
    expected = {"campaign": "autumn", "who": "me", COMMENT: "the *first* [try]"}
    assert given(lab.results().parent) == expected
    work_here()
    before, = lab.results().runs
    assert given(before) == expected
    for run in (before, lab.results().parent):
        assert "Comment: the \\*first\\* \\[try\\]" in run.data.tags["mlflow.note.content"]

    queued(SHORT, "--comment", "<b>again</b>", epochs=1)  # tags of runs that are there already, and of the study
    assert [given(run) for run in lab.results().everything] == [expected | {COMMENT: "<b>again</b>"}] * 2
    assert set(lab.results().by_digest) == {before.data.tags["inversion.digest"]}

    page = render(make_report(connect(), collect(connect(), "tiny")))
    assert "<p>&lt;b&gt;again&lt;/b&gt;</p>" in page
    assert "campaign: autumn · who: me</p>" in page


def test_a_run_alone_has_its_tags_and_they_are_no_part_of_its_digest(lab: Any) -> None:
    words = [word for name, value in {**BASE, "epochs": "1", "data": lab.photos}.items()
             for word in (f"--{name.replace('_', '-')}", str(value))]
    assert run_command(inversion, ["train", *words, "--tag", "who=me=you", "--comment", "alone"]) == 0
    assert run_command(inversion, ["train", *words]) == 0
    other, run = lab.results().runs
    assert (given(run), given(other)) == ({"who": "me=you", COMMENT: "alone"}, {})
    assert run.data.tags["inversion.digest"] == other.data.tags["inversion.digest"]
    assert "Comment: alone" in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(("words", "message"), [
    (("--tag", "campaign"), "'campaign' is not of the form KEY=VALUE"), (("--tag", "=x"), "'' is not a key of a tag"),
    (("--tag", "a="), "the tag a has no value"), (("--tag", "a/../b=c"), "'a/../b' is not a key of a tag"),
    (("--tag", "a,b=c"), "'a,b' is not a key"), (("--tag", f"{'a' * 251}=c"), "(at most 250)"),
    (("--tag", "mlflow.user=me"), "the tag 'mlflow.user' is reserved: tags that begin with mlflow. are set by mlflow"),
    (("--tag", "inversion.digest=1"), "the tag 'inversion.digest' is reserved"),
    (("--tag", "Inversion.x=1"), "is reserved"), (("--tag", f"a={'b' * 5001}"), "has 5,001 characters; at most 5,000"),
    (("--tag", "a=1", "--tag", "a=2"), "--tag a is given twice, as '1' and as '2'"),
    (("--tag", "a=\x1b[31m"), r"characters that cannot be shown: \x1b[31m"),
    (("--comment", " "), "the comment has no value"), (("--comment", "a\ud800"), "cannot be shown"),
])
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_what_mlflow_does_not_allow_is_refused(
    command: str, words: tuple[str, ...], message: str, sweep: Sweep, capsys: pytest.CaptureFixture[str], lab: Any
) -> None:
    if command == "sweep":
        outcome = sweep("smoke.yaml", *words)
        code, error = outcome.code, outcome.err
    else:
        code = run_command(inversion, ["train", *words])
        error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not lab.results().everything


@pytest.mark.parametrize(("text", "lines"), [
    ("tags: [a]", ["s.yaml:3: tags is a mapping of keys to values"]), ("tags:", ["s.yaml:3: tags is a mapping"]),
    ("tags:\n  mlflow.user: me\n  a: [b]\n  c:",
     ["s.yaml:4: the tag 'mlflow.user' is reserved", "s.yaml:5: the tag a: exp",
      "s.yaml:6: the tag c: expected a single value, got nothing"]),
    ("comment: {a: b}", ["s.yaml:3: comment: expected a single value, got a mapping"]),
    ("labels: {a: b}", ["s.yaml:3: a spec has no 'labels'. Known: "]),
])
def test_what_is_wrong_in_a_spec_is_reported_with_its_line(text: str, lines: list[str], lab: Any, sweep: Sweep) -> None:
    Path("s.yaml").write_text(f"study: s\ngrid: [{{seed: 1}}]\n{text}\n")
    outcome = sweep("s.yaml", "--dry-run")
    found = outcome.err.splitlines()
    assert (outcome.code, len(found)) == (2, len(lines)), outcome.err
    assert all(line.startswith(f"error: {expected}") for line, expected in zip(found, lines, strict=True)), found


def test_tags_are_inherited_and_a_comment_is_not(lab: Any, sweep: Sweep) -> None:
    Path("parent.yaml").write_text("study: p\ngrid: [{seed: 1}]\ntags: {a: b, c: d}\ncomment: of the parent")
    Path("s.yaml").write_text("study: s\nextends: parent.yaml\ntags: {c: e}")
    assert load_spec("s.yaml").labels == {"a": "b", "c": "e"}
    assert load_spec("s.yaml", labels={"a": "x"}).labels == {"a": "x", "c": "e"}
    shown = sweep("s.yaml", "--dry-run", "--comment", "what it is").out
    assert shown.startswith("tag a: b\ntag c: e\ncomment: what it is\n")


@pytest.mark.parametrize("words", [("--join", "--study", "s"), ("--status", "--study", "s"), ("smoke.yaml", "--join")])
def test_tags_are_set_with_a_spec(words: tuple[str, ...], sweep: Sweep) -> None:
    outcome = sweep(*words, "--tag", "a=b")
    assert outcome.code == 2
    assert "--tag and --comment are set when a SPEC is queued" in outcome.err
