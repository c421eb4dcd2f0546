"""Tags and a comment that users give to a study or a run. They are no parameters, and no part of a digest.

A comment is the tag ``COMMENT``, so that both are one mapping of MLflow's tags.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from inversion.errors import RequestError
from inversion.text import visible

COMMENT = "inversion.comment"
RESERVED = ("mlflow.", "inversion.")
"""Prefixes of tags that MLflow and inversion set themselves."""

MAX_KEY, MAX_VALUE = 250, 5000
"""Characters of a tag that all versions of MLflow store."""


def parse_tag(text: str) -> tuple[str, str]:
    """A tag written as ``KEY=VALUE``.

    Raises:
        RequestError: it is not of this form, or MLflow does not allow it, or its prefix is reserved.
    """
    key, separator, value = (part.strip() for part in text.partition("="))
    if not separator:
        raise RequestError(f"{text!r} is not of the form KEY=VALUE (as in campaign=spring)")
    return check_tag(key, value)


def check_tag(key: str, value: str) -> tuple[str, str]:
    """Returns a tag that MLflow allows.

    Raises:
        RequestError: it does not, or the prefix is reserved.
    """
    if not re.fullmatch(r"\w[\w.:/ -]*", key) or posixpath.normpath(key) != key or len(key) > MAX_KEY:
        raise RequestError(f"{key!r} is not a key of a tag: it begins with a letter, digit or _, and has only these "
                           f"and . - : / and blanks (at most {MAX_KEY})")
    if prefix := next((prefix for prefix in RESERVED if key.lower().startswith(prefix)), ""):
        raise RequestError(f"the tag {key!r} is reserved: tags that begin with {prefix} are set by "
                           f"{prefix.removesuffix('.')} itself")
    return key, _check_text(f"the tag {key}", value)


def check_comment(text: str) -> dict[str, str]:
    """A comment as a tag.

    Raises:
        RequestError: it is empty, too long, or has characters that a database does not store.
    """
    return {COMMENT: _check_text("the comment", text.strip())}


def labels_of(tags: Mapping[str, str] | None, comment: str | None) -> dict[str, str]:
    """Tags and a comment as one mapping.

    Raises:
        RequestError: one of them is not allowed.
    """
    return dict(check_tag(key, str(value)) for key, value in (tags or {}).items()) | (
        {} if comment is None else check_comment(comment))


def given_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of a run's tags that users have given, here or in MLflow's UI."""
    return {key: value for key, value in sorted(tags.items()) if not key.lower().startswith(RESERVED)}


def _check_text(what: str, text: str) -> str:
    if not text:
        raise RequestError(f"{what} has no value")
    if len(text) > MAX_VALUE:
        raise RequestError(f"{what} has {len(text):,} characters; at most {MAX_VALUE:,} are allowed")
    if any(visible(line) != line for line in re.split(r"[\n\t]", text)):
        raise RequestError(f"{what} has characters that cannot be shown: {visible(text)[:100]}")
    return text
