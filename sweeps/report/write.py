"""A report as files: the page, and every table as Markdown, CSV and Parquet, and what was written before them."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path, PurePosixPath

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from inversion.errors import InversionError, RequestError
from inversion.tracking.connection import Connection
from inversion.tracking.store_errors import first_line
from inversion.tracking.study import KIND, STUDY, tag
from sweeps.report.as_markdown import all_tables, as_markdown
from sweeps.report.page import render
from sweeps.report.reports import Report

ARTIFACTS = "report"
"""Where the files lie in the study's parent run."""

MANIFEST = "files.json"
"""The files of the report in a folder: the next report there removes those, and no others."""

_logger = logging.getLogger(__name__)


def write(report: Report, folder: Path) -> Path:
    """Writes ``index.html``, ``report.md``, ``tables/`` and the list of them; returns the page's path.

    Files of an earlier report are removed, whatever else lies there stays.

    Raises:
        RequestError: a file cannot be written there.
        InversionError: the disk is full.
    """
    try:
        _forget(folder)
        files = _write(report, folder)
        (folder / MANIFEST).write_text(json.dumps(files, indent=1), encoding="utf-8")
    except OSError as error:
        kind = InversionError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else RequestError
        raise kind(f"--output {folder}: {error.filename or 'a file'} cannot be written: "
                   f"{error.strerror or error}") from error
    return folder / "index.html"


def written(folder: Path) -> list[str]:
    """The files of the report in a folder, relative to it, as its list says; none without a list that can be read."""
    try:
        names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return [name for name in names if _is_ours(name)] if isinstance(names, list) else []


def log(connection: Connection, report: Report, folder: Path) -> None:
    """Puts the files into the study's parent run; the run that ``mlflow run`` made for the report goes below it."""
    run_id, name = report.data.parent.info.run_id, report.data.name
    if adopted := os.environ.get("MLFLOW_RUN_ID"):
        tag(connection, adopted, {MLFLOW_RUN_NAME: f"{name} (report)", MLFLOW_PARENT_RUN_ID: run_id, KIND: "report",
                                  STUDY: name})
    files = written(folder)
    for file in files:
        below = PurePosixPath(file).parent
        connection.client.log_artifact(run_id, str(folder / file), str(PurePosixPath(ARTIFACTS) / below))
    _remove_others(connection, run_id, report.data.parent.info.artifact_uri, files)


def _write(report: Report, folder: Path) -> list[str]:
    files = []
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in all_tables(report):
        place = folder / "tables" / table.key
        table.frame.to_csv(place.with_suffix(".csv"), index=False)
        table.frame.to_parquet(place.with_suffix(".parquet"), index=False)
        place.with_suffix(".md").write_text(table.markdown(), encoding="utf-8")
        files += [f"tables/{table.key}.{suffix}" for suffix in ("csv", "parquet", "md")]
    (folder / "report.md").write_text(as_markdown(report), encoding="utf-8")
    (folder / "index.html").write_text(render(report), encoding="utf-8")
    return ["index.html", "report.md", *files]


def _forget(folder: Path) -> None:
    """Removes the files of an earlier report."""
    for name in written(folder):
        (folder / name).unlink(missing_ok=True)


def _is_ours(name: object) -> bool:
    """Whether a name in a list is one that a report could have: a list from elsewhere must not delete anything else."""
    path = PurePosixPath(str(name))
    in_tables = path.parts[:-1] == ("tables",) and path.suffix in (".csv", ".parquet", ".md") and path.name[0] != "."
    return in_tables or str(name) in ("index.html", "report.md")


def _remove_others(connection: Connection, run_id: str, artifact_uri: str, files: list[str]) -> None:
    """Tables of an earlier report in the parent run, which this one does not have, where the store can remove files."""
    present = {f"{ARTIFACTS}/{file}" for file in files}
    there = [item.path for item in connection.client.list_artifacts(run_id, f"{ARTIFACTS}/tables")]
    try:
        for path in set(there) - present:
            get_artifact_repository(artifact_uri, connection.uri).delete_artifacts(path)
    except (MlflowException, NotImplementedError, OSError) as error:
        _logger.warning("the study's run keeps tables of an earlier report: %s", first_line(error))
