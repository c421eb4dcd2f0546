"""Reading the trials of a study again and again, at a cost that grows with what has changed since."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from inversion.sweeps.queue.entry import PRIORITY

ONE_BY_ONE = 64
"""Up to so many trials are read singly: Optuna reads one in a fraction of the time that it reads all."""

STATES = text("SELECT t.trial_id, t.state, a.value_json AS priority FROM trials t LEFT JOIN trial_user_attributes a "
              "ON a.trial_id = t.trial_id AND a.key = :priority WHERE t.study_id = :study ORDER BY t.trial_id")


class TrialReader:
    """The trials of one study. Threads may share a reader.

    Optuna's storage loads every attribute of every trial at each reading. But it never changes a finished trial, and of
    a waiting one, the queue changes the priority alone. So only states and priorities are read each time, then the
    trials of which one is another than before, and the running ones.

    Args:
        storage: The database of the queue.
        study_id: The Optuna study in it.
    """

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id
        self._known: dict[int, FrozenTrial] = {}
        self._lock = threading.Lock()

    def read(self, states: Collection[TrialState] | None = None) -> list[FrozenTrial]:
        """All trials as they are now, or those in some states, in the order of their numbers. Not to be changed."""
        with self._lock:
            now = self._look()
            changed = [trial_id for trial_id, (state, priority) in now.items()
                       if self._is_old(trial_id, state, priority)]
            if len(changed) > ONE_BY_ONE:
                loaded = self._storage.get_all_trials(self._study_id, deepcopy=False)
            else:
                loaded = [self._storage.get_trial(trial_id) for trial_id in changed]
            self._known.update({trial._trial_id: trial for trial in loaded})
            found = sorted((self._known[trial_id] for trial_id in now), key=lambda trial: trial.number)
        return [trial for trial in found if states is None or trial.state in states]

    def _is_old(self, trial_id: int, state: str, priority: int) -> bool:
        """Whether a trial may have changed since it was read."""
        known = self._known.get(trial_id)
        return (known is None or known.state == TrialState.RUNNING or known.state.name != state
                or known.user_attrs.get(PRIORITY, 0) != priority)

    def _look(self) -> dict[int, tuple[str, int]]:
        """State and priority of every trial by its id."""
        with self._storage.engine.connect() as database:
            rows = database.execute(STATES, {"study": self._study_id, "priority": PRIORITY})
            return {row.trial_id: (row.state, json.loads(row.priority or "0")) for row in rows}
