"""A study is what it was begun as, whoever opens it and whatever died while it was made."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.storages import RDBStorage

from inversion.errors import DataError, RequestError, UnknownNameError
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.spec.search import Algorithm, FloatRange, Search
from inversion.sweeps.study.study import (
    BASE,
    PARENT,
    TRACKING,
    follow_store,
    in_its_experiment,
    make_study,
    open_study,
    require_same_base,
    require_same_store,
)
from inversion.tracking.connection import Connection, connect

SEARCH = Search(metric="best/val_psnr", direction="maximize", trials=3, seed=0, sampler=Algorithm(name="random"),
                pruner=Algorithm(name="median", options={"n_startup_trials": 2}),
                space={"lr": FloatRange(low=1, high=2)})
MINIMISED = SEARCH.model_copy(update={"metric": "val/loss", "direction": "minimize"})


@pytest.fixture
def storage(bench: Any, monkeypatch: pytest.MonkeyPatch) -> RDBStorage:
    monkeypatch.delenv("INVERSION_GRACE_SECONDS", raising=False)
    storage: RDBStorage = bench.storage()
    return storage


def connection(uri: str = "http://host:5000", experiment: str = "inversion") -> Connection:
    """A tracking store that nobody asks anything."""
    nobody: Any = None
    return Connection(uri, nobody, "1", experiment)


def complete(storage: RDBStorage, name: str = "ablation", search: Search | None = None) -> optuna.Study:
    """A study that can be opened."""
    study = make_study(storage, name, connection(), search)
    study.set_user_attr(PARENT, "id of the parent")
    return study


@pytest.mark.parametrize("search", [None, SEARCH, MINIMISED])
def test_a_study_is_made_once_and_then_found(search: Search | None, storage: RDBStorage) -> None:
    made = complete(storage, "ablation", search)
    Queue(storage, made).add([Queued("run", {}, "digest")])
    found = make_study(storage, "ablation", connection(experiment="other"), search)
    assert (found._study_id, found.user_attrs) == (made._study_id, made.user_attrs)
    assert found.direction.name.lower() == (search.direction if search else "maximize")
    assert optuna.get_all_study_names(storage) == ["ablation"]


def test_a_study_knows_where_it_logs_what_it_is_and_how_patient_it_is(storage: RDBStorage) -> None:
    made = make_study(storage, "ablation", connection("https://me:secret@host/mlflow/"), SEARCH)
    assert made.user_attrs == {"tracking_uri": "https://me:***@host/mlflow", "experiment": "inversion",
                               "search": SEARCH.to_json(), "grace_seconds": 90}
    assert Search.from_json(made.user_attrs["search"]) == SEARCH


def test_a_study_follows_its_tracking_store_when_their_folder_was_moved(storage: RDBStorage, workplace: Path) -> None:
    made = make_study(storage, "ablation", connection(f"sqlite:///{workplace}/before/mlflow.db"), None)
    here = connect()
    made.set_user_attr(PARENT, here.client.create_run(here.experiment_id).info.run_id)
    assert open_study(storage, "ablation").queue.study.user_attrs[TRACKING] != here.uri
    follow_store(made, here)
    assert made.user_attrs[TRACKING] == here.uri
    require_same_store(made, here.uri)


@pytest.mark.parametrize(("there", "parent"), [("before/mlflow.db", "0" * 32), ("mlflow.db", None)])
def test_a_study_does_not_follow_into_a_store_without_its_runs__or_from_one_that_is_there(
        there: str, parent: str | None, storage: RDBStorage, workplace: Path, tmp_path: Path) -> None:
    shutil.copy(workplace / "mlflow.db", tmp_path / "other.db")
    made = make_study(storage, "ablation", connection(f"sqlite:///{workplace}/{there}"), None)
    other = connect(f"sqlite:///{tmp_path}/other.db")
    made.set_user_attr(PARENT, parent or other.client.create_run(other.experiment_id).info.run_id)
    follow_store(made, other)
    with pytest.raises(RequestError, match=f"logs to sqlite:///{workplace}/{there}"):
        require_same_store(made, other.uri)


@pytest.mark.parametrize("written", range(4))
def test_a_process_that_dies_while_it_makes_a_study_is_made_up_for(
        written: int, storage: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what comes then is another spec: a study that was never begun means nothing."""
    write, left = optuna.Study.set_user_attr, [None] * written

    def die_sooner_or_later(study: optuna.Study, key: str, value: object) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        write(study, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", die_sooner_or_later)
        patch.setenv("INVERSION_GRACE_SECONDS", "7")
        with pytest.raises(KeyboardInterrupt):
            make_study(storage, "ablation", connection("http://elsewhere", "other"), SEARCH)
    whole = make_study(storage, "whole", connection(), None)
    assert make_study(storage, "ablation", connection(), None).user_attrs == whole.user_attrs
    assert optuna.get_all_study_names(storage) == ["ablation", "whole"]


def test_a_study_of_somebody_else_is_refused_and_left_as_it_is(storage: RDBStorage) -> None:
    theirs = optuna.create_study(storage=storage, study_name="ablation")
    theirs.enqueue_trial({"x": 1})
    with pytest.raises(RequestError, match=r"study ablation in sqlite:///.* was not created by inversion-sweep\. "
                                           r"Give another --study\."):
        make_study(storage, "ablation", connection(), None)
    assert optuna.load_study(storage=storage, study_name="ablation").user_attrs == {}


def test_another_tracking_store_is_refused_with_both_their_names(storage: RDBStorage) -> None:
    make_study(storage, "ablation", connection("https://me:secret@host/mlflow"), None)
    message = (r"study ablation logs to https://me:\*\*\*@host/mlflow, and this would log to http://other:5000\. "
               r"Give --tracking-uri https://me:\*\*\*@host/mlflow, or another --study\.")
    with pytest.raises(RequestError, match=message):
        make_study(storage, "ablation", connection("http://other:5000"), None)


def test_the_same_tracking_store_may_be_named_in_other_ways(
        storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = make_study(storage, "files", connection("sqlite:///mlflow.db"), None)
    assert files.user_attrs[TRACKING] == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    require_same_store(files, f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(RequestError, match="logs to"):
        require_same_store(files, "sqlite:///other.db")
    servers = make_study(storage, "servers", connection("http://host:5000"), None)
    require_same_store(servers, "http://host:5000/")


@pytest.mark.parametrize(("before", "now", "words"), [
    (None, SEARCH, "study ablation is a grid, and this spec is a search"),
    (SEARCH, None, "study ablation is a search, and this spec is a grid"),
])
def test_a_grid_does_not_become_a_search_nor_a_search_a_grid(
        before: Search | None, now: Search | None, words: str, storage: RDBStorage) -> None:
    make_study(storage, "ablation", connection(), before)
    with pytest.raises(RequestError, match=rf"{words}\. Give it another name with --study\."):
        make_study(storage, "ablation", connection(), now)


@pytest.mark.parametrize(("changed", "named"), [
    ({"space": {"lr": FloatRange(low=1, high=3)}}, "space"),
    ({"space": {"lr": FloatRange(low=1, high=2), "mse_weight": FloatRange(low=0, high=1)}}, "space"),
    ({"sampler": Algorithm(name="tpe")}, "sampler"),
    ({"pruner": Algorithm(name="median", options={"n_startup_trials": 5})}, "pruner"),
    ({"metric": "val/loss", "direction": "minimize"}, "direction and metric"),
    ({"seed": 1, "trials": 10}, "seed"),
])
def test_a_search_that_compares_other_things_is_refused(
        changed: dict[str, Any], named: str, storage: RDBStorage) -> None:
    make_study(storage, "ablation", connection(), SEARCH)
    with pytest.raises(RequestError, match=f"study ablation already exists with another {named}:"):
        make_study(storage, "ablation", connection(), SEARCH.model_copy(update=changed))


def test_a_search_may_get_more_trials(storage: RDBStorage) -> None:
    made = make_study(storage, "ablation", connection(), SEARCH)
    more = SEARCH.model_copy(update={"trials": 30})
    assert make_study(storage, "ablation", connection(), more)._study_id == made._study_id


SHARED = {"encoder": "vgg16:block1", "data": "/data/photos", "weights": "random", "threads": "4", "epochs": "30"}


@pytest.mark.parametrize(("changed", "digest", "named"), [
    ({"epochs": "60"}, "digest", r"epochs 60 \(the study has 30\)"),
    ({"mse_weight": "0.9"}, "digest", r"mse_weight 0\.9 \(the study has 0\.5\)"),
    ({}, "other", "images"),
    ({"weights": "random:7"}, "other", "weights random:7 .* and images"),
])
def test_a_search_does_not_grow_by_trials_of_another_base(
        changed: dict[str, str], digest: str, named: str, storage: RDBStorage) -> None:
    study = complete(storage, "ablation", SEARCH)
    study.set_user_attr(BASE, {"config": SHARED, "data": "digest"})
    with pytest.raises(RequestError, match=f"study ablation already exists with another {named}:"):
        require_same_base(study, SEARCH, {"config": SHARED | changed, "data": digest})


def test_a_search_grows_wherever_its_photographs_lie_and_with_any_number_of_threads(storage: RDBStorage) -> None:
    study = complete(storage, "ablation", SEARCH)
    require_same_base(study, SEARCH, {"config": SHARED, "data": "digest"})  # it has none before
    study.set_user_attr(BASE, {"config": SHARED, "data": "digest"})
    moved = {"data": "/moved/photos", "data_dir": "/elsewhere", "threads": "8", "device": "cpu", "epochs": "30.0"}
    require_same_base(study, SEARCH, {"config": SHARED | moved, "data": "digest"})


def test_a_study_stays_in_the_experiment_that_it_was_begun_in(
        storage: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(storage, "ablation", connection(experiment="mine"), None)
    monkeypatch.setattr("inversion.sweeps.study.study.connect", lambda uri, experiment: connection(uri, experiment))
    assert in_its_experiment(study, connection()).experiment == "mine"
    asked = replace(connection(), is_given=True)
    with pytest.raises(RequestError, match=r"study ablation is in the experiment mine, not in inversion\. "
                                           r"Give --experiment mine, or another --study\."):
        in_its_experiment(study, asked)


def test_a_queue_without_studies_says_so(storage: RDBStorage) -> None:
    with pytest.raises(RequestError, match="has no study 'ablation', and none at all"):
        open_study(storage, "ablation")


def test_an_unknown_study_is_told_with_the_nearest_that_there_is(storage: RDBStorage) -> None:
    complete(storage, "ablation")
    complete(storage, "smoke")
    with pytest.raises(UnknownNameError, match=r"has no study 'ablatoin'\. Known: ablation, smoke\. "
                                               r"Did you mean 'ablation'\?"):
        open_study(storage, "ablatoin")


def test_a_study_that_is_just_being_made_is_not_worked_on_yet(storage: RDBStorage) -> None:
    make_study(storage, "ablation", connection(), None)
    with pytest.raises(RequestError, match="study ablation is not set up yet"):
        open_study(storage, "ablation")


def test_an_opened_grid_is_what_was_made(storage: RDBStorage) -> None:
    made = complete(storage)
    Queue(storage, made).add([Queued("run", {}, "digest")])
    study = open_study(storage, "ablation")
    assert (study.name, study.experiment) == ("ablation", "inversion")
    assert (study.parent.run_id, study.parent.name) == ("id of the parent", "ablation")
    assert (study.search, study.metric) == (None, "val/psnr")
    assert [entry.name for entry in study.queue.entries()] == ["run"]


def test_an_opened_search_has_its_pruner_and_reports_what_it_optimises(storage: RDBStorage) -> None:
    complete(storage, "ablation", SEARCH)
    study = open_study(storage, "ablation")
    assert (study.search, study.metric) == (SEARCH, "val/psnr")
    pruner = study.queue.study.pruner
    assert isinstance(pruner, MedianPruner)
    assert pruner._n_startup_trials == 2
    complete(storage, "losses", MINIMISED)
    assert open_study(storage, "losses").metric == "val/loss"


def test_a_study_knows_the_threads_of_the_runs_that_are_left(storage: RDBStorage) -> None:
    grid = complete(storage)
    Queue(storage, grid).add([Queued(str(threads), {"threads": threads}, str(threads)) for threads in (2, 4)])
    study = open_study(storage, "ablation")
    assert study.threads == 4
    while (entry := study.queue.claim()) is not None:
        study.queue.fail(entry.trial._trial_id, "error", "why")
    assert study.threads == 0
    search = complete(storage, "losses", SEARCH)
    search.set_user_attr(BASE, {"config": {"threads": "3"}})
    Queue(storage, search).grow(1)
    assert open_study(storage, "losses").threads == 3


def test_how_long_the_dead_are_waited_for_is_the_studys_own(
        storage: RDBStorage, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers must agree on it, whatever the environment of each says."""
    monkeypatch.setenv("INVERSION_GRACE_SECONDS", "12")
    complete(storage)
    monkeypatch.setenv("INVERSION_GRACE_SECONDS", "600")
    complete(storage)
    queue = open_study(bench.storage(), "ablation").queue
    assert (queue.grace_seconds, queue.heartbeat_seconds) == (12, 2)
    assert (queue.storage.grace_period, queue.storage.get_heartbeat_interval()) == (12, 2)


def test_a_search_is_not_worked_on_with_other_photographs(storage: RDBStorage) -> None:
    complete(storage, "ablation", SEARCH).set_user_attr(BASE, {"data": "digest"})
    study = open_study(storage, "ablation")
    study.require_data("digest")
    with pytest.raises(DataError, match=r"digest other, expected digest"):
        study.require_data("other")
