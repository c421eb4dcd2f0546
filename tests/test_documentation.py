"""What the documentation shows works as it stands there."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
import torch
import yaml

from inversion.cli.app import cli as inversion
from inversion.cli.app import run_command
from inversion.cli.report import cli as inversion_report
from inversion.cli.study import cli as inversion_study
from inversion.cli.sweep import cli as inversion_sweep
from inversion.cli.sweep import require_one_request
from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.encoders import parse_encoders
from inversion.models.modifiers import modifiers
from inversion.models.modifiers._layers import Modifiers
from inversion.sweeps.spec.spec import load_spec

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("benchmarks/*.md")),
             *sorted(ROOT.glob("sweeps/*.md"))]


NOT_RUN = {
    "what .ci/run does": r"git clone|make |pip install|python3 -m venv|source ",
    "a server that stays open; real ones are tested in tests/serving, tests/tracking and tests/sweeps":
        r"mlflow ui|mlflow server|mlflow models serve|optuna-dashboard|ray start|createdb",
    "an image of docs/docker, whose files are tested in tests/project/test_mlproject.py": r"docker (build|run) ",
    "settings of a shell": r"export |echo ",
    "a cluster; tested in tests/sweeps/test_slurm.py": r"inversion-sweep .*--slurm ",
    "an environment of MLflow's, tested in tests/project/test_mlflow_run.py and test_mlproject.py": r"mlflow run ",
    "DIV2K, which has to be fetched, and a GPU":
        r"inversion data div2k|inversion-sweep (grid|published|resolution|rate)\.yaml|.*--data div2k"
        r"|.*--study ablation",
    "reports of those studies": r"inversion-report (ablation|published|resolution|rate|depth) ",
    "names that a reader fills in; tested in tests/cli":
        r".*RUN_ID|.*--best-of |.*\./photos|.*--weights \S*(\.pth|/weights)",
    "a folder that a reader has; tested in tests/tracking/test_file_store.py": r"mlflow migrate-filestore ",
    "a file of the reader's own; run with the one that the page shows": r"inversion train .*my_\w+\.py:",
    "layers of encoders, run by a test in this file":
        r"inversion train --encoder (vit_small:block6-k|vgg16:block1\+block3) ",
    "data that a reader has; tested in tests/data/test_shards.py and test_hub.py":
        r"inversion (data|train --data) ('shards/|hf:NAME)",
    "photographs that are no part of the project": r".*bsds300",
    "weights from the network": r".*--weights imagenet|inversion train --encoder resnet34 --decoder wavelet$",
    "a study that a reader has; tested in tests/sweeps/test_portable.py": r"inversion-study ",
    "what make quickstart does": r"inversion train --encoder resnet34 --decoder wavelet --data sample .*--epochs 15",
    "measurements, with the numbers that they gave": r"python (-m benchmarks\.|benchmarks/)",
    "shown twice on its page, run once": r"inversion-sweep --status --study smoke$|inversion doctor$",
}
"""Commands of the documentation that no test runs as they stand there, by the reason; their options are checked."""


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), flags=re.DOTALL)


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Every command line of a program in the documentation: where it stands, and its words."""
    found = [(document.name, shlex.split(line, comments=True)) for document in DOCUMENTS
             for block in blocks(document, "console")
             for line in re.findall(r"^\$ (.*)$", block.replace("\\\n", ""), flags=re.MULTILINE)]
    return [(document, words) for document, words in found if words[:1] == [program]]


def unmarked() -> list[str]:
    """Every command line outside the blocks that a page marks as run."""
    texts = [re.sub(r"<!-- run -->\n```console\n.*?```", "", document.read_text(), flags=re.DOTALL)
             for document in DOCUMENTS]
    found = [block for text in texts for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)]
    return [line.strip() for block in found
            for line in re.findall(r"^\$ (.*)$", re.sub(r"\\\n\s*", "", block), flags=re.MULTILINE)]


def test_every_command_is_run_by_a_test_or_is_one_of_the_exceptions() -> None:
    lines = unmarked()
    assert [line for line in lines if not any(re.match(pattern, line) for pattern in NOT_RUN.values())] == []
    assert [why for why, pattern in NOT_RUN.items() if not any(re.match(pattern, line) for line in lines)] == []


def test_the_decoder_in_the_guide_is_one_file_and_one_decorator() -> None:
    text = (ROOT / "docs" / "extending.md").read_text().split("\n## A decoder in this package")[1]
    source = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0].replace('register("bilinear")',
                                                                                   'register("guide_bilinear")')
    module = ModuleType("guide_bilinear")
    sys.modules[module.__name__] = module  # outside the package, as somebody else's code would be
    try:
        exec(compile(source, "extending.md", "exec"), module.__dict__)
        decoder = decoders.get("guide_bilinear")
        options = parse_decoder_options("guide_bilinear", decoder.OptionsType, {"kernel": "3"})
        images = decoder(FeatureShape(16, 5, 5), 64, options)(torch.randn(2, 16, 5, 5))
        assert images.shape == (2, 3, 64, 64)
        assert 0 <= images.min() <= images.max() <= 1
    finally:
        del sys.modules[module.__name__]
        decoders.forget("guide_bilinear")


@pytest.mark.parametrize("kind", ["decoder", "encoder", "fusion", "metric", "loss"])
def test_the_file_with_a_part_in_the_guide_is_trained_as_it_stands_there(
    workplace: Path, capsys: pytest.CaptureFixture[str], kind: str,
) -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    section, = re.findall(rf"\n## An? {kind} in a file of your own\n(.*?)(?=\n## )", text, flags=re.DOTALL)
    source, = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    (workplace / f"my_{kind}.py").write_text(source)
    command, = re.findall(r"^\$ inversion (.*)$", section.replace("\\\n", ""), flags=re.MULTILINE)
    code = run_command(inversion, [*shlex.split(command), "--vgg-weights", "off"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    name = "sharpness" if kind == "metric" else f"My{kind.title()}"
    assert f"my_{kind}.py:{name}@" in shown.out


def test_the_commands_with_layers_in_the_guide_train_as_they_stand_there(
    workplace: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    section = (ROOT / "docs" / "extending.md").read_text().split("\n## An encoder of timm")[1]
    lines = re.findall(r"^\$ inversion (.*)$", section.replace("\\\n", ""), flags=re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert run_command(inversion, [*shlex.split(line), "--vgg-weights", "off"]) == 0, capsys.readouterr().err


def test_the_modifier_in_the_guide_is_one_file_and_one_decorator() -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    source = re.findall(r"```python\n(.*?)```", text.split("\n## A modifier")[1], flags=re.DOTALL)[0]
    module = ModuleType("guide_sparse")
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, "extending.md", "exec"), module.__dict__)
        cut, = parse_encoders("vgg16:block1/sparse=10")
        assert str(cut) == "vgg16:block1/sparse=10"
        maps = torch.randn(2, *cut.shape(64), generator=torch.Generator().manual_seed(0))
        changed = Modifiers(cut.modifiers, cut.raw_shape(64), "guide")(maps)
        assert (changed != 0).float().mean().item() == pytest.approx(0.1, abs=0.001)
        assert torch.equal(changed[changed != 0], maps[changed != 0])
    finally:
        del sys.modules[module.__name__]
        modifiers.forget("sparse")


def test_links_between_documents_lead_somewhere() -> None:
    assert len(DOCUMENTS) > 8
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize(("document", "words"), commands("inversion"))
def test_an_inversion_command_has_the_options_that_are_shown(document: str, words: list[str]) -> None:
    parent = click.Context(inversion, **inversion.context_settings)
    command = inversion.get_command(parent, words[1])
    assert command is not None
    command.make_context(words[1], words[2:], parent)  # a command keeps the help options of its first parent


@pytest.mark.parametrize(("document", "words"), commands("inversion-sweep"))
def test_a_sweep_can_be_asked_for_as_it_is_shown(document: str, words: list[str]) -> None:
    asked = dict(inversion_sweep.make_context("inversion-sweep", words[1:]).params)
    asked.pop("verbose")
    given = {name: asked.pop(name) for name in ("spec", "sets", "wheres", "study", "dry_run")}
    require_one_request(**given, options=asked)
    if given["spec"]:
        load_spec(given["spec"], given["sets"], given["wheres"], given["study"])


@pytest.mark.parametrize(("document", "words"), commands("inversion-report"))
def test_a_report_can_be_asked_for_as_it_is_shown(document: str, words: list[str]) -> None:
    inversion_report.make_context("inversion-report", words[1:])


@pytest.mark.parametrize(("document", "words"), commands("inversion-study"))
def test_a_study_can_be_moved_as_it_is_shown(document: str, words: list[str]) -> None:
    parent = click.Context(inversion_study, **inversion_study.context_settings)
    command = inversion_study.get_command(parent, words[1])
    assert command is not None
    command.make_context(words[1], words[2:], parent)


@pytest.mark.parametrize(("document", "words"), [(document, words) for document, words in commands("mlflow")
                                                 if words[1:2] == ["run"]])
def test_an_entry_point_has_the_parameters_that_are_shown(document: str, words: list[str]) -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    given = {word.partition("=")[0] for before, word in itertools.pairwise(words) if before == "-P"}
    assert given <= set(entry_points[entry]["parameters"])


RUNS = {"contest": 36, "ablation": 18, "bounded": 44, "most": 28, "larger": 36, "fair": 36}
"""How many runs the specs in the guide ask for."""


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "sweeps.md", "yaml"))
def test_a_spec_in_the_guide_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    spec = load_spec(str(tmp_path / "spec.yaml"))
    assert spec.search or len(spec.configurations) == RUNS[spec.study]


def test_the_slurm_script_is_one() -> None:
    script = slurm_script()
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    join, = (line for line in script.splitlines() if "inversion-sweep" in line)
    assert shlex.split(join)[0] == "srun"
    inversion_sweep.make_context("inversion-sweep", shlex.split(join)[2:])


def slurm_script() -> str:
    """The batch script on the page of clusters."""
    script, = blocks(ROOT / "docs" / "clusters.md", "bash")
    return script


ARRAY = {"SLURM_JOB_ID": "4711", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}
SRUN = f"""#!{sys.executable}
import os, signal, sys
from pathlib import Path

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
words = ["srun", os.environ["SRUN_CPUS_PER_TASK"], os.environ["INVERSION_DATA"], *sys.argv[1:]]
Path(os.environ["ASKED"]).write_text(" ".join(words) + "\\n")
print(os.getpid(), flush=True)
signal.sigwait([signal.SIGTERM])
sys.exit(int(os.environ["ENDS_WITH"]))
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$ASKED"
"""


class SlurmJob:
    """The batch script as Slurm runs it, with stand-ins for ``srun`` and ``scontrol`` that note what they are asked.

    ``srun`` is a worker that does nothing until a SIGTERM; the home folder has a space in its name.
    """

    def __init__(self, start: Callable[..., subprocess.Popen[str]], folder: Path, ends_with: int,
                 **variables: str) -> None:
        home = folder / "my home"
        programs = home / "inversion" / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "activate").write_text(f"export PATH={shlex.quote(str(programs))}:$PATH\n")
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.log = folder / "asked"
        (folder / "sweep.sh").write_text(slurm_script())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.script = start("bash", str(folder / "sweep.sh"), env=environment | variables | {
            "HOME": str(home), "USER": "me", "SLURM_CPUS_PER_TASK": "8", "ASKED": str(self.log),
            "ENDS_WITH": str(ends_with)})
        assert self.script.stdout is not None
        self.worker = int(self.script.stdout.readline())  # it is up

    def end_worker(self) -> None:
        """Slurm's SIGTERM, which goes to what ``srun`` started and not to the script."""
        os.kill(self.worker, signal.SIGTERM)

    @property
    def asked(self) -> list[str]:
        """What ``srun`` and ``scontrol`` were called with, when the script has ended."""
        self.script.communicate(timeout=60)
        return self.log.read_text().splitlines()


WORK = "srun 8 /scratch/me/inversion inversion-sweep --join --study ablation"


@pytest.mark.parametrize(("variables", "job"), [
    (ARRAY, "4711_3"), (ARRAY | {"SLURM_JOB_ID": "4714"}, "4711_3"), ({"SLURM_JOB_ID": "4711"}, "4711"),
    ({"SLURM_JOB_ID": "4711", "SLURM_ARRAY_JOB_ID": ""}, "4711"),
], ids=["last task of an array", "task of an array", "no array", "no array, empty"])
def test_a_slurm_job_that_is_stopped_requeues_itself_alone(
        variables: dict[str, str], job: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    slurm = SlurmJob(start, tmp_path, 130, **variables)
    slurm.end_worker()
    assert slurm.asked == [WORK, f"scontrol requeue {job}"]
    assert slurm.script.returncode == 130


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_a_slurm_job_that_is_done_or_failed_is_not_requeued(
        code: int, start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    slurm = SlurmJob(start, tmp_path, code, **ARRAY)
    slurm.end_worker()
    assert slurm.asked == [WORK]
    assert slurm.script.returncode == code


def test_a_slurm_job_that_slurm_itself_ends_requeues_nothing(
        start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Cancelled, or preempted and requeued by Slurm: then the script is told too."""
    slurm = SlurmJob(start, tmp_path, 130, **ARRAY)
    slurm.script.send_signal(signal.SIGTERM)
    slurm.script.wait(timeout=60)
    slurm.end_worker()
    assert slurm.asked == [WORK]
    assert slurm.script.returncode == -signal.SIGTERM


def test_a_slurm_job_without_the_environment_ends_before_it_starts_a_worker(
        start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "sweep.sh").write_text(slurm_script())
    script = start("bash", str(tmp_path / "sweep.sh"), env=os.environ | ARRAY | {"HOME": str(tmp_path / "elsewhere")})
    _, err = script.communicate(timeout=60)
    assert script.returncode not in (0, 130)
    assert "activate: No such file or directory" in err
    assert "srun" not in err
