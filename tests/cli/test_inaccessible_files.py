"""Files in folders that may not be entered, names that are too long, links in a circle: a line that says just that."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inversion.errors import RequestError
from inversion.files import ABSENT, is_there, why_not_there

DENIED, LONG, CIRCLE = "Permission denied", "File name too long", "Too many levels of symbolic links"
TOO_LONG = "x" * 300
OWN = "--tracking-uri sqlite:///mlflow.db"
SPEC = "{study: s, base: {data: sample, weights: random, lpips_weights: off}, grid: [{encoder: vgg16}]}"
REFUSED = [
    ("inversion doctor --tracking-uri sqlite:///locked/mlflow.db", DENIED),
    (f"inversion doctor --tracking-uri sqlite:///{TOO_LONG}.db", LONG),
    ("inversion doctor --tracking-uri sqlite:///circle/mlflow.db", CIRCLE),
    (f"inversion evaluate 4fbe --tracking-uri {TOO_LONG}", LONG),
    (f"inversion train --data sample --tracking-uri sqlite:///{TOO_LONG}.db", "cannot be opened"),
    ("inversion train --weights locked/vgg16.pth", f"weights 'locked/vgg16.pth': {DENIED}"),
    ("inversion train --weights locked", f"weights locked cannot be read: {DENIED}"),
    ("inversion train --weights circle", f"weights 'circle': {CIRCLE}"),
    ("inversion train --weights nowhere", "weights 'nowhere': a link to nowhere"),
    (f"inversion train --weights {TOO_LONG}", LONG),
    ("inversion train --lpips-weights locked/alexnet.pth", f"lpips_weights: 'locked/alexnet.pth': {DENIED}"),
    ("inversion train --lpips-weights locked", "lpips_weights: 'locked': not a regular file"),
    ("inversion train --vgg-weights locked/vgg16.pth", f"vgg_weights: 'locked/vgg16.pth': {DENIED}. Allowed: auto"),
    ("inversion train --data locked/photos", f"locked/photos: {DENIED}"),
    ("inversion train --data circle", f"circle: {CIRCLE}"),
    (f"inversion train {OWN} --data-dir locked/data", DENIED),
    ("inversion data div2k --data-dir locked/data", DENIED),
    ("inversion data locked", DENIED),
    ("inversion reconstruct 4fbe locked/a.png --output out", DENIED),
    ("inversion-sweep locked/spec.yaml", DENIED),
    (f"inversion-sweep spec.yaml {OWN} --storage locked/queue.db", DENIED),
    (f"inversion-sweep spec.yaml {OWN} --storage {TOO_LONG}", LONG),
    (f"inversion-sweep --study s --status {OWN} --storage locked/queue.db", DENIED),
    ("inversion-report s --output locked/report", DENIED),
]
PROGRAM = """
import contextlib, io, json, sys
from inversion.cli.app import cli, run_command
from inversion.cli.report import cli as report
from inversion.cli.sweep import cli as sweep
programs = {"inversion": cli, "inversion-sweep": sweep, "inversion-report": report}
told = {}
for line in json.load(sys.stdin):
    words = line.split(" ")
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = run_command(programs[words[0]], words[1:])
        except Exception as bug:
            code = repr(bug)
    told[line] = (code, error.getvalue())
json.dump(told, sys.stdout)
"""
CAPABILITIES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root enters every folder."""


def without_roots_rights() -> None:
    """Takes from the program to be started what lets root ignore permissions; others have no such rights."""
    for number in CAPABILITIES:
        ctypes.CDLL(None).prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exit code and errors of each request."""
    folder = tmp_path_factory.mktemp("inaccessible")
    locked = folder / "locked"
    locked.mkdir()
    (folder / "circle").symlink_to("circle")
    (folder / "nowhere").symlink_to("gone")
    (folder / "spec.yaml").write_text(SPEC)
    locked.chmod(0)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "INVERSION_"))}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    try:
        ended = subprocess.run([sys.executable, "-c", PROGRAM], input=json.dumps([line for line, _ in REFUSED]),
                               text=True, capture_output=True, cwd=folder, env=environment, check=False,
                               preexec_fn=without_roots_rights)
    finally:
        locked.chmod(0o700)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(("line", "why"), REFUSED)
def test_what_cannot_be_accessed_is_told_with_the_systems_reason(line: str, why: str, told: Any) -> None:
    code, said = told[line]
    errors = [each for each in said.splitlines() if each.startswith("error: ")]
    assert code == 2, said
    assert len(errors) == 1, said
    assert why in errors[0]
    assert "Traceback" not in said


def test_a_path_where_nothing_is_differs_from_one_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", ""):
        assert is_there(tmp_path / name)
        assert why_not_there(tmp_path / name) == ""
    for name in ("gone", "file/below"):
        assert not is_there(tmp_path / name)
        assert why_not_there(tmp_path / name) == ABSENT
    with pytest.raises(RequestError, match=f"{TOO_LONG} cannot be accessed: {LONG}"):
        is_there(tmp_path / TOO_LONG)
    assert why_not_there(tmp_path / TOO_LONG) == LONG
    assert why_not_there(Path("a\0b")) == ABSENT
