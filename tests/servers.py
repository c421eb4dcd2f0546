"""Servers that tests talk to: PostgreSQL, MLflow's own, one that can be made to refuse, and a browser."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests

POSTGRES = os.environ.get("INVERSION_TEST_POSTGRES", "postgresql://127.0.0.1:5432/postgres")
"""A PostgreSQL server on which databases may be made."""
START_SECONDS = 90
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def unavailable(what: str) -> NoReturn:
    """Skips the test; where everything has to be tested it fails instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is needed")


@pytest.fixture(scope="session")
def make_postgres() -> Iterator[Callable[[], str]]:
    """``make_postgres()``: the address of a new database, which is dropped at the end."""
    psycopg = pytest.importorskip("psycopg")
    try:
        admin = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError:
        unavailable(f"PostgreSQL at {POSTGRES} (or in INVERSION_TEST_POSTGRES)")
    names: list[str] = []

    def make() -> str:
        names.append(f"inversion_test_{uuid.uuid4().hex[:12]}")
        admin.execute(f"create database {names[-1]}")
        return f"{POSTGRES.rpartition('/')[0]}/{names[-1]}"

    with admin:
        yield make
        for name in names:
            admin.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def postgres(make_postgres: Callable[[], str]) -> str:
    """The address of a new database."""
    return make_postgres()


class TrackingServer:
    """``mlflow server`` on a database, which keeps artifacts itself; it can be killed and started again."""

    def __init__(self, database: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.database = database
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        words = ["mlflow", "server", "--backend-store-uri", self.database, "--artifacts-destination",
                 str(self.folder / "artifacts"), "--serve-artifacts", "--host", "127.0.0.1", "--port", str(self.port),
                 "--workers", "1"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(words, cwd=self.folder, env=environment, stdout=log, stderr=log,
                                            start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while not _answers(self.address):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.2)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it, at once unless another signal is given."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def tracking_server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A tracking server with PostgreSQL behind it."""
    server = TrackingServer(postgres, tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill(signal.SIGTERM)


@pytest.fixture(scope="module")
def server(tracking_server: TrackingServer) -> str:
    """The address of a tracking server."""
    return tracking_server.address


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of the installed chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright")
    if not CHROMIUM.exists():
        unavailable(f"a browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 2400})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


SERVE = """
import logging, sys
from mlflow.server import app
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, app.wsgi_app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""
"""MLflow's server as one process without workers, which starts in a fraction of the time."""


class StandIn:
    """A proxy before MLflow's server that answers some requests itself.

    ``refuse(413, "PUT", "last.pt")`` answers requests of this method with this text in their path so, ``times`` of
    them; ``down`` closes connections without an answer, and ``hang`` leaves requests without one.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.rules: list[dict[str, Any]] = []
        self.answered: list[int] = []
        self.headers: list[Message] = []
        self.down = False
        self.answers = threading.Event()
        self.answers.set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Forwarding, self, port))
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"{'https' if context else 'http'}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def refuse(self, status: int, method: str = "", path: str = "", times: int = -1, body: str = "") -> None:
        self.rules.append({"status": status, "method": method, "path": path, "times": times, "body": body})

    def hang(self) -> None:
        """Requests are accepted, and wait until the server is healed."""
        self.answers.clear()

    def heal(self) -> None:
        """Every request reaches MLflow again."""
        self.down = False
        self.answers.set()
        self.rules.clear()

    def answer(self, method: str, path: str) -> tuple[int, str] | None:
        """Status and body of the proxy itself; None where the request is MLflow's."""
        for rule in self.rules:
            if rule["times"] and rule["method"] in ("", method) and rule["path"] in path:
                rule["times"] -= 1
                return rule["status"], rule["body"]
        return None

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, proxy: StandIn, port: int, *rest: Any) -> None:
        self.proxy, self.port = proxy, port
        super().__init__(*rest)

    def forward(self) -> None:
        content = self.read_content()
        self.proxy.answers.wait()
        if self.proxy.down:
            self.close_connection = True
            return
        self.proxy.headers.append(self.headers)
        own = self.proxy.answer(self.command, self.path)
        if own is None:
            upstream = HTTPConnection("127.0.0.1", self.port)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
            upstream.request(self.command, self.path, content, headers)
            answer = upstream.getresponse()
            status, body, kind = answer.status, answer.read(), answer.headers.get_content_type()
            upstream.close()
        else:
            status, body = own[0], own[1].encode()
            kind = "application/json" if own[1].startswith("{") else "text/html"
        self.proxy.answered.append(status)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read_content(self) -> bytes:
        """The body of a request; empty files come in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="session")
def plain_server(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None]
) -> Iterator[int]:
    """The port of MLflow's server on an SQLite file, which keeps artifacts itself."""
    folder = tmp_path_factory.mktemp("plain server")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        for name, value in {"FILE_STORE": f"sqlite:///{folder}/mlflow.db", "ARTIFACT_ROOT": "mlflow-artifacts:/",
                            "ARTIFACT_DESTINATION": str(folder / "artifacts"), "SERVE_ARTIFACTS": "true"}.items():
            patch.setenv(f"_MLFLOW_SERVER_{name}", value)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([sys.executable, "-c", SERVE], text=True, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.communicate()


@pytest.fixture
def make_stand_in(workplace: Path, plain_server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``make_stand_in(ssl_context)``: a tracking server that can be made to refuse, over TLS if a context is given."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # of which the first comes without a pause
    made: list[StandIn] = []

    def make(context: ssl.SSLContext | None = None) -> StandIn:
        made.append(StandIn(plain_server, context))
        return made[-1]

    yield make
    for stand_in in made:
        stand_in.close()


@pytest.fixture
def stand_in(make_stand_in: Callable[..., StandIn]) -> StandIn:
    """A tracking server that can be made to refuse."""
    return make_stand_in()
