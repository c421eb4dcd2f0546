"""Every command shows the names of files, folders, runs and experiments as they are, whatever characters they have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from inversion.cli.app import cli, run_command
from inversion.cli.report import cli as report_command
from inversion.cli.sweep import cli as sweep_command

FOLDER = "photos [raw] \x1b[1m"
SHOWN_FOLDER = r"photos [raw] \x1b[1m"
RUN = "nice [/b] name \x1b]0;x\x07 :smile:"
SHOWN_RUN = r"nice [/b] name \x1b]0;x\x07 :smile:"
FILES = ["[bold]x.png", ":smile:.png", "a[/b].png", "\x1b]0;x\x07.png", "\x1b[31m.png", "a\rb.png", "a\nb.png",
         "\u202egnp.exe.png", os.fsdecode(b"\xff.png"), "a|b`<script>.png"]
SHOWN_FILES = ["[bold]x.png", ":smile:.png", "b].png", r"\x1b]0;x\x07.png", r"\x1b[31m.png", r"a\rb.png", r"a\nb.png",
               r"\u202egnp.exe.png", r"\xff.png", "a|b`<script>.png"]
"""``a[/b].png`` is a file in a folder."""

SMALL = ["--encoder", "vgg16:block1", "--weights", "random", "--lpips-weights", "off", "--image-size", "32",
         "--threads", "1", "--data", FOLDER]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch,
            enter_workplace: Callable[..., None]) -> str:
    """The id of a run on photographs of such names, called ``RUN``, in the folder in which these tests work."""
    root = tmp_path_factory.mktemp("names")
    enter_workplace(root, patch)
    patch.setenv("COLUMNS", "400")
    chance = np.random.default_rng(7)
    for split in ("train", "val", "test"):
        for name in FILES:
            path = root / FOLDER / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                Image.fromarray(chance.integers(0, 256, (40, 44, 3), dtype=np.uint8)).save(file, "PNG")
    assert run_command(cli, ["train", *SMALL, "--epochs", "1", "--train-limit", "1"]) == 0
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("inversion")
    assert experiment is not None
    run, = client.search_runs([experiment.experiment_id])
    client.set_tag(run.info.run_id, "mlflow.runName", RUN)
    return str(run.info.run_id)


@pytest.fixture
def show(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., str]:
    """``show(cli, 0, "data", FOLDER)``: what a command that ends with 0 prints, without control characters."""

    def run(command: Any, code: int, *words: str) -> str:
        capfdbinary.readouterr()
        assert run_command(command, list(words)) == code
        out, err = (text.decode("utf-8") for text in capfdbinary.readouterr())
        lines = [*out.splitlines(), *(line for line in err.splitlines() if "alembic" not in line)]
        assert [line for line in lines if not line.isprintable() and "\xa0" not in line] == []
        assert "Traceback" not in err
        return "\n".join(lines)

    return run


def test_train(show: Callable[..., str]) -> None:
    shown = show(cli, 0, "train", *SMALL, "--epochs", "1", "--train-limit", "1", "--experiment", "[/x] \x1b[31m")
    assert f"{SHOWN_FOLDER}: 1 train, 10 val, 10 test ({SHOWN_FOLDER})" in shown
    assert f"on {SHOWN_FOLDER}'s test images" in shown


def test_data(show: Callable[..., str]) -> None:
    shown = show(cli, 0, "data", FOLDER, "--image-size", "32")
    assert f"{SHOWN_FOLDER} ({SHOWN_FOLDER})" in shown
    for name in (r"test/\x1b[31m.png", r"test/\x1b]0;x\x07.png", "test/:smile:.png"):
        assert name in shown


def test_data_that_is_not_there(show: Callable[..., str]) -> None:
    assert r"no such [/b] \x1b[31m" in show(cli, 2, "data", "no such [/b] \x1b[31m")


def test_evaluate(show: Callable[..., str]) -> None:
    shown = show(cli, 0, "evaluate", RUN)
    assert SHOWN_RUN in shown
    assert f"now: {SHOWN_FOLDER}, 10 images" in shown
    assert SHOWN_RUN in show(cli, 2, "evaluate", f"{RUN}x")


def test_reconstruct(show: Callable[..., str]) -> None:
    pictures = [f"{FOLDER}/test", f"{FOLDER}/test/a[/b].png"]
    shown = show(cli, 0, "reconstruct", RUN, *pictures, "--output", "out [/b] \x1b[1m")
    for name in (*SHOWN_FILES, SHOWN_RUN, r"out [/b] \x1b[1m/scores.csv"):
        assert name in shown
    table = Path("out [/b] \x1b[1m/scores.csv").read_text("utf-8")
    assert all(line.isprintable() for line in table.splitlines())


def test_reconstruct_of_what_is_no_picture(show: Callable[..., str]) -> None:
    Path("no [bold] \x1b[31m.png").write_bytes(b"")
    assert r"no [bold] \x1b[31m.png" in show(cli, 2, "reconstruct", RUN, "no [bold] \x1b[31m.png", "--output", "o")
    assert r"not there [/b]\n.png" in show(cli, 2, "reconstruct", RUN, "not there [/b]\n.png", "--output", "o")


def test_optimize(show: Callable[..., str]) -> None:
    shown = show(cli, 0, "optimize", *SMALL, "--steps", "1", "--test-limit", "1")
    assert f"{SHOWN_FOLDER}: 1 test ({SHOWN_FOLDER})" in shown
    assert r"[/b] \x1b[1m" in show(cli, 2, "optimize", *SMALL, "--study", "[/b] \x1b[1m")


def test_doctor(show: Callable[..., str], trained: str, patch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    client.set_terminated(trained, "RUNNING")
    shown = show(cli, 0, "doctor", "--data-dir", "[/b]")
    assert SHOWN_RUN in shown
    client.set_terminated(trained, "FINISHED")
    assert r"[/b] \x1b[1m" in show(cli, 2, "doctor", "--end", "[/b] \x1b[1m")


@pytest.mark.parametrize("words", [["[/b]\x1b[1m"], ["train", "--[/b]\x1b[1m"], ["train", "--epochs", "[/b]\x1b[1m"],
                                   ["train", "--decoder-options", "[/b]\x1b[1m"], ["train", "--device", "[/b]\x1b[1m"],
                                   ["train", "--weights", "[/b]\x1b[1m"], ["evaluate", "[/b]\x1b[1m"]],
                         ids=lambda words: words[:2] if len(words) > 1 else "command")
def test_a_typing_error(words: list[str], show: Callable[..., str]) -> None:
    assert r"[/b]\x1b[1m" in show(cli, 2, *words)


@pytest.mark.parametrize("words", [["list"], ["train", "--encoder"], ["optimize", "--encoder"]])
def test_a_typing_error_in_an_encoder(words: list[str], show: Callable[..., str]) -> None:
    """Its name ends at the slash of a modifier."""
    assert r"[bold]\x1b[1m" in show(cli, 2, *words, "[bold]\x1b[1m")


def test_a_sweep(show: Callable[..., str]) -> None:
    spec = "a [b].yaml"
    text = (f"study: names\nbase: {{data: \"{FOLDER}\", weights: random, lpips_weights: 'off', image_size: 32, "
            "epochs: 1, threads: 1}\ngrid:\n  - encoder: [vgg16:block1]\n")
    Path(spec).write_text(text.replace("\x1b", r"\e"))
    shown = show(sweep_command, 0, spec, "--dry-run")
    assert "from a [b].yaml: 1 run" in shown
    assert f"data={SHOWN_FOLDER}" in shown
    assert spec in show(sweep_command, 0, spec, "--workers", "0")
    assert "1 queued" in show(sweep_command, 0, "--status", "--study", "names")
    for words in ([spec, "--set", "encoder=[/b]\x1b[1m"], ["[/b]\x1b[1m"], [spec, "--where", "[/b]\x1b[1m=1"],
                  ["--status", "--study", "[/b]\x1b[1m"]):
        assert r"[/b]\x1b[1m" in show(sweep_command, 2, *words)


def test_a_report(show: Callable[..., str], trained: str) -> None:
    client = MlflowClient()
    experiment = client.get_run(trained).info.experiment_id
    study = {"inversion.study": "reported"}
    parent = client.create_run(experiment, run_name="reported", tags={"inversion.kind": "study", **study})
    for name, value in {"mlflow.parentRunId": parent.info.run_id, **study}.items():
        client.set_tag(trained, name, value)
    output = "report [/b] \x1b[1m"
    shown = show(report_command, 0, "reported", "--output", output)
    assert r"report: report [/b] \x1b[1m/index.html" in shown
    for name in ("index.html", "report.md"):
        text = Path(output, name).read_text("utf-8")
        assert SHOWN_FOLDER.replace("\\", "\\\\" if name == "report.md" else "\\") in text
        assert "\x1b" not in text
    assert r"[/b] \x1b[1m" in show(report_command, 2, "[/b] \x1b[1m", "--output", output)
