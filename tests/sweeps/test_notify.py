"""``--notify``: what is told of a sweep, to a server and to a command, and that a failure to tell changes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from inversion.errors import InversionError
from inversion.notify import Target, parse_target, send
from inversion.sweeps.queue.entry import Entry, Snapshot
from inversion.sweeps.workers.notice import STUCK_SECONDS, Progress

ONE = "grid:\n  - decoder: [wavelet]"
Sweep = Callable[..., Any]


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a server, and what was posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/hidden", posted
    server.shutdown()
    server.server_close()


def test_a_study_that_is_done_is_told_with_its_best_run(lab: Any, done: Callable[..., None], sweep: Sweep) -> None:
    done(ONE)
    with webhook() as (url, posted):
        outcome = sweep("--join", "--study", "tiny", "--workers", "1", "--notify", url)
    assert outcome.code == 0, outcome.err
    run, = lab.results().runs
    parent = lab.results().parent
    assert posted == [{
        "study": "tiny", "state": "done", "message": "1 finished", "counts": {"finished": 1},
        "best": {"name": "vgg16:block1+wavelet", "run": run.info.run_id, "test/psnr": run.data.metrics["test/psnr"]},
        "link": f"http://127.0.0.1:5000/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
                "?workflowType=machine_learning"}]


def test_a_sweep_that_fails_is_told_to_a_command(
    lab: Any, queued: Callable[..., None], sweep: Sweep, pool: Callable[..., Any]
) -> None:
    queued(ONE)

    def fail() -> None:
        raise InversionError("worker 1: all is lost at http://me:secret@host")

    pool(fail)
    outcome = sweep("--join", "--study", "tiny", "--notify", f"tee {lab.folder}/told.json")
    assert outcome.code == 1
    told = json.loads((lab.folder / "told.json").read_text())
    assert (told["state"], told["message"]) == ("failed", "worker 1: all is lost at http://me:***@host")


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/hidden", "false"])
def test_a_failure_to_tell_is_a_warning(
    target: str, done: Callable[..., None], sweep: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    done(ONE)
    with caplog.at_level(logging.WARNING):
        assert sweep("--join", "--study", "tiny", "--workers", "1", "--notify", target).code == 0
    line, = (record.getMessage() for record in caplog.records if record.name == "inversion.notify")
    assert line.startswith(f"--notify {target.removesuffix(':9/hidden')}: the notification 'done' was not delivered: ")
    assert "hidden" not in line


def test_a_status_is_told_without_the_path_which_is_a_password(caplog: pytest.LogCaptureFixture) -> None:
    with webhook(404) as (url, posted):
        send(Target(url=url), {"state": "done"})
    assert posted == [{"state": "done"}]
    assert caplog.messages == ["--notify http://127.0.0.1: the notification 'done' was not delivered: status 404"]


@pytest.mark.parametrize(("target", "said"), [
    ("slack://channel", "this is not an address to post to. Allowed: a URL that begins with http:// or https://"),
    ("http://", "this is not an address to post to"),
    ("http://[", "this is not an address to post to"),
    ("no-such-command --loud", "there is no command 'no-such-command' that can be run"),
    ("tee 'x", "cannot be split into words (No closing quotation)"),
    ("", "there is no command ''"),
])
def test_a_target_is_an_address_or_a_command(target: str, said: str, sweep: Sweep, lab: Any) -> None:
    outcome = sweep(lab.spec(ONE), "--notify", target)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert said in outcome.err


@pytest.mark.parametrize("words", [("--status",), ("--dry-run",), ("--workers", 0)])
def test_without_workers_there_is_nothing_to_tell(words: tuple[object, ...], sweep: Sweep, lab: Any) -> None:
    outcome = sweep(lab.spec(ONE), *words, "--notify", "true")
    assert (outcome.code, "--notify is for workers" in outcome.err) == (2, True)


def test_a_command_keeps_its_arguments() -> None:
    assert parse_target("tee 'a file'").command == ("tee", "a file")


def running(epochs: int) -> Snapshot:
    trial: FrozenTrial = create_trial(state=TrialState.RUNNING, intermediate_values=dict.fromkeys(
        range(1, epochs + 1), 20.0))
    return Snapshot([Entry(trial)], datetime.now())


@pytest.fixture
def watched() -> tuple[list[float], list[str], Progress]:
    """A clock to set, what was told, and what watches."""
    now, told = [0.0], []
    return now, told, Progress(lambda _, why: told.append(why), clock=lambda: now[0])


def test_a_sweep_without_progress_is_told_once_until_it_goes_on(watched: Any) -> None:
    now, told, progress = watched
    progress.look(running(0))
    now[0] = STUCK_SECONDS + 1
    progress.look(running(0))
    progress.look(running(0))
    assert told == ["no run has completed an epoch for 0:30:01"]
    progress.look(running(1))
    now[0] += 3 * STUCK_SECONDS  # the first epoch took more than half an hour, and so may the next ones
    progress.look(running(1))
    assert len(told) == 1
    now[0] += 4
    progress.look(running(1))
    assert len(told) == 2


def test_workers_that_die_again_and_again_are_told_at_once(watched: Any) -> None:
    _, told, progress = watched
    progress.look(running(1))
    progress.died("worker 1: killed by SIGKILL")
    progress.look(running(1))
    assert not told
    progress.died("worker 1: killed by SIGSEGV")
    progress.look(running(1))
    assert told == ["no run has completed an epoch for 0:00:00; worker 1: killed by SIGKILL; worker 1: killed by "
                    "SIGSEGV"]
