"""Writes a report as files (page, methods, every table in four formats, figures on request) and logs them to MLflow."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from inversion.errors import InversionError, RequestError
from inversion.files import open_regular, replacing
from inversion.report.render.citations import bibliography
from inversion.report.render.comparison import StudyComparison, comparison_markdown, comparison_page
from inversion.report.render.figures import draw
from inversion.report.render.latex import latex
from inversion.report.render.page import render
from inversion.report.render.report import Report, all_tables, as_markdown, methods_markdown
from inversion.report.tables.table import ReportTable
from inversion.tracking.connection import Connection
from inversion.tracking.masking import first_line
from inversion.tracking.search import KIND
from inversion.tracking.study import STUDY, link_report, tag

ARTIFACTS = "report"
"""Artifact folder in the parent run of the study."""

MANIFEST = "files.json"
"""Lists the files of a report in its folder; the next report there removes these files only."""

OWN = ("index.html", "report.md", "methods.md", "methods.bib")
"""Files of a report beside its tables."""

SUFFIXES = {"tables": (".csv", ".parquet", ".md", ".tex"), "figures": (".svg", ".pdf")}
"""Of the files in each folder of a report."""

_logger = logging.getLogger(__name__)


Writers = Mapping[str, Callable[[Path], object]]
"""What writes each file of a report, by its path in the folder."""


def write(report: Report, folder: Path, figures: Sequence[str] = ()) -> Path:
    """Writes the page, ``report.md``, the methods section, ``tables/`` and their list; returns the path of the page.

    Files of an earlier report are removed; other files stay. ``figures`` are formats in which ``figures/`` gets the
    charts.

    Raises:
        RequestError: a file cannot be written, or a chart cannot be drawn.
        InversionError: the disk is full or failing.
    """
    pages = _pages(render(report), as_markdown(report))
    tables = _tables(all_tables(report))
    return _write(pages | _methods(report) | tables | _figures(report.charts, figures), folder)


def write_comparison(comparison: StudyComparison, folder: Path, figures: Sequence[str] = ()) -> Path:
    """Writes the files of a comparison of studies; otherwise as ``write``."""
    pages = _pages(comparison_page(comparison), comparison_markdown(comparison))
    return _write(pages | _tables(comparison.all_tables) | _figures(comparison.charts, figures), folder)


def _write(writers: Writers, folder: Path) -> Path:
    try:
        _forget(folder)
        for name, writer in writers.items():
            _write_file(writer, folder / name)
        with replacing(folder / MANIFEST) as temporary:
            _write_text(json.dumps(list(writers), indent=1), temporary)
    except OSError as error:
        kind = InversionError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else RequestError
        raise kind(f"--output {folder}: {error.filename or 'a file'} cannot be written: "
                   f"{error.strerror or error}") from error
    return folder / "index.html"


def written(folder: Path) -> list[str]:
    """The files of the report in a folder, relative to it; empty without a readable list."""
    try:
        with open_regular(folder / MANIFEST) as file:
            names = json.load(file)
    except (FileNotFoundError, ValueError):  # includes invalid UTF-8
        return []
    return [name for name in names if _is_ours(name)] if isinstance(names, list) else []


def log(connection: Connection, report: Report, folder: Path) -> None:
    """Logs the files to the parent run of the study, and makes the run of ``mlflow run``, if any, its child."""
    run_id, name = report.data.parent.info.run_id, report.data.name
    if adopted := os.environ.get("MLFLOW_RUN_ID"):
        tag(connection, adopted, {MLFLOW_RUN_NAME: f"{name} (report)", MLFLOW_PARENT_RUN_ID: run_id, KIND: "report",
                                  STUDY: name})
    files = written(folder)
    for file in files:
        below = PurePosixPath(file).parent
        connection.client.log_artifact(run_id, str(folder / file), str(PurePosixPath(ARTIFACTS) / below))
    _remove_others(connection, run_id, report.data.parent.info.artifact_uri, files)
    link_report(connection, run_id, name)


def _pages(page: str, markdown: str) -> dict[str, Callable[[Path], object]]:
    return {"index.html": partial(_write_text, page), "report.md": partial(_write_text, markdown)}


def _methods(report: Report) -> dict[str, Callable[[Path], object]]:
    """The methods section and its bibliography, if anything was ranked."""
    if not report.methods:
        return {}
    cited = [key for paragraph in report.methods for key in paragraph.citations]
    return {"methods.md": partial(_write_text, methods_markdown(report)),
            "methods.bib": partial(_write_text, bibliography(cited))}


def _tables(tables: Iterable[ReportTable]) -> dict[str, Callable[[Path], object]]:
    writers: dict[str, Callable[[Path], object]] = {}
    for table in tables:
        writers[f"tables/{table.key}.csv"] = partial(table.frame.to_csv, index=False)
        writers[f"tables/{table.key}.parquet"] = partial(table.frame.to_parquet, index=False)
        writers[f"tables/{table.key}.md"] = partial(_write_text, table.markdown())
        writers[f"tables/{table.key}.tex"] = partial(_write_text, latex(table))
    return writers


def _figures(charts: Mapping[str, Any], formats: Sequence[str]) -> dict[str, Callable[[Path], object]]:
    return {f"figures/{name}": partial(_write_bytes, content) for name, content in draw(charts, formats).items()}


def _write_file(writer: Callable[[Path], object], path: Path) -> None:
    """Writes a file atomically: a symbolic link of that name is replaced, not followed."""
    try:
        with replacing(path) as temporary:
            writer(temporary)
    except OSError as error:  # it names the temporary file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _forget(folder: Path) -> None:
    """Removes the files of an earlier report."""
    for name in written(folder):
        (folder / name).unlink(missing_ok=True)


def _is_ours(name: object) -> bool:
    """Whether a report writes files of that name: a forged list must not delete anything else."""
    path = PurePosixPath(str(name))
    is_below = len(path.parts) == 2 and path.suffix in SUFFIXES.get(path.parts[0], ()) and path.name[0] != "."
    return is_below or str(name) in OWN


def _remove_others(connection: Connection, run_id: str, artifact_uri: str, files: list[str]) -> None:
    """Removes what only an earlier report had from the parent run, if the store can delete files."""
    present = {f"{ARTIFACTS}/{file}" for file in files}
    there = [item.path for below in SUFFIXES
             for item in connection.client.list_artifacts(run_id, f"{ARTIFACTS}/{below}")]
    try:
        for path in set(there) - present:
            get_artifact_repository(artifact_uri, connection.uri).delete_artifacts(path)
    except (MlflowException, NotImplementedError, OSError) as error:
        _logger.warning("the study's run keeps tables of an earlier report: %s", first_line(error))
