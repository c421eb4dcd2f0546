"""Addresses of pages of MLflow's UI; ``tracking.ui`` prints them."""

from __future__ import annotations

from inversion.tracking.masking import split_userinfo

LOCAL_UI = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves its pages unless it is given a host or port."""

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
    server = _browsable(uri) if uri.startswith(("http://", "https://")) else LOCAL_UI
    below = f"/{run_id}" if run_id else ""
    chosen = f"&viewStateShareKey={view}" if view else ""
    return f"{server}/#/experiments/{experiment_id}/runs{below}?workflowType=machine_learning{chosen}"


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


def _browsable(uri: str) -> str:
    """The address of a server without user and password, which a browser asks for."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{split_userinfo(rest)[1]}".rstrip("/")
