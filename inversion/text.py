"""Text of users (names of files, runs and studies, messages of other libraries) as it can be shown anywhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_REASON_LENGTH = 300

MINUS = "\u2212"
"""The minus sign of every number that is shown; files of data have the hyphen."""

_JOINERS = "\u200c\u200d"
"""Format characters that belong to the spelling of Persian, Indic scripts and emoji; they move nothing else."""

_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def visible(text: str) -> str:
    r"""The text on one line, with every character that is not seen itself as an escape, as Python writes it.

    Those are control characters (``\x1b``), line breaks (``\n``), marks that turn the direction of writing
    (``\u202e``), and, as ``\xff``, the bytes of file names that are not UTF-8. The result can be printed to a terminal,
    encoded as UTF-8 and stored in any database.
    """
    if text.isprintable():
        return text
    return "".join(_seen(character) for character in text)


def number(value: float, form: str = "") -> str:
    """A number as it is shown: formatted, with a minus sign (U+2212) in place of a hyphen at its beginning."""
    text = format(value, form)
    return MINUS + text[1:] if text.startswith("-") else text


def one_line(text: str) -> str:
    """A message with its lines joined by spaces."""
    return " ".join(filter(None, (line.strip() for line in text.split("\n"))))


def first_of(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are: ``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def reason(error: Exception) -> str:
    """An error of another library on one line, cut where it becomes a listing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]}…"


def _seen(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python carries a byte of a file name that is not UTF-8
        number -= 0xDC00
    if number < 0x100:
        return _NAMED.get(character, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
