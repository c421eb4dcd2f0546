"""Links into MLflow's UI; tests/sweeps/test_sweep_page.py follows them in a browser."""

from __future__ import annotations

import pytest

from inversion.tracking.pages import link_on_page, page_link


@pytest.mark.parametrize(("address", "host"), [
    ("http://lab:5000", "http://lab:5000"), ("http://lab:5000/", "http://lab:5000"),
    ("https://me:secret@lab/mlflow", "https://lab/mlflow"), ("sqlite:////a/mlflow.db", "http://127.0.0.1:5000")])
def test_links_ask_for_the_pages_of_model_training(address: str, host: str) -> None:
    assert page_link(address, "7") == f"{host}/#/experiments/7/runs?workflowType=machine_learning"
    assert page_link(address, "7", "abc") == f"{host}/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert page_link(address, "7", view="view-1") == (
        f"{host}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=view-1")


def test_a_link_of_a_description_stays_on_the_server_that_shows_it() -> None:
    assert link_on_page("report", "7", "abc", artifact="report/index.html") == (
        "[report](#/experiments/7/runs/abc/artifacts/report/index.html?workflowType=machine_learning)")
