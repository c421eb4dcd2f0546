"""The tutorial, word for word, with its study killed on the way, and what other pages show of the same study."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from tests.sweeps.lab import Lab, Results, begin

pytestmark = pytest.mark.acceptance

RUNS = 44

OTHERS = ("README.md", "docs/getting-started.md", "docs/sweeps.md", "docs/report.md", "docs/optimize.md",
          "docs/modifiers.md")
"""Pages whose commands are cheap once the tutorial's study is there."""


def test_its_commands_lead_from_a_study_that_is_killed_three_times_to_its_conclusions(
        root: Path, workplace: Path, photo_folder: Path) -> None:
    lines = marked(root / "docs" / "tutorial.md")
    assert len(lines) >= 8
    assert "--dry-run" in lines[0]
    assert lines[1] == "inversion-sweep smoke.yaml"
    run(lines[0], workplace)
    study = kill_three_times(Lab(workplace, photo_folder, begin))
    run(lines[1], workplace)  # the same command again
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == RUNS
    assert {run.info.status for run in study.everything} == {"FINISHED"}
    assert len(study.by_digest) == RUNS
    for line in lines[2:]:
        run(line, workplace)
    tables = workplace / "report" / "tables"
    assert len(pd.read_csv(tables / "leaderboard.csv")) == RUNS
    assert pd.read_csv(tables / "references.csv")["run"].tolist() == ["vgg16:block1+optimize"]
    assert (workplace / "pictures" / "contact-sheet.png").stat().st_size > 10_000
    for page in OTHERS:  # in the same folder: they are about the same study
        shown = marked(root / page)
        assert shown, page
        for line in shown:
            run(line, workplace)


def kill_three_times(lab: Lab) -> Results:
    """Begins the study ``smoke`` and kills its driver and workers, three times; returns what it leaves."""
    left = Results(MlflowClient(f"sqlite:///{lab.folder}/mlflow.db"), "inversion",
                   f"sqlite:///{lab.folder}/inversion-queue.db", "smoke")

    def done() -> int:
        return [trial.state for trial in left.trials].count(TrialState.COMPLETE)

    for kill in range(3):
        process = lab.start("smoke.yaml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            lab.until(lambda: done() >= 8 * (kill + 1), 300, process)  # noqa: B023
        finally:
            lab.kill_all(process)
    return left


def marked(page: Path) -> list[str]:
    """The commands of the blocks that a page marks as run."""
    blocks = re.findall(r"<!-- run -->\n```console\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return re.findall(r"^\$ (.*)$", "".join(blocks).replace("\\\n", ""), flags=re.MULTILINE)


def run(line: str, folder: Path) -> None:
    """Runs a command as a reader does; fails with its last words."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=900, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
