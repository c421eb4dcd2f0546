"""From a claimed trial to the parameters of its run."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from inversion.config.document import added_since, config_from
from inversion.sweeps.queue.entry import CONFIG, DOCUMENT, FALLBACKS, Entry
from inversion.sweeps.queue.storage import knowingly_experimental
from inversion.sweeps.spec.search import Search
from inversion.sweeps.study.study import BASE, Study


def configure(study: Study, entry: Entry) -> tuple[dict[str, Any], list[dict[str, str]], str | None]:
    """Parameters, inherited fallbacks and digest of a claimed run.

    A grid's were resolved when it was queued. A search's are suggested now, by a sampler that is seeded with the
    trial's number: they depend on the trials that are done, not on the worker. Those of an interrupted trial are the
    ones it had.

    Raises:
        DocumentError: it was queued by another version of inversion, and says what this one does not know.
    """
    attributes = entry.trial.user_attrs
    if study.search is None or CONFIG in attributes:
        config = config_from(attributes[CONFIG], attributes.get(DOCUMENT, 1), f"run {entry.name} of the queue")
        return config.model_dump(), attributes.get(FALLBACKS, []), entry.digest
    base = study.queue.study.user_attrs[BASE]
    shared = added_since(base.get("version", 1), base["config"])
    config = study.search.configure(shared, suggest(study, study.search, entry))
    return config.model_dump(), base["fallbacks"], None


def suggest(study: Study, search: Search, entry: Entry) -> dict[str, Any]:
    """The values that the sampler suggests for a claimed trial; those it has already stay."""
    with knowingly_experimental():
        study.queue.study.sampler = search.make_sampler(entry.root)
        study.queue.study.get_trials(deepcopy=False)  # Optuna's cache does not know what it has not read itself
        trial = Trial(study.queue.study, entry.trial._trial_id)
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
