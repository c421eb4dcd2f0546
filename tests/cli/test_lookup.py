"""A run or study that is not there is told before PyTorch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = """
import sys
module, *words = sys.argv[1:]
from importlib import import_module
code = import_module("inversion.cli.app").run_command(import_module(module).cli, words)
print(code, [name for name in ("torch", "timm") if name in sys.modules])
"""


@pytest.mark.parametrize("words", [
    "inversion.cli.app evaluate nosuch",
    "inversion.cli.app evaluate --study nosuch --data sample",
    "inversion.cli.app reconstruct nosuch photo.png --output out",
    "inversion.cli.report nosuch --output out",
])
def test_a_name_that_is_not_there_is_told_without_pytorch(words: str, workplace: Path) -> None:
    Image.new("RGB", (64, 64)).save(workplace / "photo.png")
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words.split()], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "2 []"
    assert "'nosuch'" in done.stderr
    assert done.stderr.count("\n") == 1
