"""A study that is set up: its queue, its parent run, and how workers from anywhere find both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import RDBStorage
from pydantic import ValidationError

from inversion.errors import DataError, RequestError, UnknownNameError
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import grace_from_environment, knowingly_experimental, set_grace
from inversion.sweeps.spec.search import Search
from inversion.tracking.address import absolute, sqlite_file
from inversion.tracking.connection import Connection, connect
from inversion.tracking.masking import without_password
from inversion.tracking.search import find_run
from inversion.tracking.study import StudyRun
from inversion.training.stop import StopRequest

TRACKING, EXPERIMENT, PARENT, SEARCH, BASE, GRACE = (
    "tracking_uri", "experiment", "parent_run", "search", "base", "grace_seconds")
"""Attributes of the Optuna study; ``base`` are the resolved parameters that a search's trials share."""

PLACES = {"data", "data_dir", "device", "threads", "strict"}
"""Parameters of a search's trials that may be others when it grows: of the photographs, the digest counts."""

GRID_METRIC, GRID_VALUE = "val/psnr", "best/val_psnr"
"""What a grid's runs report after every epoch, and what stands for them in Optuna at the end."""


@dataclass(frozen=True)
class Study:
    """A queue together with what its Optuna study says of itself."""

    queue: Queue
    name: str
    experiment: str
    search: Search | None

    @property
    def parent(self) -> StudyRun:
        """Its run in MLflow as it is now: where that is deleted, another one is made."""
        return StudyRun(self.queue.study.user_attrs[PARENT], self.name)

    @property
    def metric(self) -> str:
        """The metric that is reported after every epoch."""
        return self.search.reported() if self.search else GRID_METRIC

    @property
    def threads(self) -> int:
        """The most CPU threads that a run has which is not done; 0 if none is left."""
        return max((int(threads) for threads in self._asked("threads", 1)), default=0)

    @property
    def may_use_a_gpu(self) -> bool:
        """Whether a run that is not done asks for something else than the CPU."""
        return any(device != "cpu" for device in self._asked("device", "auto"))

    def _asked(self, parameter: str, otherwise: object) -> list[Any]:
        """A parameter of each run that is not done."""
        shared = self.queue.study.user_attrs.get(BASE, {"config": {}})["config"]  # a search's trials have none at first
        return [entry.config.get(parameter, shared.get(parameter, otherwise)) for entry in self.queue.entries()
                if entry.is_open]

    def require_data(self, digest: str) -> None:
        """Raises a DataError if a machine's photographs are not those that a search was set up with."""
        there = self.queue.study.user_attrs[BASE]["data"]
        if there != digest:
            raise DataError(f"the photographs on this machine are not those of the study (digest {digest}, "
                            f"there {there})")


def make_study(storage: RDBStorage, name: str, connection: Connection, search: Search | None) -> optuna.Study:
    """The Optuna study of a name, made or found; for one process at a time.

    Raises:
        RequestError: it is there and means something else: another tracking store, a search with another space.
    """
    direction = search.direction if search else "maximize"
    if name not in names(storage):
        optuna.create_study(storage=storage, study_name=name, direction=direction)
    study = load(storage, name)
    there = study.user_attrs
    if TRACKING in there:
        follow_store(study, connection)
        require_same_store(study, connection.uri)
        _require_same_search(study, search)
    elif study.trials:
        raise RequestError(f"study {name} in {without_password(storage.url)} was not made by inversion-sweep. "
                           "Give another --study.")
    else:
        attributes = {GRACE: grace_from_environment(), SEARCH: search.to_json() if search else None,
                      EXPERIMENT: connection.experiment, TRACKING: _shown(connection.uri)}
        for key, value in attributes.items():  # the last one says that all are there, should this process die now
            study.set_user_attr(key, value)
    with knowingly_experimental():
        study.set_metric_names([search.metric if search else GRID_VALUE])  # for optuna-dashboard
    return study


def open_study(storage: RDBStorage, name: str, stop: StopRequest | None = None) -> Study:
    """A study that was set up before; ``stop`` ends every wait for its queue's lock.

    Raises:
        UnknownNameError: the queue has no such study.
        RequestError: it has none at all, or this one is being set up, or was by another version.
    """
    known = names(storage)
    if not known:
        raise RequestError(f"queue {without_password(storage.url)} has no study {name!r}, and none at all: "
                           "run inversion-sweep with a spec first")
    if name not in known:
        raise UnknownNameError(f"queue {without_password(storage.url)} has no study", name, known)
    study = load(storage, name)
    attributes = study.user_attrs
    if PARENT not in attributes:
        raise RequestError(f"study {name} is not set up yet: run inversion-sweep with its spec first")
    search = _search_of(study)
    if search:
        with knowingly_experimental():
            study.pruner = search.make_pruner()
    set_grace(storage, attributes[GRACE])
    return Study(Queue(storage, study, stop), name, attributes[EXPERIMENT], search)


def _search_of(study: optuna.Study) -> Search | None:
    """The search that a study was set up with; None for a grid.

    Raises:
        RequestError: it was set up by another version of inversion, and says what this one does not know.
    """
    stored = study.user_attrs.get(SEARCH)
    try:
        return Search.from_json(stored) if stored else None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RequestError(f"study {study.study_name} was set up by another version of inversion: its {where} is "
                           "unknown here. Use that version, or another --study.") from error


def names(storage: RDBStorage) -> list[str]:
    """The studies in a storage."""
    return optuna.get_all_study_names(storage)


def load(storage: RDBStorage, name: str) -> optuna.Study:
    """An existing Optuna study."""
    return optuna.load_study(storage=storage, study_name=name)


def follow_store(study: optuna.Study, connection: Connection) -> None:
    """Notes where a study's tracking store is now, if the folder with queue and store was moved or copied."""
    there = study.user_attrs.get(TRACKING)
    file = sqlite_file(there) if there else None
    if file is None or file.exists() or there == _shown(connection.uri):
        return
    try:
        find_run(connection, study.user_attrs.get(PARENT, ""))
    except RequestError:  # another store
        return
    study.set_user_attr(TRACKING, _shown(connection.uri))


def require_same_store(study: optuna.Study, uri: str) -> None:
    """Raises a RequestError if a worker would log to another tracking store than the study's."""
    there = study.user_attrs.get(TRACKING)
    if there is not None and _shown(there) != _shown(uri):
        raise RequestError(f"study {study.study_name} logs to {there}, and this would log to {_shown(uri)}. "
                           f"Give --tracking-uri {there}, or another --study.")


def in_its_experiment(study: optuna.Study, connection: Connection) -> Connection:
    """The same connection to the experiment that the study was begun in.

    Raises:
        RequestError: another one was asked for.
    """
    there = study.user_attrs.get(EXPERIMENT, connection.experiment)
    if there == connection.experiment:
        return connection
    if connection.is_given:
        raise RequestError(f"study {study.study_name} is in the experiment {there}, not in {connection.experiment}. "
                           f"Give --experiment {there}, or another --study.")
    return connect(connection.uri, there)


def require_same_base(study: optuna.Study, search: Search, base: dict[str, Any]) -> None:
    """Raises a RequestError if a search is to grow by trials that share other parameters or photographs.

    Where the photographs lie, on which device and with how many threads a trial is done changes nothing in it.
    """
    there: dict[str, Any] | None = study.user_attrs.get(BASE)
    if there is None:
        return
    before, now = (search.configure(each["config"], search.ends()).model_dump(exclude=PLACES) for each in (there, base))
    changed = [f"{name} {now[name]} (there {before[name]})" for name in now if now[name] != before[name]]
    changed += ["photographs"] if there["data"] != base["data"] else []
    if changed:
        raise RequestError(f"study {study.study_name} is there with another {' and '.join(changed)}: trials of "
                           "different searches cannot be compared. Give it another name with --study.")


def _require_same_search(study: optuna.Study, search: Search | None) -> None:
    """A study stays what it is; only the number of a search's trials may grow."""
    there: dict[str, Any] | None = study.user_attrs.get(SEARCH)
    now = search.to_json() if search else None
    if (there is None) != (now is None):
        kinds = ("grid", "search") if there is None else ("search", "grid")
        raise RequestError(f"study {study.study_name} is a {kinds[0]}, and this spec is a {kinds[1]}. "
                           "Give it another name with --study.")
    if there is None or now is None:
        return
    changed = [key for key in sorted(there.keys() | now.keys()) if key != "trials" and there.get(key) != now.get(key)]
    if changed:
        raise RequestError(f"study {study.study_name} is there with another {' and '.join(changed)}: trials of "
                           "different searches cannot be compared. Give it another name with --study.")


def _shown(uri: str) -> str:
    return without_password(absolute(uri)).rstrip("/")
