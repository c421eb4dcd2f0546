"""Texts of users as they can be shown."""

from __future__ import annotations

import os

import pytest

from inversion.text import first_of, one_line, visible


@pytest.mark.parametrize("text", [
    "", "photo 1.png", r"C:\photos\x1b", "[bold]x", ":smile:", "日本語　写真.png", "naïve – café.png",
    "3.00\u202fPM.png", "می\u200cخواهم", "👩\u200d👩\u200d👧.png", "❤️"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[31m", r"\x1b[31m"), ("\x1b]0;x\x07", r"\x1b]0;x\x07"), ("a\rb", r"a\rb"), ("a\nb\tc", r"a\nb\tc"),
    ("\0", r"\x00"), ("\x7f\x9b31m", r"\x7f\x9b31m"), ("\u202egnp.exe", r"\u202egnp.exe"), ("\u200b", r"\u200b"),
    ("\u2066a\u2069", r"\u2066a\u2069"), ("\u2028", r"\u2028"), ("\ufeff", r"\ufeff"), ("\ud800", r"\ud800"),
    (os.fsdecode(b"\xff.png"), r"\xff.png"), ("\U000e0041", r"\U000e0041"), ("\xad", r"\xad"),
], ids=ascii)
def test_what_would_move_or_hide_something_is_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_are_joined_and_blanks_within_them_stay() -> None:
    assert one_line("one  thing\n  and another\n\n") == "one  thing and another"


def test_a_long_list_of_names_is_cut_and_says_how_many_more_there_are() -> None:
    assert [first_of(list("abcdefg")[:count], 4) for count in (0, 1, 4, 5, 7)] == [
        "", "a", "a, b, c, d", "a, b, c, d and 1 more", "a, b, c, d and 3 more"]
