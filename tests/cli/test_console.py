"""What is printed is what was given: no markup, no emoji codes, no terminal commands."""

from __future__ import annotations

import ast
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import inversion
from inversion.console import (
    Console,
    LogFormatter,
    in_lines,
    make_table,
    progress_bars,
    set_up_streams,
    styled,
)

ROOT = Path(inversion.__file__).parent.parent
MODULE = ROOT / "inversion" / "console.py"

NAMES = {"photos [raw]": "photos [raw]", "a[/b].png": "a[/b].png", "[bold]x": "[bold]x", "[link=x]": "[link=x]",
         ":smile:.png": ":smile:.png", "\x1b]0;x\x07.png": r"\x1b]0;x\x07.png", "\x1b[31m.png": r"\x1b[31m.png",
         "a\rb\nc": r"a\rb\nc", "\u202egnp.exe": r"\u202egnp.exe", os.fsdecode(b"\xff.png"): r"\xff.png"}
"""Names, and how they are shown."""

each_name = pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=map(ascii, NAMES))


def printed(*objects: object, **options: object) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(*objects, **options)
    return file.getvalue()


@each_name
def test_a_line_a_style_a_table_and_a_title_show_a_name_literally(name: str, shown: str) -> None:
    assert printed(name) == f"{shown}\n"
    assert printed(styled(name, "bold"), ": ", name, sep="", soft_wrap=True) == f"{shown}: {shown}\n"
    assert printed(in_lines([name, name])) == f"{shown}\n{shown}\n"
    table = make_table(name, title=name)
    table.add_row(name)
    text = printed(table)
    assert text.count(shown) == 3
    assert "\x1b" not in text


@each_name
def test_a_note_is_literal(name: str, shown: str) -> None:
    file = io.StringIO()
    Console(file=file).note(name)
    assert file.getvalue() == f"note: {shown}\n"


@each_name
def test_a_progress_bar_is_literal(
    name: str, shown: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bars() as report:
        report(name, 1, 2)
    assert shown in capfd.readouterr().err


@each_name
def test_a_log_record_is_literal(name: str, shown: str) -> None:
    record = logging.LogRecord("inversion", logging.WARNING, "", 0, "%s is left out", (name,), None)
    assert LogFormatter("%(levelname)s %(message)s").format(record) == f"WARNING {shown} is left out"


def test_a_logged_error_is_literal_and_keeps_its_lines() -> None:
    try:
        raise ValueError("\x1b[31m")
    except ValueError as error:
        record = logging.LogRecord("", logging.ERROR, "", 0, "failed", (), (ValueError, error, error.__traceback__))
    lines = LogFormatter("%(message)s").format(record).splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("failed", "Traceback (most recent call last):", r"ValueError: \x1b[31m")


def test_text_that_the_encoding_lacks_is_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(content, encoding="ascii"))
    set_up_streams()
    Console().print("1 ± 2")
    assert content.getvalue() == b"1 \\xb1 2\n"


def test_a_cell_is_folded_and_not_cut() -> None:
    table = make_table("", show_header=False)
    table.add_row("x" * 150)
    assert printed(table).count("x") == 150


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is needed")
@pytest.mark.parametrize("words", [["list", "vgg16"], ["--help"], ["train", "--help"], ["--version"], []])
def test_an_output_without_room_is_told_in_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, "-m", "inversion", *words], stdout=full,
                               stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "error: the output cannot be written: No space left on device\n")


OURS = sorted(path for path in (ROOT / "inversion").rglob("*.py") if path != MODULE)


def test_the_source_is_found() -> None:
    assert ROOT / "inversion" / "sweeps" / "workers" / "live.py" in OURS
    assert offences("from rich.console import Console\nConsole()\n")
    assert offences("import rich.console\n")
    assert offences("from rich.text import Text\n")
    assert offences("from rich.table import Table\n")
    assert offences("print('x')\n")
    assert not offences("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rich.text import Text\n")


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_makes_consoles_texts_and_tables(path: Path) -> None:
    assert offences(path.read_text("utf-8")) == []


ELSEWHERE = {"rich.box", "rich.live.Live", "rich.console.Group", "rich.progress.BarColumn", "rich.progress.Progress",
             "rich.progress.TimeElapsedColumn", "rich.progress.TimeRemainingColumn"}
"""What other modules may take from rich: nothing that a text is given to."""


def offences(source: str) -> list[str]:
    """What a module takes from rich at run time beside that, and where it prints past the console."""
    tree = ast.parse(source)
    for node in ast.walk(tree):  # types alone
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    taken = [name for name in found if name.partition(".")[0] == "rich" and name not in ELSEWHERE]
    return taken + [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)
                    and ast.unparse(node.func) in {"print", "click.echo", "click.secho", "sys.stdout.write"}
                    and ast.unparse(node) != "click.echo(error.format_message())"]  # a command's help
