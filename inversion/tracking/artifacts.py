"""Downloading artifacts of runs: one that is missing is told from a store that is away or refuses."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.tracking import MlflowClient

from inversion.errors import MissingArtifactError
from inversion.tracking.connection import raise_unless_missing


def download_artifact(run_id: str, artifact: str, folder: Path, client: MlflowClient | None = None) -> Path:
    """Fetches a file or a folder of a run's artifacts, those of its model too, into a folder.

    Raises:
        MissingArtifactError: the run has no such artifact.
        TrackingLostError, TrackingRefusedError: the store does not answer, or does not give it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path((client or MlflowClient()).download_artifacts(run_id, artifact, str(folder)))
    except MlflowException as error:
        raise_unless_missing(error)
        _raise_what_mlflow_hid(run_id, artifact, folder)
        raise MissingArtifactError(f"run {run_id} has no artifact {artifact}") from error


def _raise_what_mlflow_hid(run_id: str, artifact: str, folder: Path) -> None:
    """Asks both places of a run's artifacts again: MLflow says of every error that there is no such artifact."""
    try:
        repository = RunsArtifactRepository(f"runs:/{run_id}")
    except MlflowException as error:
        return raise_unless_missing(error)
    for ask in (repository.repo.download_artifacts, repository._download_model_artifacts):
        try:
            ask(artifact, dst_path=str(folder))
        except (MlflowException, OSError) as error:
            raise_unless_missing(error)
