"""Links into MLflow's UI; tests/sweeps/test_sweep_page.py follows them in a browser."""

from __future__ import annotations

import pytest

from inversion.tracking.pages import link_on_page, page_lines, page_link


@pytest.mark.parametrize("address", ["http://lab:5000", "http://lab:5000/", "https://me:secret@lab/mlflow"])
def test_the_links_of_a_server_ask_for_the_pages_of_model_training(address: str) -> None:
    host = {"https": "https://me:***@lab/mlflow"}.get(address.partition(":")[0], "http://lab:5000")
    assert page_link(address, "7") == f"{host}/#/experiments/7/runs?workflowType=machine_learning"
    assert page_lines(address, "7", "abc", "study", "view-1") == [
        f"view the study: {host}/#/experiments/7/runs/abc?workflowType=machine_learning",
        f"compare the runs: {host}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=view-1"]


def test_without_a_server_the_first_line_says_how_to_start_one() -> None:
    first, *links = page_lines("sqlite:////a b/mlflow.db", "7", "abc")
    assert first.startswith("open MLflow: ")
    assert first.endswith("mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db'")
    assert links == ["view the run: http://127.0.0.1:5000/#/experiments/7/runs/abc?workflowType=machine_learning",
                     "compare the runs: http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"]


def test_a_link_of_a_description_stays_on_the_server_that_shows_it() -> None:
    assert link_on_page("report", "7", "abc", artifact="report/index.html") == (
        "[report](#/experiments/7/runs/abc/artifacts/report/index.html?workflowType=machine_learning)")
