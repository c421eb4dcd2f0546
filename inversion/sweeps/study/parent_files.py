"""What a study's parent run says of how it was asked for: the spec, its settings, and the runs that it came to."""

from __future__ import annotations

import json
import logging
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from inversion.tracking.artifacts import download_artifact
from inversion.tracking.connection import Connection
from inversion.tracking.masking import first_line
from inversion.tracking.study import RUNS_FILE, SETTINGS_FILE

if TYPE_CHECKING:
    from inversion.sweeps.queue.entry import Entry
    from inversion.sweeps.spec.spec import Spec

_logger = logging.getLogger(__name__)


def log_spec(connection: Connection, run_id: str, spec: Spec) -> None:
    """The spec as it was written, and what the command line added to it."""
    connection.client.log_text(run_id, spec.text, spec.path.name)
    words = [spec.path.name, *(word for text in spec.sets for word in ("--set", text)),
             *(word for text in spec.wheres for word in ("--where", text))]
    said = shlex.join(words)
    before = _settings(connection, run_id)
    if said not in before:
        connection.client.log_text(run_id, json.dumps([*before, said], indent=1), SETTINGS_FILE)


def log_runs(connection: Connection, run_id: str, entries: Sequence[Entry]) -> None:
    """The runs of the queue as they stand: a search's trials have a digest only once they have begun.

    Those with a ``run_id`` have begun: one that is not to be found under it was deleted.
    """
    runs = [{"run": entry.name, "digest": entry.digest, "config": entry.trial.user_attrs.get("config"),
             "run_id": entry.run_id} for entry in entries]
    connection.client.log_text(run_id, json.dumps(runs, indent=1), RUNS_FILE)


def copy_files(connection: Connection, from_id: str, to_id: str) -> None:
    """What a deleted parent run says of how the study was asked for, as long as MLflow still has it."""
    client = connection.client
    try:
        with tempfile.TemporaryDirectory() as folder:
            for item in client.list_artifacts(from_id):
                if not item.is_dir:
                    client.log_artifact(to_id, client.download_artifacts(from_id, item.path, folder))
    except (MlflowException, OSError) as error:
        _logger.info("nothing is copied from run %s: %s", from_id, first_line(error))


def _settings(connection: Connection, run_id: str) -> list[Any]:
    if not any(item.path == SETTINGS_FILE for item in connection.client.list_artifacts(run_id)):
        return []
    with tempfile.TemporaryDirectory() as folder:
        content = download_artifact(run_id, SETTINGS_FILE, Path(folder), connection.client).read_bytes()
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError) as error:  # a text that is not UTF-8 is a ValueError too
        _logger.warning("%s of run %s is damaged and begun again: %s", SETTINGS_FILE, run_id, error)
        return []
    return settings if isinstance(settings, list) else []
