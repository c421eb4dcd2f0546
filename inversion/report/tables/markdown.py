"""Texts in Markdown (GitHub's) that are shown as they are, whatever characters they have."""

from __future__ import annotations

import re

from inversion.text import visible

_MARKUP = re.compile(r"[\\`*|]"  # escapes, code, emphasis, cells of tables
                     r"|(?<!\w)_|_(?!\w)"  # emphasis; within a word it is none
                     r"|<(?=[A-Za-z/!?])"  # HTML
                     r"|(?<=\])[(\[:]"  # links
                     r"|~(?=~)|^[#>]")


def literal(text: str) -> str:
    """One line of text that is no markup: neither HTML, nor code, emphasis or a link, nor the end of a table's cell."""
    text = re.sub(_MARKUP, r"\\\g<0>", visible(text))
    return re.sub(r"&(?=#?\w+;)", "&amp;", text)


def code(text: str) -> str:
    """One line of code."""
    fence = "`" * (_longest_run(text) + 1)
    blank = " " if len(fence) > 1 else ""
    return f"{fence}{blank}{visible(text)}{blank}{fence}"


def code_block(text: str, language: str) -> str:
    """Several lines of code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return "\n".join([f"{fence}{language}", *map(visible, text.rstrip().split("\n")), fence])


def _longest_run(text: str) -> int:
    """The most backticks in a row."""
    return max(map(len, re.findall("`+", text)), default=0)
