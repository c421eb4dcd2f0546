"""Runs that another version of inversion queued: done with what their parameters were then, or refused by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from inversion.config import document
from inversion.config.document import VERSION, DocumentError
from inversion.config.run_config import RunConfig
from inversion.errors import RequestError
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.queue import Queued, _attributes
from inversion.sweeps.spec.search import Search
from inversion.sweeps.study.study import PARENT, SEARCH, Study, open_study
from inversion.sweeps.workers.worker import can_train_together

CONFIG = RunConfig(encoder="vgg16:block1", layer="block1", fusion="none", data="sample", weights="random").model_dump()


def entry(**attributes: Any) -> Entry:
    trial = optuna.create_trial(state=TrialState.WAITING, user_attrs={"run": "vgg16:block1+wavelet", **attributes})
    return Entry(trial)


def parameters(queued: Entry) -> dict[str, Any]:
    grid: Study = SimpleNamespace(search=None)  # type: ignore[assignment]
    return Study.configure(grid, queued)[0]


def test_what_is_queued_says_in_which_version_its_parameters_are_written() -> None:
    attributes = _attributes(Queued("a", CONFIG, "digest"))
    assert attributes["document_version"] == VERSION
    assert parameters(entry(**attributes)) == CONFIG
    assert "document_version" not in _attributes(Queued())


def test_a_parameter_that_came_later_is_what_it_was_when_the_run_was_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    older = {name: value for name, value in CONFIG.items() if name != "patience"}
    monkeypatch.setattr(document, "VERSION", VERSION + 1)
    monkeypatch.setattr(document, "ADDED", {VERSION + 1: {"patience": 7}})
    assert parameters(entry(config=older))["patience"] == 7
    assert parameters(entry(config=older, document_version=VERSION))["patience"] == 7
    assert parameters(entry(config=older, document_version=VERSION + 1))["patience"] == 15
    assert not can_train_together(entry(config=CONFIG), entry(config={"encoder": CONFIG["encoder"]}))


@pytest.mark.parametrize(("attributes", "says"), [
    ({"config": CONFIG, "document_version": VERSION + 1}, "made by a newer version of inversion"),
    ({"config": CONFIG | {"gone": 1}}, "does not know: gone"),
])
def test_a_run_of_another_version_is_refused_by_its_name(attributes: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentError, match=r"^run vgg16:block1\+wavelet of the queue") as caught:
        parameters(entry(**attributes))
    assert says in str(caught.value)


def test_a_search_of_another_version_is_refused_by_the_name_of_its_study(bench: Any) -> None:
    study = bench.open().study
    study.set_user_attr(PARENT, "id")
    study.set_user_attr(SEARCH, {"metric": "best/val_psnr", "unheard": "of"})
    assert "unheard" not in Search.model_fields
    with pytest.raises(RequestError, match=rf"^study {bench.name} was set up by another version of inversion"):
        open_study(bench.storage(), bench.name)
