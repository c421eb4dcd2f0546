"""The run that a user means by an id, the beginning of one, a name, or ``STUDY/NAME``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from mlflow.entities import Run

from inversion.config.distinguish import parameter_text, shown_parameters, with_differences
from inversion.config.document import DocumentError, read_document
from inversion.config.run_config import parse_value
from inversion.errors import InversionError, RequestError, SeveralErrors, UnknownNameError
from inversion.metrics import decibels
from inversion.tracking.connection import Connection
from inversion.tracking.masking import without_password
from inversion.tracking.search import (
    CONFIG,
    KIND,
    PAGE,
    begins,
    document_of,
    equals,
    find_run,
    pages,
    search_in,
    tagged,
)
from inversion.tracking.study import STUDY, SUPERSEDED

ID = re.compile("[0-9a-f]{32}")
BEGINNING, TOO_SHORT = re.compile("[0-9a-f]{4,31}"), re.compile("[0-9a-f]{1,3}")
STUDY_AND_NAME = re.compile("([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(.+)")
LISTED = 10

NOT_TRAINED = {"study": "is a study: give one of its runs", "driver": "only started a study: give one of its runs",
               "evaluation": "is an evaluation, and has no model of its own: give the run it evaluates",
               "optimize": "inverted images by optimisation, and has no model",
               SUPERSEDED: "is superseded: its configuration was queued again with --rerun, so give the newer run"}


def choose_run(connection: Connection, text: str, everywhere: bool = True) -> Run:
    """The FINISHED training run that the user means.

    Args:
        connection: the tracking store.
        text: a run id, its first 4 or more digits, a run name, or ``STUDY/NAME``. After a name, parameters may be given
            in which runs of that name differ, as leaderboards show them: ``vgg16:block1+wavelet lr=0.01``. Of several
            runs of a name, the FINISHED one is meant.
        everywhere: whether to search in all experiments, or in the connection's only.

    Raises:
        UnknownNameError: no run matches; the nearest names are suggested.
        SeveralErrors: several match; a line for each has its id, study, date and score.
        RequestError: the run is not a finished training run.
    """
    return require_trained(_choose(connection, text, _experiments(connection, everywhere), _is_trained))


def choose_resumable(connection: Connection, text: str) -> Run:
    """The run that the user means, of several the one that is not FINISHED; forms and errors as ``choose_run``.

    Whether it can be resumed is for the caller to check.
    """
    run = _choose(connection, text, _experiments(connection, True), _is_unfinished)
    _require_training(run)
    return run


def choose_extendable(connection: Connection, text: str) -> Run:
    """The run that the user means, of several the FINISHED one; forms and errors as ``choose_run``.

    Whether it can be extended is for the caller to check.
    """
    run = _choose(connection, text, _experiments(connection, True), _is_trained)
    _require_training(run)
    return run


def choose_running(connection: Connection, text: str) -> Run:
    """The run that the user means, of several the one that is RUNNING; forms and errors as ``choose_run``."""
    return _choose(connection, text, _experiments(connection, True), lambda run: bool(run.info.status == "RUNNING"))


def require_trained(run: Run) -> Run:
    """Returns the run if it is a finished training run.

    Raises:
        RequestError: it is not; the message says what it is.
    """
    _require_training(run)
    name = described(run)
    if run.data.tags.get(KIND) != "run":
        raise RequestError(f"{name} was not created by inversion, or has not started training")
    if run.info.status != "FINISHED":
        raise RequestError(f"{name} is {run.info.status}: only a FINISHED run has a model")
    return run


def _require_training(run: Run) -> None:
    """Raises a RequestError if a run is of a kind that trains nothing."""
    kind, study = run.data.tags.get(KIND), run.data.tags.get(STUDY)
    if kind in NOT_TRAINED:
        how = f" as {study}/NAME, or --best-of {study}" if kind == "study" and study else ""
        raise RequestError(f"{described(run)} {NOT_TRAINED[kind]}{how}")


def described(run: Run) -> str:
    """A run for a message: ``run ID (NAME)``."""
    return f"run {run.info.run_id} ({run.info.run_name})"


def list_runs(runs: Sequence[Run]) -> list[str]:
    """A line for each run: its id, how it differs, its study, when it was started, and its score."""
    names, parameters = [str(run.info.run_name) for run in runs], [_parameters(run) for run in runs]
    return [", ".join(filter(None, [
        run.info.run_id, label, f"study {study}" if (study := run.data.tags.get(STUDY)) else "no study",
        f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}", _score(run)]))
        for run, label in zip(runs, with_differences(names, parameters), strict=True)]


def _is_trained(run: Run) -> bool:
    return run.data.tags.get(KIND) == "run" and run.info.status == "FINISHED"


def _is_unfinished(run: Run) -> bool:
    return run.data.tags.get(KIND) == "run" and run.info.status != "FINISHED"


def _choose(connection: Connection, text: str, experiments: list[str], preferred: Callable[[Run], bool]) -> Run:
    if ID.fullmatch(text):
        return find_run(connection, text)
    found: list[Run] = []
    if BEGINNING.fullmatch(text):
        found = _search(connection, experiments, begins("attributes.run_id", text))
    if not found:
        found = _named(connection, experiments, text)
        found = [run for run in found if preferred(run)] or found
    if len(found) > 1:
        more = [f"and {len(found) - LISTED} more"] if len(found) > LISTED else []
        raise SeveralErrors([f"{len(found)} runs are called {text!r}. Give one by its id:",
                             *list_runs(found[:LISTED]), *more])
    if not found:
        raise _unknown(connection, text, experiments)
    return found[0]


def _named(connection: Connection, experiments: list[str], text: str) -> list[Run]:
    """The runs of a name, or of ``STUDY/NAME``: names may contain a / themselves.

    Where no run has the name, those are meant that have it before a remark: ``vgg16:block1+wavelet (no LPIPS)``.
    """
    parts = STUDY_AND_NAME.fullmatch(text)
    for remarks in (False, True):
        found = _labelled(connection, experiments, text, None, remarks)
        if not found and parts:
            found = _labelled(connection, experiments, parts[2], parts[1], remarks)
        if found:
            return found
    return []


def _labelled(connection: Connection, experiments: list[str], label: str, study: str | None,
              remarks: bool) -> list[Run]:
    """The runs of a name, after which parameters may stand: as many words at the end as are needed to find any.

    With ``remarks``, the runs with a remark in brackets after the name.
    """
    known, words = set(shown_parameters()), label.split(" ")
    for count in range(len(words), 0, -1):
        wanted = dict(word.partition("=")[::2] for word in words[count:])
        if not wanted.keys() <= known:
            return []
        name = " ".join(words[:count])
        condition = begins("attributes.run_name", f"{name} (") if remarks else equals("attributes.run_name", name)
        condition += f" and {tagged(STUDY, study)}" if study else ""
        if found := [run for run in _search(connection, experiments, condition)
                     if _has(run, wanted) and str(run.info.run_name).startswith(name)]:  # LIKE takes _ for any letter
            return found
    return []


def _has(run: Run, wanted: Mapping[str, str]) -> bool:
    parameters = _parameters(run) if wanted else {}
    return all(value == parameter_text(parameters, name) or _is_value(name, value, parameters.get(name))
               for name, value in wanted.items())


def _is_value(name: str, text: str, value: Any) -> bool:
    """Whether a text means a value of a parameter, however it is written: ``1e-3`` means 0.001."""
    try:
        return text == str(value) or bool(parse_value(name, text) == value)
    except RequestError:
        return False


def _parameters(run: Run) -> Mapping[str, Any]:
    """The resolved parameters of a run; empty if it has none that can be read."""
    try:
        document = read_document(run.data.tags[CONFIG]) if CONFIG in run.data.tags else {}
    except DocumentError:
        try:
            document = document_of(run)
        except InversionError:
            return {}
    parameters: Mapping[str, Any] = document.get("parameters", {})
    return parameters


def _score(run: Run) -> str:
    kind = run.data.tags.get(KIND, "not inversion's")
    if kind == "run" and run.info.status == "FINISHED" and "test/psnr" in run.data.metrics:
        return f"test PSNR {decibels(run.data.metrics['test/psnr'])}"
    return run.info.status if kind == "run" else f"{kind}, {run.info.status}"


def _unknown(connection: Connection, text: str, experiments: list[str]) -> RequestError:
    """The error for a text that names no run, with the nearest names, in the study if one was named."""
    place = without_password(connection.uri)
    if TOO_SHORT.fullmatch(text):
        return RequestError(f"no run in {place} is called {text!r}; the beginning of an id has 4 digits or more")
    runs = _search(connection, experiments, tagged(KIND, "run"))
    studies = sorted({run.data.tags[STUDY] for run in runs if STUDY in run.data.tags})
    parts = STUDY_AND_NAME.fullmatch(text)
    if parts and parts[1] in studies:
        names = dict.fromkeys(f"{parts[1]}/{run.info.run_name}" for run in runs if run.data.tags.get(STUDY) == parts[1])
    else:
        names = dict.fromkeys(str(run.info.run_name) for run in runs)
        if parts:
            names |= dict.fromkeys(f"{run.data.tags[STUDY]}/{run.info.run_name}" for run in runs
                                   if STUDY in run.data.tags)
    if not names:
        return RequestError(f"{place} has no run {text!r}, and none that inversion has trained")
    nearest = difflib.get_close_matches(text, list(names), n=LISTED, cutoff=0)
    return UnknownNameError(f"no run in {place} is called", text, nearest)


def _search(connection: Connection, experiments: Sequence[str], condition: str) -> list[Run]:
    return list(islice(search_in(connection, experiments, condition), PAGE))


def _experiments(connection: Connection, everywhere: bool) -> list[str]:
    if not everywhere:
        return [connection.experiment_id]
    return [experiment.experiment_id for experiment in pages(
        lambda token: connection.client.search_experiments(max_results=PAGE, page_token=token))]
