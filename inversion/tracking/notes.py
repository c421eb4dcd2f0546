"""Descriptions of runs, which MLflow's UI shows on their pages as Markdown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from inversion.config.labels import COMMENT
from inversion.text import one_line

OURS = "inversion.note"
"""Tag with a digest of the description that inversion has written: one that a user has edited is not replaced."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def write_note(client: MlflowClient, run_id: str, text: str) -> None:
    """Sets the description of a run, unless a user has written or edited it.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
        InterruptedRunError: a stop was requested while the store was unreachable.
    """
    tags = client.get_run(run_id).data.tags
    existing = tags.get(MLFLOW_RUN_NOTE)
    if existing == text or (existing and tags.get(OURS) != _digest(existing)):
        return
    client.log_batch(run_id, tags=[RunTag(MLFLOW_RUN_NOTE, text), RunTag(OURS, _digest(text))])


def comment_lines(tags: Mapping[str, str]) -> list[str]:
    """The user's comment on a run with these tags, as a paragraph of its description; none without one."""
    return [f"Comment: {literal(one_line(tags[COMMENT]))}"] if tags.get(COMMENT) else []


def literal(text: object) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", str(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
