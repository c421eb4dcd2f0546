"""Names of photographs as parts of file names: safe, short, and two of them never one; and the lock of a folder."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest

from inversion.files import LOCK_NAME, LONGEST, alone_in, safe_file_name, safe_name, unique


@pytest.mark.parametrize("safe", [safe_name, safe_file_name])
@pytest.mark.parametrize("name", ["x" * 250, "é" * 125, "日" * 83, "a/b" * 80, " " * 250, "." * 250, "caf\udce9" * 40])
def test_every_name_is_short_and_of_safe_characters(safe: object, name: str) -> None:
    made = safe(name)  # type: ignore[operator]
    assert 1 <= len(made) <= LONGEST
    assert made.isascii()
    assert not set(made) & set("/\\:*?\"<>|\n\0")


def test_a_long_name_keeps_its_beginning_and_stays_itself() -> None:
    one, other = safe_name("v" * 249 + "1"), safe_name("v" * 249 + "2")
    assert one != other
    assert one.startswith("v" * 80)
    assert safe_name("v" * 249 + "1") == one


def test_a_name_of_the_greatest_length_is_left_as_it_is() -> None:
    assert safe_name("v" * LONGEST) == "v" * LONGEST


@pytest.mark.parametrize(("name", "safe"), [
    ("con", "con-"), ("AUX.1", "AUX-.1"), ("com1", "com1-"), ("console", "console"), ("..", "picture"),
    (".hidden", "hidden"), ("vgg16:block1", "vgg16-block1")])
def test_file_names_are_none_that_a_system_takes_for_something_else(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


def test_names_that_differ_in_capitals_only_are_told_apart() -> None:
    assert unique(["Cat.png", "cat.png", "cat-2.png", "dog"]) == ["Cat.png", "cat-2.png", "cat-2-2.png", "dog"]


def test_waiting_for_another_process_is_told_and_can_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inversion.files.WAIT_SECONDS", 0.01)
    calls = 0

    def give_up() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with filelock.FileLock(tmp_path / LOCK_NAME), pytest.raises(KeyboardInterrupt), alone_in(tmp_path, give_up):
        pytest.fail("it did not wait")
    with alone_in(tmp_path, give_up):  # free again
        assert calls == 3
