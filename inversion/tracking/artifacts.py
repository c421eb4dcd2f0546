"""Artifacts of runs: where they are, also after the store was copied to another machine, and downloading them."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote

import requests
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as repositories
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.store.tracking import SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from inversion.errors import MissingArtifactError, RequestError
from inversion.files import is_there
from inversion.tracking import file_store
from inversion.tracking.address import DATABASES, sqlite_file
from inversion.tracking.store_errors import TrackingRefusedError, raise_unless_missing, to_inversion_error

RESTORE = "Restore it from a copy of the store, or train the run's configuration again."
"""What to do about an artifact that is missing or damaged."""

VARIABLE = "INVERSION_ARTIFACTS"
"""``OLD=NEW``: where artifacts are that the database says are in OLD; several are separated by ``:``."""

RUNS_TRIED = 20
_moves: dict[Path, Path] = {}
_logger = logging.getLogger(__name__)


class MovedArtifactRepository(LocalArtifactRepository):
    """MLflow's repository for local artifacts, with every folder resolved to where it is now."""

    @property
    def _artifact_dir(self) -> str:
        return str(_moved(Path(self._named_dir), _moves))

    @_artifact_dir.setter
    def _artifact_dir(self, named: str) -> None:
        self._named_dir = named


def find_moved_artifacts(client: MlflowClient, uri: str) -> None:
    """Finds artifacts that are not where the store says, because it was copied; this process then uses them there.

    The environment variable takes precedence. Other missing artifacts are searched next to the database and in the
    current folder, by the end of their path: ``mlruns/EXPERIMENT/RUN/artifacts``.

    Raises:
        RequestError: the environment variable is malformed.
    """
    given = _given_moves()
    found = dict(_guessed_moves(client, list(_folders_beside(uri)), given))
    for old, new in found.items():
        if _moves.get(old) != new:
            _logger.warning("using artifacts in %s: they are not in %s, where the tracking store says",
                            new, old)
    _moves.clear()
    _moves.update(found | given)
    for scheme in ("", "file"):
        repositories.register(scheme, MovedArtifactRepository)


def current_location(address: str) -> str:
    """The current location of artifacts: a path or file URI is resolved, any other address is returned unchanged."""
    path = _local(address)
    moved = path and _moved(path, _moves)
    return address if moved == path else str(moved)


def require_artifacts(run: Run) -> None:
    """Raises a RequestError if the artifacts of a run and of its whole experiment are not on this machine."""
    path = _local(current_location(str(run.info.artifact_uri)))
    if path is None or is_there(path) or is_there(path.parent.parent):
        return
    old = path.parents[2]
    raise RequestError(f"the artifacts of run {run.info.run_id} ({run.info.run_name}) are in {path}, which is not on "
                       f"this machine. Copy {old} here, and set {VARIABLE}={quote(f'{old}=FOLDER')}")


def _moved(path: Path, moves: Mapping[Path, Path]) -> Path:
    given = _given_moves()
    for old in sorted(moves, key=lambda old: len(old.parts), reverse=True):
        if path.is_relative_to(old) and (old in given or not os.path.exists(path)):
            return moves[old] / path.relative_to(old)
    return path


def _given_moves() -> dict[Path, Path]:
    moves = {}
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        old, _, new = text.partition("=")
        if not (old.startswith("/") and os.path.isdir(new)):
            raise RequestError(f"{VARIABLE}: {text!r} is not allowed. Allowed: OLD=NEW, the folder that the tracking "
                               "store names, and the one here that has its files")
        moves[Path(old)] = Path(new).absolute()
    return moves


def _folders_beside(uri: str) -> Iterator[Path]:
    """The folders where copied artifacts may be; none for a server, which keeps them itself."""
    place = sqlite_file(uri) or file_store.folder_of(uri)
    if place is not None:
        yield place.parent
    if place is not None or uri.startswith(DATABASES):
        yield Path.cwd()


def _guessed_moves(
    client: MlflowClient, folders: list[Path], given: Mapping[Path, Path]
) -> Iterator[tuple[Path, Path]]:
    """Old and new folder of each experiment whose artifacts are found in one of the folders."""
    if not folders:
        return
    for experiment in client.search_experiments(ViewType.ALL, max_results=SEARCH_MAX_RESULTS_THRESHOLD):
        place = _local(str(experiment.artifact_location))
        if place is None or os.path.exists(_moved(place, given)):
            continue
        for run in client.search_runs([experiment.experiment_id], max_results=RUNS_TRIED):
            if move := _guessed_move(Path(local_file_uri_to_path(run.info.artifact_uri)), folders):
                yield move
                break


def _guessed_move(path: Path, folders: list[Path]) -> tuple[Path, Path] | None:
    """The prefix of a run's path to replace and its replacement, if one of the folders has the rest of the path."""
    for folder in folders:
        for parts in range(len(path.parts) - 1, 1, -1):
            if os.path.isdir(folder / Path(*path.parts[-parts:])):
                return path.parents[parts - 1], folder
    return None


def _local(address: str) -> Path | None:
    """The path of a local address; None for other addresses."""
    path = local_file_uri_to_path(address)
    return Path(path) if path.startswith("/") else None


def download_artifact(run_id: str, artifact: str, folder: Path, client: MlflowClient | None = None) -> Path:
    """Downloads an artifact of a run or of its logged model, a file or a folder, into ``folder``.

    Raises:
        MissingArtifactError: the run has no such artifact.
        TrackingLostError, TrackingRefusedError: the store does not answer, or rejects the request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    client = client or MlflowClient()
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except MlflowException as error:
        raise_unless_missing(error)
        _raise_original_error(run_id, artifact, folder)
        _require_unlisted(client, run_id, artifact, error)
        raise MissingArtifactError(f"run {run_id} has no artifact {artifact}") from error


def _raise_original_error(run_id: str, artifact: str, folder: Path) -> None:
    """Downloads again from both repositories of a run: MLflow reports every error as a missing artifact."""
    try:
        repository = RunsArtifactRepository(f"runs:/{run_id}")
    except MlflowException as error:
        return raise_unless_missing(error)
    for ask in (repository.repo.download_artifacts, repository._download_model_artifacts):
        try:
            ask(artifact, dst_path=str(folder))
        except (MlflowException, OSError) as error:
            raise_unless_missing(error)


def _require_unlisted(client: MlflowClient, run_id: str, artifact: str, error: MlflowException) -> None:
    """Raises unless a store that can be listed does not have an artifact: a proxy may answer every request with 404."""
    if is_listed(client, run_id, artifact):
        raise TrackingRefusedError(f"the tracking store lists the artifact {artifact} of run {run_id}, and answers "
                                   "that there is none when it is read: a proxy may not forward the request") from error


def is_listed(client: MlflowClient, run_id: str, artifact: str) -> bool:
    """Whether the store lists an artifact of a run.

    Raises:
        TrackingLostError, TrackingRefusedError: the store does not answer, or rejects the request.
    """
    try:
        beside = client.list_artifacts(run_id, artifact.rpartition("/")[0] or None)
    except (MlflowException, requests.RequestException) as error:
        if isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST":  # there is no such run
            return False
        if (ours := to_inversion_error(error)) is None:
            raise
        raise ours from error
    return artifact in {file.path for file in beside}


def fetch_text(run_id: str, artifact: str) -> str:
    """The content of a text artifact; invalid UTF-8 is replaced, and left to the parser to report.

    Raises:
        MissingArtifactError: the run has no such artifact.
    """
    with tempfile.TemporaryDirectory() as folder:
        return download_artifact(run_id, artifact, Path(folder)).read_text(encoding="utf-8", errors="replace")
