"""What an error of a store means: some pass by themselves and are waited for, all others are told with their reason."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.tracking import MlflowClient
from optuna.exceptions import StorageInternalError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DataError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from inversion.cli.app import cli, run_command
from inversion.errors import InversionError, MissingArtifactError, RequestError, WeightsError
from inversion.tracking.artifacts import download_artifact
from inversion.tracking.connection import Connection, connect
from inversion.tracking.lifecycle import describe_failure
from inversion.tracking.search import find_run, search
from inversion.tracking.store_errors import (
    TrackingLostError,
    TrackingRefusedError,
    http_status,
    is_lost,
    is_missing,
    is_refused,
    reason,
)
from inversion.tracking.tracked_run import TrackedRun, begin_run, record_outcome

SET_TAG = "/mlflow/runs/set-tag"


def raised(call: Callable[[], object]) -> Exception:
    """What a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


@pytest.fixture
def tracked(stand_in: Any) -> tuple[Any, MlflowClient, str]:
    """A server, a client of it, and a run there."""
    connection = connect(stand_in.address)
    return stand_in, connection.client, begin_run(connection, "name").run_id


@pytest.mark.parametrize("body", ["", "plain words", "{}", '{"message": "no entry"}', '{"error_code": 403}'])
@pytest.mark.parametrize(("status", "passes"), [(400, False), (401, False), (403, False), (404, False), (408, True),
                                                (413, False), (429, True), (500, True), (501, False), (503, True),
                                                (507, False)])
def test_a_status_means_the_same_whatever_a_proxy_writes_below_it(
        status: int, passes: bool, body: str, tracked: tuple[Any, MlflowClient, str]) -> None:
    server, client, run_id = tracked
    server.refuse(status, "POST", SET_TAG, body=body)
    error = raised(lambda: client.set_tag(run_id, "a", "b"))
    assert (is_lost(error), is_refused(error)) == (passes, not passes), repr(error)
    assert http_status(error) == status
    assert f"HTTP {status}" in reason(error)
    assert not is_missing(error)


@pytest.mark.parametrize(("status", "passes"), [(403, False), (413, False), (429, True), (503, True)])
def test_an_artifact_that_is_refused_is_named_with_its_address_and_what_helps(
        status: int, passes: bool, tracked: tuple[Any, MlflowClient, str], tmp_path: Path) -> None:
    server, client, run_id = tracked
    (tmp_path / "last.pt").write_bytes(b"weights")
    server.refuse(status, "PUT", "last.pt")
    error = raised(lambda: client.log_artifact(run_id, str(tmp_path / "last.pt"), "checkpoints"))
    assert (is_lost(error), is_refused(error)) == (passes, not passes)
    if not passes:
        assert f"PUT {server.address}/api/2.0/mlflow-artifacts/artifacts/" in reason(error)
        assert f"checkpoints/last.pt: HTTP {status}" in reason(error)
    assert ("client_max_body_size" in reason(error)) == (status == 413)
    assert "\n" not in reason(error)


@pytest.mark.parametrize(("status", "told"), [(404, TrackingRefusedError), (403, TrackingRefusedError),
                                              (401, TrackingRefusedError), (500, TrackingLostError)])
@pytest.mark.parametrize("path", ["some.txt", "mlflow-artifacts"])
def test_a_download_says_that_an_artifact_is_missing_only_where_it_is(
        path: str, status: int, told: type[Exception], tracked: tuple[Any, MlflowClient, str], tmp_path: Path) -> None:
    """MLflow itself says of every error that there is no such artifact."""
    server, client, run_id = tracked
    client.log_text(run_id, "text", "folder/some.txt")
    assert download_artifact(run_id, "folder/some.txt", tmp_path).read_text() == "text"
    with pytest.raises(MissingArtifactError, match=r"has no artifact folder/other\.txt"):
        download_artifact(run_id, "folder/other.txt", tmp_path)
    server.refuse(status, "GET", path, body="<html>a page of a proxy</html>")
    is_listed = (status, path) == (404, "some.txt")
    with pytest.raises(told, match="a proxy may not forward" if is_listed else f"HTTP {status}"):
        download_artifact(run_id, "folder/some.txt", tmp_path)


def test_an_upload_that_a_login_page_answers_is_not_taken_for_done(
        tracked: tuple[Any, MlflowClient, str], tmp_path: Path) -> None:
    server, _, run_id = tracked
    run = TrackedRun(connect(server.address), run_id)
    for name in ("best.pt", "last.pt"):
        (tmp_path / name).write_bytes(b"weights")
    server.refuse(200, "PUT", "last.pt", body="<html>log in</html>")
    with pytest.raises(TrackingRefusedError, match=r"does not have checkpoints/last\.pt of run .* a login page"):
        run.upload([tmp_path / "best.pt", tmp_path / "last.pt"], "checkpoints")
    server.heal()
    run.upload([tmp_path / "best.pt", tmp_path / "last.pt"], "checkpoints")


def test_a_failed_run_is_not_left_running_where_tags_are_refused(tracked: tuple[Any, MlflowClient, str]) -> None:
    server, client, run_id = tracked
    server.refuse(403, "POST", SET_TAG)
    run = TrackedRun(connect(server.address), run_id)
    with pytest.raises(RuntimeError, match="the first error"), record_outcome(run):
        raise RuntimeError("the first error")
    assert client.get_run(run_id).info.status == "FAILED"


def test_a_request_that_is_refused_once_for_coming_too_often_is_made_again(
        tracked: tuple[Any, MlflowClient, str]) -> None:
    server, client, run_id = tracked
    server.refuse(429, "POST", SET_TAG, times=1)
    client.set_tag(run_id, "a", "b")
    assert server.answered.count(429) == 1


@pytest.mark.parametrize("error", [
    requests.ConnectionError("reset by peer"), requests.Timeout("slow"),
    requests.exceptions.ChunkedEncodingError("cut"), MlflowException("API request failed"),
    ssl.SSLEOFError(8, "EOF occurred")])
def test_what_breaks_on_the_way_can_pass(error: Exception) -> None:
    wrapped = requests.exceptions.SSLError("wrapped")
    wrapped.__cause__ = error
    assert is_lost(wrapped)


@pytest.mark.parametrize("error", [requests.exceptions.InvalidURL("http://"), requests.TooManyRedirects("30"),
                                   requests.exceptions.JSONDecodeError("a page", "<html>", 0)])
def test_what_is_wrong_with_an_address_cannot_pass(error: Exception) -> None:
    assert is_refused(error)


@pytest.mark.parametrize("error", [ValueError("wrong"), OSError(28, "No space left"), ConnectionResetError("elsewhere"),
                                   KeyError("x"), None])
def test_an_error_that_is_no_stores_is_neither(error: Exception | None) -> None:
    assert not is_lost(error)
    assert not is_refused(error)


def test_an_error_of_ours_has_been_judged_where_it_was_made() -> None:
    ours = WeightsError("alexnet cannot be downloaded")
    ours.__cause__ = requests.ConnectionError("reset by peer")
    assert not is_lost(ours)
    assert describe_failure(ours) == ("FAILED", "weights", "alexnet cannot be downloaded")


SQLITE = {
    "locked": ("insert into t values (2)", True),
    "read-only": ("insert into t values (2)", False),
    "no table": ("select * from missing", False),
    "no column": ("select missing from t", False),
    "full": ("insert into t values (zeroblob(1000000))", False),
}


@pytest.mark.parametrize("what", SQLITE)
def test_sqlites_errors_are_known_by_their_code(what: str, tmp_path: Path) -> None:
    statement, passes = SQLITE[what]
    file = tmp_path / "some.db"
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("create table t (a)")
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": 0.05})
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        if what == "locked":
            other.execute("begin immediate")
        with engine.connect() as connection:
            if what == "read-only":
                connection.execute(text("pragma query_only = 1"))
            if what == "full":
                connection.execute(text("pragma max_page_count = 2"))
            error = raised(lambda: connection.execute(text(statement)))
    engine.dispose()
    assert isinstance(error, SQLAlchemyError)
    assert (is_lost(error), is_refused(error)) == (passes, not passes), repr(error)


POSTGRES_SAYS = {
    "no permission": ("set role pg_monitor; create table t (a int)", False, "permission denied"),
    "no table": ("select * from missing", False, 'relation "missing" does not exist'),
    "read-only": ("set transaction read only; create table t (a int)", False, "read-only transaction"),
    "killed": ("select pg_terminate_backend(pg_backend_pid())", True, "terminating connection"),
    "cancelled": ("set statement_timeout = 50; select pg_sleep(5)", True, "statement timeout"),
    "locked": ("set lock_timeout = 50; create table t (a int)", True, "lock timeout"),
}


@pytest.mark.parametrize("what", POSTGRES_SAYS)
def test_postgresqls_errors_are_known_by_their_state(what: str, postgres: str) -> None:
    statements, passes, words = POSTGRES_SAYS[what]
    engine = create_engine(postgres)
    with engine.connect() as other, engine.connect() as connection:
        if what == "locked":
            other.execute(text("create table t (a int)"))
        error = raised(lambda: [connection.execute(text(each)) for each in statements.split("; ")])
    engine.dispose()
    assert (is_lost(error), is_refused(error)) == (passes, not passes), repr(error)
    assert words in reason(error)


@pytest.mark.parametrize(("change", "passes"), [
    (lambda url: url.rpartition("/")[0] + "/no_such_database", False),
    (lambda url: url.replace("//", "//nobody@"), False),
    (lambda url: url + "?sslmode=nonsense", False),
    (lambda url: "postgresql://127.0.0.1:1/runs", True),
    (lambda url: "postgresql://nowhere.invalid/runs", True)])
def test_a_connection_that_postgresql_refuses_is_told_from_one_that_does_not_come_about(
        change: Callable[[str], str], passes: bool, postgres: str) -> None:
    error = raised(lambda: create_engine(change(postgres)).connect())
    assert (is_lost(error), is_refused(error)) == (passes, not passes), repr(error)


@pytest.mark.parametrize("words", ["FATAL:  sorry, too many clients already",
                                   "FATAL:  the database system is starting up",
                                   "FATAL:  remaining connection slots are reserved for roles with …",
                                   "FATAL:  the database system is not yet accepting connections"])
def test_a_server_that_is_busy_or_starting_is_waited_for(words: str) -> None:
    assert is_lost(OperationalError("connect", {}, Exception(f"connection failed: {words}")))
    assert is_refused(OperationalError("connect", {}, Exception('connection failed: FATAL:  password authentication '
                                                                'failed for user "me"')))


def test_a_run_whose_upload_is_refused_is_failed_with_the_reason(stand_in: Any, tmp_path: Path) -> None:
    connection = connect(stand_in.address)
    run = begin_run(connection, "name")
    stand_in.refuse(413, "PUT", "last.pt")
    (tmp_path / "last.pt").write_bytes(b"weights")
    with pytest.raises(TrackingRefusedError, match=r"last.pt: HTTP 413 .*client_max_body_size") as caught, \
            record_outcome(run):
        run.upload([tmp_path / "last.pt"], "checkpoints")
    assert "\n" not in str(caught.value)
    left = connection.client.get_run(run.run_id)
    assert (left.info.status, left.data.tags["inversion.failure"]) == ("FAILED", "tracking_refused")
    assert left.data.tags["inversion.failure_message"] == str(caught.value)


SMALL = ("train", "--data", "sample", "--weights", "random", "--lpips-weights", "off", "--image-size", "32", "--epochs",
         "1", "--train-limit", "2", "--val-limit", "1", "--test-limit", "1", "--threads", "1")


@pytest.mark.parametrize("path", ["/metrics/get-history", "/logged-models/search", "/mlflow-artifacts/artifacts",
                                  "/runs/log-batch", "/runs/log-inputs", "/logged-models"])
def test_whatever_request_of_a_training_is_refused_no_run_stays_running(
        path: str, stand_in: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.refuse(403, path=path)
    assert run_command(cli, [*SMALL, "--tracking-uri", stand_in.address, "--experiment", path]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    stand_in.heal()
    connection = connect(stand_in.address, path)
    run, = search(connection, "")
    assert (run.info.status, run.data.tags["inversion.failure"]) == ("FAILED", "tracking_refused")
    assert "HTTP 403" in said
    assert said == f"error: {run.data.tags['inversion.failure_message']}"


RUN = "0" * 32


@pytest.mark.parametrize(("status", "told"), [(401, TrackingRefusedError), (403, TrackingRefusedError),
                                              (404, TrackingRefusedError), (500, TrackingLostError),
                                              (503, TrackingLostError)])
def test_a_server_that_does_not_tell_is_not_said_to_have_no_such_run(
        status: int, told: type[Exception], stand_in: Any) -> None:
    connection = connect(stand_in.address)
    stand_in.refuse(status, "GET", "/mlflow/runs/get")
    with pytest.raises(told, match="HTTP"):
        find_run(connection, RUN)


@pytest.mark.parametrize("body", ["", "{}", '{"runs": []}'])
def test_an_answer_without_a_run_is_not_taken_for_one(body: str, stand_in: Any) -> None:
    connection = connect(stand_in.address)
    stand_in.refuse(200, "GET", "/mlflow/runs/get", body=body)
    with pytest.raises(InversionError, match="not an MLflow server"):
        find_run(connection, RUN)


def test_a_login_page_in_place_of_a_list_of_artifacts_is_told_with_its_address(
        tracked: tuple[Any, MlflowClient, str]) -> None:
    server, client, run_id = tracked
    server.refuse(200, "GET", "mlflow-artifacts/artifacts", body="<html>log in</html>")
    error = raised(lambda: client.list_artifacts(run_id))
    assert is_refused(error)
    assert reason(error) == (f"GET {server.address}/api/2.0/mlflow-artifacts/artifacts: HTTP 200 OK "
                             "(this is not an MLflow server, or a proxy answers in its place)")


@pytest.mark.parametrize("run_id", [RUN, "no/id", "x" * 300, ""])
def test_a_run_that_is_not_there_is_told_as_that(run_id: str, stand_in: Any) -> None:
    with pytest.raises(RequestError, match="has no run"):
        find_run(connect(stand_in.address), run_id)


@pytest.mark.parametrize(("cause", "passes"), [
    (PoolTimeoutError("QueuePool limit"), True), (InterfaceError("select 1", {}, Exception("closed")), True),
    (DataError("insert", {}, Exception("too long")), False)])
def test_the_cause_counts_and_not_the_word_that_a_library_has_for_all_of_them(
        cause: Exception, passes: bool) -> None:
    for wrapper in (MlflowException("wrapped", BAD_REQUEST), StorageInternalError("during the commit")):
        wrapper.__cause__ = cause
        assert (is_lost(wrapper), is_refused(wrapper)) == (passes, not passes)


def test_a_database_that_forbids_to_write_is_told_and_not_waited_for(workplace: Path) -> None:
    connection: Connection = connect()
    run = begin_run(connection, "name")
    with closing(sqlite3.connect(workplace / "mlflow.db")) as database, database:
        database.execute("drop table latest_metrics")
    error = raised(lambda: run.log_metrics({"val/loss": 1.0}))
    assert is_refused(error)
    assert "latest_metrics" in reason(error)
