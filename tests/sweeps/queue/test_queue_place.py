"""A study has one queue, whichever machine asks and however it asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inversion.errors import RequestError
from inversion.sweeps.study.parent import STORAGE_BOOT, STORAGE_HOST, STORAGE_TAG
from inversion.sweeps.study.set_up import locate_queue
from inversion.sweeps.study.study import make_study
from inversion.tracking.connection import Connection
from inversion.tracking.ownership import BOOT, HOST, machine_tags
from inversion.tracking.study import begin_study

Locate = Callable[..., str]


@pytest.fixture
def locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Locate:
    """``locate(given, uri, **tags)``: where the queue is of a study whose parent run has these tags."""
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "data"))

    def run(given: str | None = None, uri: str = "http://host:5000", **tags: str) -> str:
        parent = SimpleNamespace(data=SimpleNamespace(tags={
            STORAGE_TAG: f"sqlite:///{tmp_path}/queue.db", STORAGE_HOST: machine_tags()[HOST],
            STORAGE_BOOT: machine_tags().get(BOOT, ""), **tags}))
        monkeypatch.setattr("inversion.sweeps.study.set_up.find_study", lambda *_: parent)
        nobody: Any = None
        return locate_queue(given, Connection(uri, nobody, "1", "inversion"), "ablation")

    return run


ELSEWHERE = {STORAGE_HOST: "elsewhere", STORAGE_BOOT: "another"}


@pytest.mark.parametrize("given", [None, "here.db", "postgresql://me@host/runs"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_queue_in_a_file_of_another_machine_is_refused_with_what_to_use_instead(
        exists: bool, given: str | None, locate: Locate, tmp_path: Path) -> None:
    """Also where the same path exists here: it is another file, or one on a network folder."""
    if exists:
        (tmp_path / "queue.db").touch()
    with pytest.raises(RequestError, match=r"its queue is an SQLite file on elsewhere; use PostgreSQL "
                                           r"\(--storage postgresql://"):
        locate(given, **ELSEWHERE)


def test_on_its_own_machine_a_queue_is_found_and_a_lost_one_is_made_anew(locate: Locate, tmp_path: Path) -> None:
    anew = locate()
    assert anew.endswith("/data/queues/host_5000/inversion-queue.db")
    (tmp_path / "queue.db").touch()
    assert locate() == f"sqlite:///{tmp_path}/queue.db"


def test_a_container_of_the_same_machine_may_be_called_otherwise(locate: Locate, tmp_path: Path) -> None:
    (tmp_path / "queue.db").touch()
    assert locate(**{STORAGE_HOST: "container"}) == f"sqlite:///{tmp_path}/queue.db"


def test_a_machine_that_has_another_name_now_has_its_tracking_store_still(locate: Locate, tmp_path: Path) -> None:
    (tmp_path / "queue.db").touch()
    assert locate(uri=f"sqlite:///{tmp_path}/mlflow.db", **ELSEWHERE) == f"sqlite:///{tmp_path}/queue.db"


def test_a_queue_in_postgresql_is_everybodys(locate: Locate) -> None:
    assert locate(**ELSEWHERE, **{STORAGE_TAG: "postgresql://me@host/runs"}) == "postgresql://me@host/runs"


def test_a_second_machine_is_refused_whatever_it_asks_for(
        lab: Any, sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = lab.spec("grid:\n  - decoder: [wavelet]")
    assert sweep(spec, "--workers", 0).code == 0
    monkeypatch.setattr("inversion.sweeps.study.set_up.is_server", lambda uri: True)
    monkeypatch.setattr("inversion.sweeps.study.set_up.machine_tags", lambda: {HOST: "second", BOOT: "another"})
    for words in ((spec,), ("--join", "--study", "tiny"), ("--status", "--study", "tiny")):
        outcome = sweep(*words)
        assert outcome.code == 2
        assert f"its queue is an SQLite file on {machine_tags()[HOST]}; use PostgreSQL" in outcome.err
        assert outcome.err.count("\n") == 1


def test_of_two_machines_that_begin_a_study_at_once_the_second_is_refused(
        lab: Any, sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has begun it between this one's look and its own beginning."""
    def make_late(*words: Any) -> Any:
        made = make_study(*words)
        begin_study(words[2], "tiny", {STORAGE_TAG: "postgresql://me@host/runs"})
        return made

    monkeypatch.setattr("inversion.sweeps.study.set_up.make_study", make_late)
    outcome = sweep(lab.spec("grid:\n  - decoder: [wavelet]"), "--workers", 0)
    assert outcome.code == 2
    assert "has its queue in postgresql://me@host/runs" in outcome.err
    assert lab.results().trials == []
