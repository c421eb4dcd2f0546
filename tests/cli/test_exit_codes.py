"""Requests that are wrong end before anything is built or tracked; runs that fail say why. Each in one line."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run

import inversion.runs.train
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss
from inversion.runs import prepare as experiment

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is built ends the test: that takes seconds and downloads."""

    def refuse(*_: object) -> None:
        pytest.fail("the network was built")

    monkeypatch.setattr(experiment, "build", refuse)
    monkeypatch.setattr(inversion.runs.train, "make_trainer", refuse)


def one_line(outcome: Any) -> str:
    """The error's text, after checking that it is all there is."""
    assert outcome.code == 2, outcome.err
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    return str(lines[0])


WRONG = {
    "encoder": ({"encoder": "vgg61"}, "unknown encoder 'vgg61'. Known: vgg16, ", "Did you mean 'vgg16'?"),
    "layer": ({"encoder": "vgg16:blok1"}, "vgg16 has no layer 'blok1'. Known: block1, ", "Did you mean 'block1'?"),
    "layer as its own option": ({"encoder": "vgg16", "layer": "stage1"}, "vgg16 has no layer 'stage1'", "block5"),
    "layer given twice": ({"layer": "block2"}, "layer", "block1"),
    "decoder": ({"decoder": "wavlet"}, "decoder 'wavlet'. Known: ", "Did you mean 'wavelet'?"),
    "fusion": ({"encoder": "vgg16:block1+resnet34:layer1", "fusion": "atention"}, "fusion 'atention'. Known: ",
               "Did you mean 'attention'?"),
    "fusion of one encoder": ({"fusion": "concat"}, "fusion=concat needs two encoders", "Leave fusion out"),
    "decoder's option": ({"decoder": "wavelet", "decoder_options": "wavlet=db2"}, "wavlet", "wavelet"),
    "data folder": ({"data": "./no-such-folder"}, "no-such-folder", "sample"),
    "weights file": ({"weights": "no-such-file.pth"}, "'no-such-file.pth': no such file", "imagenet"),
    "weights of another encoder": ({"weights": "resnet34=random"}, "vgg16", "vgg16=FILE"),
    "LPIPS weights": ({"lpips_weights": "no-such-file.pth"}, "lpips_weights: no such file", "no-such-file.pth"),
    "number": ({"epochs": "many"}, "epochs: 'many' is not allowed", "a whole number, 1 or more"),
    "range": ({"image_size": 100}, "image_size: '100' is not allowed", "multiple of 32"),
    "choice": ({"protocol": "publisched"}, "protocol: 'publisched' is not allowed", "Did you mean 'published'?"),
    "truth value": ({"strict": "perhaps"}, "strict: 'perhaps' is not allowed", "true or false"),
    "device": ({"device": "gpu"}, "device: 'gpu' is not allowed", "cuda"),
    "nothing to train for": ({"mse_weight": 0}, "nothing to train for", "lpips_weights=FILE"),
    "fallback that strict refuses": ({"data": "auto", "data_dir": "empty", "strict": "true"}, "strict=true refuses",
                                     "inversion data div2k"),
}


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(("parameters", "beginning", "remedy"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_helps(
        parameters: dict[str, object], beginning: str, remedy: str, train: Command, all_runs: Runs) -> None:
    line = one_line(train(**parameters))
    assert beginning in line
    assert remedy in line[line.index(beginning):]
    assert all_runs() == []


@pytest.mark.usefixtures("nothing_is_built")
def test_weights_of_another_kind_of_file_are_refused(train: Command, all_runs: Runs, workplace: Path) -> None:
    (workplace / "weights.zip").write_bytes(b"PK")
    assert "only state dicts as .pth, .pt, .safetensors are read" in one_line(train(weights="weights.zip"))
    assert all_runs() == []


@pytest.mark.usefixtures("nothing_is_built")
def test_a_folder_without_photographs_is_refused(train: Command, all_runs: Runs, workplace: Path) -> None:
    (workplace / "photos").mkdir()
    assert "photos" in one_line(train(data=workplace / "photos"))
    assert all_runs() == []


SIZES = "is not allowed. Allowed: a whole number, 32 or more, at most 1024, a multiple of 32."
NUMBERS = "is not allowed. Allowed: a whole number, 0 or more"


@pytest.mark.parametrize(("words", "beginning"), [
    (["trian"], "unknown command 'trian'. Known: train, "),
    (["train", "--epoch", "3"], "No such option '--epoch'"),
    (["train", "--epochs"], "Option '--epochs' requires an argument"),
    (["train", "extra"], "Got unexpected extra argument (extra)"),
    (["train", "--resume", "abc", "--epochs", "3"], "--resume takes its parameters from the run; leave out --epochs"),
    (["list", "--image-size", "x"], "Invalid value for '--image-size'"),
    *((["list", "--image-size", size], f"Invalid value for '--image-size': '{size}' {SIZES}")
      for size in ("0", "-32", "33", "1056", "nan", "1e999")),
    *((["data", "photos", "--image-size", size], f"Invalid value for '--image-size': '{size}' {SIZES}")
      for size in ("0", "-1", "100000", "1.5", "9" * 30)),
    *((["evaluate", "run", "--test-limit", limit], f"Invalid value for '--test-limit': '{limit}' {NUMBERS}")
      for limit in ("-1", "1.5", "9" * 20, "9" * 5000)),
    (["train", "--threads", "99999999999"], f"threads: '99999999999' {NUMBERS}, at most 1024."),
    (["optimize", "--threads", "99999999999"], f"threads: '99999999999' {NUMBERS}, at most 1024."),
    (["optimize", "--steps", "9" * 20], f"steps: '{'9' * 20}' is not allowed. Allowed: a whole number, 1 or more, at "),
    (["optimize", "--tv-weight", "1e999"], "tv_weight: '1e999' is not allowed. Allowed: a number, 0 or more."),
    (["data"], "Missing argument 'NAME|FOLDER'"),
], ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "")
def test_a_wrong_command_line_is_refused_in_one_line(
        words: list[str], beginning: str, inversion: Command, workplace: Path) -> None:
    assert beginning in one_line(inversion(*words))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["doctor", "-h"], ["--version"], []], ids=" ".join)
def test_asking_for_help_is_no_error(words: list[str], inversion: Command) -> None:
    outcome = inversion(*words)
    assert outcome.code == 0
    assert "inversion" in outcome.out
    assert outcome.err == ""


def test_help_of_train_names_every_parameter_with_its_default(inversion: Command) -> None:
    words = " ".join(inversion("train", "--help").out.split())
    for option in ("--encoder", "--decoder-options", "--lpips-weights", "--tracking-uri", "--resume"):
        assert f" {option} " in words
    assert "[default: 0.0001]" in words
    assert "image, published" in words or "published: against" in words


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
    line = one_line(command())
    assert time.monotonic() - started < seconds
    return line


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
    line = one_line(train("--tracking-uri", "postgresql://me:secret@127.0.0.1:1/runs"))
    assert "postgresql://me:***@127.0.0.1:1/runs" in line
    assert "secret" not in line


@pytest.mark.usefixtures("nothing_is_built")
def test_an_experiment_that_was_deleted_is_told_with_the_way_back(
        train: Command, inversion: Command, workplace: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment_id = client.create_experiment("gone")
    client.delete_experiment(experiment_id)
    assert f"mlflow experiments restore -x {experiment_id}" in one_line(train("--experiment", "gone"))


class Broken:
    """Stands in for the loss and does something at one of its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.original = ReconstructionLoss.forward
        self.monkeypatch = monkeypatch

    def at(self, call: int, action: Callable[[LossTerms], LossTerms]) -> None:
        """Replaces what the loss gives at its ``call``-th call, counted from 1, by what ``action`` makes of it."""
        self._replace(action, lambda number: number == call)

    def always(self, action: Callable[[LossTerms], LossTerms]) -> None:
        """The same at every call."""
        self._replace(action, lambda number: True)

    def _replace(self, action: Callable[[LossTerms], LossTerms], when: Callable[[int], bool]) -> None:
        calls = 0

        def forward(loss: ReconstructionLoss, *arguments: Any) -> LossTerms:
            nonlocal calls
            calls += 1
            terms = self.original(loss, *arguments)
            return action(terms) if when(calls) else terms

        self.monkeypatch.setattr(ReconstructionLoss, "forward", forward)


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


def with_nan(terms: LossTerms) -> LossTerms:
    return terms._replace(total=terms.total * float("nan"), mse=terms.mse * float("nan"))


def raising(error: BaseException) -> Callable[[LossTerms], LossTerms]:
    def action(terms: LossTerms) -> LossTerms:
        raise error

    return action


def sending(number: signal.Signals) -> Callable[[LossTerms], LossTerms]:
    def action(terms: LossTerms) -> LossTerms:
        os.kill(os.getpid(), number)
        return terms

    return action


def failed(outcome: Any, all_runs: Runs, code: int, status: str, kind: str) -> str:
    """The error's text, after checking exit code, status and tags."""
    assert outcome.code == code, outcome.err
    lines = outcome.err.strip().splitlines()  # click ends the line that a Ctrl-C stands in
    assert len(lines) == 1, outcome.err
    run, = all_runs()
    assert run.info.status == status
    assert run.info.end_time
    assert run.data.tags["inversion.failure"] == kind
    text = lines[0].removeprefix("error: ")
    assert " ".join(run.data.tags["inversion.failure_message"].split()) == text
    return str(text)


def test_a_loss_that_is_not_finite_fails_the_run(train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(3, with_nan)
    text = failed(train(epochs=3, batch_size=2), all_runs, 1, "FAILED", "nonfinite")
    assert "step 1 of epoch 2: mse is not finite" in text
    assert "lower lr (now 0.001)" in text
    assert "test/psnr" not in all_runs()[0].data.metrics


def test_memory_that_runs_out_is_told_without_a_traceback(train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.always(raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore")))
    text = failed(train(), all_runs, 1, "FAILED", "oom")
    assert text.startswith("out of memory: not even one image fits at image_size 32 with encoder vgg16:block1 and ")
    assert "CUDA out of memory. Tried to allocate 9 GiB. Try a smaller image_size" in text


def test_memory_that_runs_out_once_halves_the_micro_batch_and_the_run_is_tagged(
        train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(1, raising(torch.OutOfMemoryError("CUDA out of memory.")))
    assert train(batch_size=4).code == 0
    run, = all_runs()
    assert (run.info.status, run.data.tags["inversion.micro_batch"]) == ("FINISHED", "2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_as_killed_with_its_checkpoint_uploaded(
        number: signal.Signals, train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(3, sending(number))
    text = failed(train(epochs=3, batch_size=2), all_runs, 130, "KILLED", "interrupted")
    assert text == f"stopped after step 1 of epoch 2: {number.name} received. The checkpoint is safe."
    run, = all_runs()
    saved = torch.load(Path(run.info.artifact_uri) / "checkpoints" / "last.pt", weights_only=True)["progress"]
    assert (saved["epoch"], saved["step"]) == (1, 1)


def test_signals_are_handled_as_before_when_the_command_is_done(train: Command, loss: Broken) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    loss.at(1, sending(signal.SIGTERM))
    assert train().code == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_does_not_wait(train: Command, all_runs: Runs, loss: Broken) -> None:
    def twice(terms: LossTerms) -> LossTerms:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal came to nothing")

    loss.at(1, twice)
    failed(train(), all_runs, 130, "KILLED", "interrupted")


def test_an_error_of_ours_that_nobody_foresaw_fails_the_run_and_is_not_hidden(
        train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(1, raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        train()
    run, = all_runs()
    assert run.info.status == "FAILED"
    tags = run.data.tags
    assert (tags["inversion.failure"], tags["inversion.failure_message"]) == ("error", "ZeroDivisionError: a bug")


def test_a_broken_photograph_is_named_and_nothing_is_tracked(
        train: Command, all_runs: Runs, photo_folder: Path, workplace: Path) -> None:

    shutil.copytree(photo_folder, workplace / "photos")
    (workplace / "photos" / "train" / "train1.png").write_bytes(b"\x89PNG no more")
    assert "train1.png" in one_line(train(data=workplace / "photos"))
    assert all_runs() == []
