"""Tracking stores that do not answer, or are none: reported in one line and within seconds."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


class _Answering(BaseHTTPRequestHandler):
    """A web server that is no tracking server."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_POST = do_GET  # noqa: N815 (the name that http.server calls)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_web_server() -> Iterator[str]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Takes connections and never answers."""
    monkeypatch.setattr("inversion.tracking.connection.ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def refused_within(seconds: float, command: Callable[[], Any]) -> str:
    started = time.monotonic()
    line = command().refused()
    assert time.monotonic() - started < seconds
    return str(line)


@pytest.mark.usefixtures("nothing_is_built")
def test_a_tracking_server_that_is_not_there_is_told_within_seconds(train: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    line = refused_within(5, lambda: train("--tracking-uri", uri))
    assert f"tracking server {uri} does not answer" in line
    assert "mlflow server" in line


@pytest.mark.usefixtures("nothing_is_built")
def test_a_tracking_server_that_hangs_is_told_within_seconds(train: Command, silent_server: str) -> None:
    assert "does not answer" in refused_within(5, lambda: train("--tracking-uri", silent_server))


@pytest.mark.usefixtures("nothing_is_built")
def test_a_web_server_that_is_no_tracking_server_is_told_within_seconds(train: Command, other_web_server: str) -> None:
    assert other_web_server in refused_within(5, lambda: train("--tracking-uri", other_web_server))


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("uri", ["sqlite:////dev/null/mlflow.db", "nonsense://x", "postgresql://127.0.0.1:1/x"])
def test_a_store_that_cannot_be_opened_is_told_in_one_line_within_seconds(uri: str, train: Command) -> None:
    assert uri in refused_within(5, lambda: train("--tracking-uri", uri))


def test_the_folder_of_a_new_store_is_made(train: Command, workplace: Path) -> None:
    assert train("--tracking-uri", f"sqlite:///{workplace}/new/folder/mlflow.db", train_limit=1).code == 0
    assert (workplace / "new" / "folder" / "mlflow.db").is_file()


@pytest.mark.usefixtures("nothing_is_built")
def test_a_password_is_not_shown(train: Command) -> None:
    line = train("--tracking-uri", "postgresql://me:secret@127.0.0.1:1/runs").refused()
    assert "postgresql://me:***@127.0.0.1:1/runs" in line
    assert "secret" not in line


@pytest.mark.usefixtures("nothing_is_built")
def test_an_experiment_that_was_deleted_is_told_with_the_way_back(
        train: Command, inversion: Command, workplace: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment_id = client.create_experiment("gone")
    client.delete_experiment(experiment_id)
    assert f"mlflow experiments restore -x {experiment_id}" in train("--experiment", "gone").refused()
