"""Choosing one finished run by what a user types: its id, the beginning of its id, or its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import islice

from mlflow.entities import Run

from inversion.errors import RequestError, UnknownNameError
from inversion.tracking.connection import Connection, without_password
from inversion.tracking.lookup import PAGE, find_run, pages

KIND = "inversion.kind"
ID = re.compile("[0-9a-f]{32}")
BEGINNING = re.compile("[0-9a-f]{4,31}")
NOT_TRAINED = {"study": "is a study: give one of its runs", "driver": "only started a study: give one of its runs",
               "evaluation": "is an evaluation, and has no model of its own: give the run it evaluates",
               "optimize": "inverted images by optimisation, and has no model"}
NAMES_LISTED = 10


def choose_run(connection: Connection, text: str, everywhere: bool = True) -> Run:
    """The FINISHED training run that ``text`` means: an id, the beginning (4 digits or more) of one, or a name.

    A name that several runs have means the one of them that is FINISHED. ``everywhere`` looks in all experiments, else
    in the connection's.

    Raises:
        UnknownNameError: nothing is called so; the nearest name is suggested.
        RequestError: several are, or it is no finished training run.
    """
    return require_trained(_choose(connection, text, _experiments(connection, everywhere)))


def require_trained(run: Run) -> Run:
    """The run, if it is a finished training run.

    Raises:
        RequestError: it is not; the message says what it is instead.
    """
    name, kind = described(run), run.data.tags.get(KIND)
    if kind in NOT_TRAINED:
        raise RequestError(f"{name} {NOT_TRAINED[kind]}")
    if kind != "run":
        raise RequestError(f"{name} was not made by inversion, or never began to train")
    if run.info.status != "FINISHED":
        raise RequestError(f"{name} is {run.info.status}: only a FINISHED run has a model")
    return run


def described(run: Run) -> str:
    """A run in words, for a message."""
    return f"run {run.info.run_id} ({run.info.run_name})"


def _choose(connection: Connection, text: str, experiments: list[str]) -> Run:
    if ID.fullmatch(text):
        return find_run(connection, text)
    found: list[Run] = []
    if BEGINNING.fullmatch(text):
        found = _search(connection, experiments, f"attributes.run_id LIKE '{text}%'")
    if not found and not ("'" in text and '"' in text):  # MLflow's filter language has no escapes
        quote = '"' if "'" in text else "'"
        found = _search(connection, experiments, f"attributes.run_name = {quote}{text}{quote}")
        trained = [run for run in found if run.data.tags.get(KIND) == "run" and run.info.status == "FINISHED"]
        found = trained or found
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found[:NAMES_LISTED])
        raise RequestError(f"{len(found)} runs are called {text!r}: give one by its id ({ids})")
    if not found:
        raise _unknown(connection, text, experiments)
    return found[0]


def _unknown(connection: Connection, text: str, experiments: list[str]) -> UnknownNameError:
    condition = f"tags.`{KIND}` = 'run' and attributes.status = 'FINISHED'"
    names = list(dict.fromkeys(str(run.info.run_name) for run in _search(connection, experiments, condition)))
    nearest = difflib.get_close_matches(text, names, n=NAMES_LISTED, cutoff=0) if names else ["no finished run at all"]
    return UnknownNameError(f"no run in {without_password(connection.uri)} is called", text, nearest)


def _search(connection: Connection, experiments: Sequence[str], condition: str) -> list[Run]:
    found = pages(lambda token: connection.client.search_runs(
        list(experiments), condition, max_results=PAGE, page_token=token))
    return list(islice(found, PAGE))


def _experiments(connection: Connection, everywhere: bool) -> list[str]:
    if not everywhere:
        return [connection.experiment_id]
    return [experiment.experiment_id for experiment in pages(
        lambda token: connection.client.search_experiments(max_results=PAGE, page_token=token))]
