"""The store is reached once, told apart, and made by one process at a time."""

from __future__ import annotations

import ast
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from inversion.cli.app import cli, run_command
from inversion.tracking.connection import connect, require_answer
from inversion.tracking.masking import without_password
from inversion.tracking.store_errors import NoTrackingError

Start = Callable[..., subprocess.Popen[str]]
CONNECT = """
import multiprocessing
from inversion.tracking.connection import connect
context = multiprocessing.get_context("fork")
barrier, experiments = context.Barrier(4), context.Queue()
def meet():
    barrier.wait(timeout=60)
    experiments.put(connect().experiment_id)
processes = [context.Process(target=meet) for _ in range(4)]
for process in processes:
    process.start()
print({experiments.get(timeout=60) for process in processes})
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""
"""Four processes that are forked before anything is open: importing MLflow takes seconds each."""


def test_processes_that_meet_a_fresh_store_at_once_all_get_the_same_experiment(start: Start, workplace: Path) -> None:
    (workplace / "mlflow.db").unlink()
    process = start(sys.executable, "-c", CONNECT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    met, exit_codes = map(ast.literal_eval, out.splitlines())
    assert len(met) == 1
    assert exit_codes == [0] * 4
    experiments = MlflowClient(f"sqlite:///{workplace}/mlflow.db").search_experiments()
    assert sorted(experiment.name for experiment in experiments) == ["Default", "inversion"]


@pytest.mark.acceptance
def test_four_first_runs_at_once_all_succeed(start: Start, workplace: Path, photo_folder: Path) -> None:
    (workplace / "mlflow.db").unlink()
    words = [sys.executable, "-m", "inversion", "train", "--encoder", "vgg16:block1", "--weights", "random",
             "--lpips-weights", "off", "--image-size", "32", "--threads", "1", "--epochs", "1",
             "--data", str(photo_folder)]
    processes = [start(*words, "--seed", str(seed)) for seed in range(4)]
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, told
    assert [err for _, err in told] == [""] * 4
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("inversion")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert {run.data.params["seed"] for run in runs} == {"0", "1", "2", "3"}


def test_the_given_store_goes_before_the_environments(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/unusable.db")
    assert connect(f"sqlite:///{workplace}/mlflow.db").uri == f"sqlite:///{workplace}/mlflow.db"


def test_without_any_word_the_store_is_the_folders_and_the_experiment_ours(workplace: Path) -> None:
    connection = connect()
    assert (connection.uri, connection.experiment) == (f"sqlite:///{workplace}/mlflow.db", "inversion")
    assert connect().experiment_id == connection.experiment_id


def test_experiments_are_named_by_option_then_by_mlflows_variables(
        workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from environment")
    assert connect().experiment == "from environment"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")  # as `mlflow run` sets it
    assert (connect().experiment, connect().experiment_id) == ("Default", "0")
    assert connect(experiment="mine").experiment == "mine"


def test_an_experiment_that_mlflows_variable_only_thinks_of_is_told(
        workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "777")
    with pytest.raises(NoTrackingError, match="777"):
        connect()


def test_mlflows_own_settings_are_left_to_whoever_made_them(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    connect()
    assert os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] == "true"


def test_an_address_that_is_none_is_one_clear_line(workplace: Path) -> None:
    with pytest.raises(NoTrackingError, match=r"store postgresql://me:\*\*\*@host:port/runs cannot be opened: "):
        connect("postgresql://me:secret@host:port/runs")


@pytest.mark.parametrize(("uri", "shown"), [
    ("postgresql://me:secret@host:5432/runs", "postgresql://me:***@host:5432/runs"),
    ("postgresql+psycopg://me:se:c@ret@host/runs", "postgresql+psycopg://me:***@host/runs"),
    ("postgresql://me:se/cret@host:5432/runs", "postgresql://me:***@host:5432/runs"),
    ("postgresql://host/runs?user=me&password=secret&x=1", "postgresql://host/runs?user=me&password=***&x=1"),
    ("https://me:secret@host/mlflow", "https://me:***@host/mlflow"),
    ("http://host:5000", "http://host:5000"),
    ("sqlite:////tmp/a:b@c/mlflow.db", "sqlite:////tmp/a:b@c/mlflow.db"),
    ("postgresql://me@host/runs", "postgresql://me@host/runs"),
])
def test_passwords_are_hidden_and_nothing_else(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


@pytest.mark.parametrize(("status", "told"), [(401, "rejects the request: .*HTTP 401 .*MLFLOW_TRACKING_USERNAME"),
                                              (403, "rejects the request: .*HTTP 403"),
                                              (404, "rejects the request: .*HTTP 404"),
                                              (503, "does not answer .*HTTP 503")])
def test_a_server_that_refuses_everything_is_told_with_the_status(status: int, told: str, stand_in: Any) -> None:
    stand_in.refuse(status)
    with pytest.raises(NoTrackingError, match=told):
        connect(stand_in.address)
    assert stand_in.answered == [status]


@pytest.mark.parametrize(("name", "value"), [("MLFLOW_TRACKING_INSECURE_TLS", "maybe"),
                                             ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon"),
                                             ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", ""),
                                             ("MLFLOW_LOGGING_LEVEL", "loud")])
def test_a_variable_of_mlflow_with_a_value_that_it_cannot_read_is_told_before_anything_starts(
        name: str, value: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run_command(cli, ["train", "--data", "sample"]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: environment variable {name}: ")


def test_a_page_in_place_of_an_answer_is_told_as_that(stand_in: Any) -> None:
    """What a proxy shows that wants people to log in."""
    stand_in.refuse(200, body="<html>log in</html>")
    with pytest.raises(NoTrackingError, match=r"HTTP 200 OK \(this is not an MLflow server, or a proxy answers in "
                                                r"its place\)$"):
        connect(stand_in.address)


def test_a_server_that_is_busy_for_a_moment_is_there(stand_in: Any) -> None:
    stand_in.refuse(429, times=1)
    assert connect(stand_in.address).experiment == "inversion"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody else has signed, and its key."""
    made = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-out", made[0], "-keyout", made[1]],
                   check=True, capture_output=True)
    return made


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """A server's, which shows that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate[0])
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_mlflows_own_variables_for_certificates_hold_for_the_first_question_too(
        make_stand_in: Callable[..., Any], context: ssl.SSLContext, certificate: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch) -> None:
    address = make_stand_in(context).address
    with pytest.raises(NoTrackingError, match=r"request: self.signed certificate .*MLFLOW_TRACKING_SERVER_CERT_PATH"):
        connect(address)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        assert connect(address).uri == address
        patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
        with pytest.raises(NoTrackingError, match="only one of these"):
            require_answer(address)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
    assert connect(address).uri == address
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/no/such/file.pem")
    with pytest.raises(NoTrackingError, match=r"/no/such/file\.pem"):
        require_answer(address)


def test_a_server_that_wants_a_clients_certificate_is_given_it(
        make_stand_in: Callable[..., Any], context: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    address = make_stand_in(context).address
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
    with pytest.raises(NoTrackingError):
        require_answer(address)
    both = tmp_path / "both.pem"
    both.write_text("".join(path.read_text() for path in certificate))
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(both))
    require_answer(address)


def test_user_and_token_are_sent_with_the_first_question(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    require_answer(stand_in.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    require_answer(stand_in.address)
    assert [headers["Authorization"] for headers in stand_in.headers] == ["Bearer token", "Basic bWU6c2VjcmV0"]
