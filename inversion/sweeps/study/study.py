"""Studies: creating and opening one, its queue, the attributes of its Optuna study, the parameters of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage
from optuna.trial import Trial
from pydantic import ValidationError

from inversion.config.document import added_since, config_from
from inversion.config.parts import parts_in
from inversion.errors import DataError, RequestError, UnknownNameError
from inversion.files import is_there
from inversion.models.part_files import PartFile, Reference, accept, find_all
from inversion.objectives import BEST_PSNR, GRID_METRIC
from inversion.sweeps.queue.entry import CONFIG, DOCUMENT, FALLBACKS, Entry
from inversion.sweeps.queue.pruning import PRUNER
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import (
    grace_from_environment,
    has_queue,
    knowingly_experimental,
    open_storage,
    set_grace,
)
from inversion.sweeps.spec.search import PRUNERS, Algorithm, Search, make_pruner
from inversion.tracking.address import absolute, sqlite_file
from inversion.tracking.connection import Connection, connect
from inversion.tracking.masking import without_password
from inversion.tracking.search import find_run
from inversion.tracking.study import StudyRun
from inversion.training.stop import StopRequest

TRACKING, EXPERIMENT, PARENT, SEARCH, BASE, GRACE, CODE, LABELS, RUN_TIME = (
    "tracking_uri", "experiment", "parent_run", "search", "base", "grace_seconds", "code", "labels", "run_time")
"""User attributes of the Optuna study; ``base`` has the resolved parameters that a search's trials share, ``code`` name
and content of each file of a user's own, by digest, ``labels`` tags that users have given, ``run_time`` the
limit of each run in seconds."""

PLACES = {"data", "data_dir", "device", "threads", "strict"}
"""Parameters that may differ when a search is extended: the images are compared by their digest."""

GRID_VALUE = BEST_PSNR
"""The metric that is the value of a grid's runs in Optuna; after every epoch they report ``GRID_METRIC``."""


@dataclass(frozen=True)
class Study:
    """An open study: its queue, and what the attributes of its Optuna study say."""

    queue: Queue
    name: str
    experiment: str
    search: Search | None

    @property
    def parent(self) -> StudyRun:
        """Its parent run in MLflow. Read from the queue each time, because a deleted parent run is replaced."""
        attributes = self.queue.study.user_attrs
        return StudyRun(attributes[PARENT], self.name, attributes.get(LABELS, {}))

    @property
    def run_time(self) -> float | None:
        """Seconds that each run may train; None for no limit. Read each time: a later request may change it."""
        limit: float | None = self.queue.study.user_attrs.get(RUN_TIME)
        return limit

    def pruner_for(self, entry: Entry) -> BasePruner | None:
        """The pruner that may stop a run; None for none. Of a grid, read each time: a later request may change it.

        Raises:
            RequestError: the study was set up by another version, with a pruner unknown to this one.
        """
        if self.search:
            return self.queue.study.pruner if self.search.pruner.name != "none" else None
        stored = self.queue.study.user_attrs.get(PRUNER)
        if stored is None:
            return None
        if stored["name"] not in PRUNERS:
            raise RequestError(f"study {self.name} was set up by another version of inversion: its pruner "
                               f"{stored['name']} is unknown here. Use that version.")
        return make_pruner(Algorithm(**stored), entry.epochs)

    @property
    def metric(self) -> str:
        """The metric that is reported to Optuna after every epoch."""
        return self.search.reported_metric() if self.search else GRID_METRIC

    @property
    def direction(self) -> str:
        """Whether this metric and the objective are to ``maximize`` or to ``minimize``."""
        return self.search.direction if self.search else "maximize"

    @property
    def objective(self) -> str:
        """The metric that is the value of a run in Optuna."""
        return self.search.metric if self.search else GRID_VALUE

    @property
    def threads(self) -> int:
        """The largest number of CPU threads of the open runs; 0 if none is open."""
        return max((int(threads) for threads in self._asked("threads", 1)), default=0)

    @property
    def may_use_a_gpu(self) -> bool:
        """Whether an open run asks for a device other than the CPU."""
        return any(device != "cpu" for device in self._asked("device", "auto"))

    def parts_of(self, entries: Iterable[Entry]) -> set[str]:
        """The names of the parts of runs that can be from outside the package; of a search, of all its trials."""
        names = {name for entry in entries for name in parts_in(entry.config)}
        if self.search is None:
            return names
        return names | set(parts_in(self.queue.study.user_attrs[BASE]["config"])) | self.search.parts

    def _asked(self, parameter: str, otherwise: object) -> list[Any]:
        """The values of a parameter in the open runs."""
        shared = self.queue.study.user_attrs.get(BASE, {"config": {}})["config"]  # a search's trials have none at first
        return [entry.config.get(parameter, shared.get(parameter, otherwise)) for entry in self.queue.entries()
                if entry.is_open]

    @property
    def code(self) -> dict[str, PartFile]:
        """The files of users' own that its runs need, by digest."""
        stored = self.queue.study.user_attrs.get(CODE, {})
        return {digest: PartFile(name, text.encode()) for digest, (name, text) in stored.items()}

    def accept_code(self, names: Iterable[str], trust_code: bool = False) -> None:
        """Makes sure that the code of parts can be executed here; raises as ``part_files.accept``."""
        def fetch(part: Reference) -> bytes:
            if (file := self.code.get(part.digest)) is None:
                raise RequestError(f"the queue of study {self.name} does not have the code of {part}")
            return file.content

        accept(names, fetch, trust_code, f"study {self.name}")

    def require_data(self, digest: str) -> None:
        """Raises a DataError if the images on this machine differ from those that a search was set up with."""
        expected = self.queue.study.user_attrs[BASE]["data"]
        if expected != digest:
            raise DataError(f"the images on this machine differ from those of the study (digest {digest}, "
                            f"expected {expected})")

    def configure(self, entry: Entry) -> tuple[dict[str, Any], list[dict[str, str]], str | None]:
        """Parameters, inherited fallbacks and digest (None before a search's trial starts) of a claimed run.

        The runs of a grid were resolved when they were queued. For a search the sampler suggests values now, seeded
        with the trial's number: they depend on the finished trials, not on the worker. A resumed trial keeps its own.

        Raises:
            DocumentError: the run was queued by another version of inversion with parameters unknown to this one.
        """
        attributes = entry.trial.user_attrs
        if self.search is None or CONFIG in attributes:
            config = config_from(attributes[CONFIG], attributes.get(DOCUMENT, 1), f"run {entry.name} of the queue")
            return config.model_dump(), attributes.get(FALLBACKS, []), entry.digest
        base = self.queue.study.user_attrs[BASE]
        shared = added_since(base.get("version", 1), base["config"])
        config = self.search.configure(shared, self._suggest(self.search, entry))
        return config.model_dump(), base["fallbacks"], None

    def _suggest(self, search: Search, entry: Entry) -> dict[str, Any]:
        """The sampler's values for a claimed trial; values that it already has stay."""
        study = self.queue.study
        with knowingly_experimental():
            study.sampler = search.make_sampler(entry.root)
            study.get_trials(deepcopy=False)  # fills Optuna's cache, which may miss trials of other processes
            trial = Trial(study, entry.trial._trial_id)
            return {name: _suggest(trial, name, distribution) for name, distribution in search.distributions().items()}


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step,
                                     log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step,
                                       log=distribution.log)
    raise TypeError(f"{name}: no suggestions for {distribution}")


def make_study(storage: RDBStorage, name: str, connection: Connection, search: Search | None) -> optuna.Study:
    """Creates or loads the Optuna study of a name. The caller holds the queue's lock.

    Raises:
        RequestError: the study exists and is a different one: another tracking store, another search space.
    """
    direction = search.direction if search else "maximize"
    if name not in optuna.get_all_study_names(storage):
        optuna.create_study(storage=storage, study_name=name, direction=direction)
    study = optuna.load_study(storage=storage, study_name=name)
    existing = study.user_attrs
    if TRACKING in existing:
        follow_store(study, connection)
        require_same_store(study, connection.uri)
        require_same_search(study, search)
    elif study.trials:
        raise RequestError(f"study {name} in {without_password(storage.url)} was not created by inversion-sweep. "
                           "Give another --study.")
    else:
        attributes = {GRACE: grace_from_environment(), SEARCH: search.to_json() if search else None,
                      EXPERIMENT: connection.experiment, TRACKING: address_in_queue(connection.uri)}
        for key, value in attributes.items():  # TRACKING is last: it marks a complete set, if this process dies
            study.set_user_attr(key, value)
    with knowingly_experimental():
        study.set_metric_names([search.metric if search else GRID_VALUE])  # for optuna-dashboard
    return study


def set_pruner(study: optuna.Study, pruner: Algorithm | None) -> None:
    """Stores the pruner of a grid, which replaces that of an earlier request."""
    now = pruner.model_dump() if pruner else None
    if study.user_attrs.get(PRUNER) != now:
        study.set_user_attr(PRUNER, now)


def add_code(study: optuna.Study, names: Iterable[str]) -> None:
    """Stores the files of parts in a study, for workers on other machines. The caller holds the queue's lock."""
    stored = study.user_attrs.get(CODE, {})
    added = {file.digest: (file.name, file.content.decode()) for file in find_all(names)}
    if added.keys() - stored.keys():
        study.set_user_attr(CODE, stored | added)


def open_study(storage: RDBStorage, name: str, stop: StopRequest | None = None) -> Study:
    """Opens a study that was set up before; ``stop`` ends every wait for its queue's lock.

    Raises:
        UnknownNameError: the queue has no study of that name.
        RequestError: it has no study at all, or this one is still being set up, or was set up by another version.
    """
    known = optuna.get_all_study_names(storage)
    if not known:
        raise RequestError(f"queue {without_password(storage.url)} has no study {name!r}, and none at all: "
                           "run inversion-sweep with a spec first")
    if name not in known:
        raise UnknownNameError(f"queue {without_password(storage.url)} has no study", name, known)
    study = optuna.load_study(storage=storage, study_name=name)
    if PARENT not in study.user_attrs:
        raise RequestError(f"study {name} is not set up yet: run inversion-sweep with its spec first")
    return as_study(storage, study, stop)


def find_queued(name: str, url: str) -> Study | None:
    """A study that was set up before, to look at; None if there is none. Creates nothing."""
    if not has_queue(url):
        return None
    storage = open_storage(url, reading=True)
    return open_study(storage, name) if name in optuna.get_all_study_names(storage) else None


def as_study(storage: RDBStorage, study: optuna.Study, stop: StopRequest | None = None) -> Study:
    """An Optuna study as ``Study``, with the grace period and the pruner that its attributes ask for.

    Raises:
        RequestError: it was set up by another version.
    """
    search = _search_of(study)
    if search:
        with knowingly_experimental():
            study.pruner = search.make_pruner()
    set_grace(storage, study.user_attrs[GRACE])
    return Study(Queue(storage, study, stop), study.study_name, study.user_attrs[EXPERIMENT], search)


def _search_of(study: optuna.Study) -> Search | None:
    """The search that a study was set up with; None for a grid.

    Raises:
        RequestError: it was set up by another version of inversion, with settings unknown to this one.
    """
    stored = study.user_attrs.get(SEARCH)
    try:
        return Search.from_json(stored) if stored else None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RequestError(f"study {study.study_name} was set up by another version of inversion: its {where} is "
                           "unknown here. Use that version, or another --study.") from error


def follow_store(study: optuna.Study, connection: Connection) -> None:
    """Updates the address of a study's tracking store if the folder with queue and store was moved or copied."""
    stored = study.user_attrs.get(TRACKING)
    file = sqlite_file(stored) if stored else None
    if file is None or is_there(file) or stored == address_in_queue(connection.uri):
        return
    try:
        find_run(connection, study.user_attrs.get(PARENT, ""))
    except RequestError:  # another store
        return
    study.set_user_attr(TRACKING, address_in_queue(connection.uri))


def require_same_store(study: optuna.Study, uri: str) -> None:
    """Raises a RequestError if a worker would log to a tracking store other than the study's."""
    stored = study.user_attrs.get(TRACKING)
    if stored is not None and address_in_queue(stored) != address_in_queue(uri):
        raise RequestError(f"study {study.study_name} logs to {stored}, and this would log to {address_in_queue(uri)}. "
                           f"Give --tracking-uri {stored}, or another --study.")


def in_its_experiment(study: optuna.Study, connection: Connection) -> Connection:
    """The connection, switched to the experiment of the study.

    Raises:
        RequestError: another experiment was asked for.
    """
    stored = study.user_attrs.get(EXPERIMENT, connection.experiment)
    if stored == connection.experiment:
        return connection
    if connection.is_given:
        raise RequestError(f"study {study.study_name} is in the experiment {stored}, not in {connection.experiment}. "
                           f"Give --experiment {stored}, or another --study.")
    return connect(connection.uri, stored)


def require_same_base(study: optuna.Study, search: Search, base: dict[str, Any]) -> None:
    """Raises a RequestError if a search would be extended by trials with other shared parameters or images.

    The folder of the images, the device and the number of threads may differ.
    """
    stored: dict[str, Any] | None = study.user_attrs.get(BASE)
    if stored is None:
        return
    before, now = (search.configure(each["config"], search.example()).model_dump(exclude=PLACES)
                   for each in (stored, base))
    changed = [f"{name} {now[name]} (the study has {before[name]})" for name in now if now[name] != before[name]]
    changed += ["images"] if stored["data"] != base["data"] else []
    if changed:
        raise RequestError(f"study {study.study_name} already exists with another {' and '.join(changed)}: trials of "
                           "different searches cannot be compared. Give it another name with --study.")


def require_same_search(study: optuna.Study, search: Search | None) -> None:
    """Raises a RequestError if an existing study would change in anything but a search's number of trials."""
    stored: dict[str, Any] | None = study.user_attrs.get(SEARCH)
    now = search.to_json() if search else None
    if (stored is None) != (now is None):
        kinds = ("grid", "search") if stored is None else ("search", "grid")
        raise RequestError(f"study {study.study_name} is a {kinds[0]}, and this spec is a {kinds[1]}. "
                           "Give it another name with --study.")
    if stored is None or now is None:
        return
    changed = [key for key in sorted(stored.keys() | now.keys()) if key != "trials" and stored.get(key) != now.get(key)]
    if changed:
        raise RequestError(f"study {study.study_name} already exists with another {' and '.join(changed)}: trials of "
                           "different searches cannot be compared. Give it another name with --study.")


def address_in_queue(uri: str) -> str:
    """The address of a tracking store as the queue keeps it, without a password."""
    return without_password(absolute(uri)).rstrip("/")
