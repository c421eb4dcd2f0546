"""Links into MLflow's UI, and the command that opens it for a store without a server."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from inversion.tracking.masking import without_password

LOCAL_UI = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` listens by default."""

VIEW = "mlflow.sharedViewState."
"""Prefix of the experiment tags in which MLflow keeps saved views of the run table."""


def page_link(uri: str, experiment_id: str, run_id: str = "", view: str = "") -> str:
    """The address of a run's page, or without ``run_id`` of an experiment's run table.

    MLflow 3 opens an experiment in its GenAI pages unless the address asks for those of model training.

    Args:
        uri: the tracking store; for one without a server, the link is to ``mlflow ui`` on this machine.
        experiment_id: the experiment.
        run_id: the run.
        view: the id of a saved view of the run table.
    """
    server = without_password(uri).rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI
    below = f"/{run_id}" if run_id else ""
    chosen = f"&viewStateShareKey={view}" if view else ""
    return f"{server}/#/experiments/{experiment_id}/runs{below}?workflowType=machine_learning{chosen}"


def page_lines(uri: str, experiment_id: str, run_id: str, kind: str = "run", view: str = "") -> list[str]:
    """The last lines of a command: where its run and the run table are in MLflow's UI, and how to open the UI.

    Args:
        uri, experiment_id, run_id, view: as for ``page_link``.
        kind: what the run is: ``run`` or ``study``.
    """
    command = ui_command(uri)
    return [*([f"open MLflow: {command}"] if command else []),
            f"view the {kind}: {page_link(uri, experiment_id, run_id)}",
            f"compare the runs: {page_link(uri, experiment_id, view=view)}"]


def link_on_page(text: str, experiment_id: str, run_id: str = "", view: str = "", artifact: str = "") -> str:
    """A link in Markdown from a run's description to another page of the same UI, whatever its address is.

    Args:
        text: what the link says, as Markdown.
        experiment_id, run_id, view: as for ``page_link``.
        artifact: a file of the run.
    """
    address = page_link("", experiment_id, run_id, view).removeprefix(LOCAL_UI + "/")
    if artifact:
        address = address.replace("?", f"/artifacts/{artifact}?")
    return f"[{text}]({address})"


def ui_command(uri: str) -> str:
    """The command that opens MLflow's UI on a store without a server; empty for a server, which has the UI.

    The program is named by its path: after ``make quickstart`` the environment is not activated.
    """
    if uri.startswith(("http://", "https://")):
        return ""
    beside_python = Path(sys.executable).with_name("mlflow")
    mlflow = str(beside_python) if beside_python.exists() else "mlflow"
    return shlex.join([mlflow, "ui", "--backend-store-uri", without_password(uri)])
