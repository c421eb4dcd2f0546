"""The tutorial, word for word, and what other pages show of the same study."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.acceptance


OTHERS = ("README.md", "docs/getting-started.md", "docs/sweeps.md", "docs/report.md", "docs/optimize.md")
"""Pages whose commands are cheap once the tutorial's study is there."""


def test_its_commands_lead_from_a_study_to_its_conclusions(root: Path, workplace: Path) -> None:
    lines = marked(root / "docs" / "tutorial.md")
    assert len(lines) >= 8
    for line in lines:
        run(line, workplace)
    tables = workplace / "report" / "tables"
    assert len(pd.read_csv(tables / "leaderboard.csv")) == 44
    assert pd.read_csv(tables / "references.csv")["run"].tolist() == ["vgg16:block1+optimize"]
    assert (workplace / "pictures" / "contact-sheet.png").stat().st_size > 10_000
    for page in OTHERS:  # in the same folder: they are about the same study
        shown = marked(root / page)
        assert shown, page
        for line in shown:
            run(line, workplace)


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
