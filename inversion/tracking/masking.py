"""Masking of passwords in everything that is printed, logged or recorded."""

from __future__ import annotations

import logging
import os
import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

MASK = "***"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
NAMED = (r"(?:[\w.%-]*(?:pass(?:word|wd|phrase)|pwd|secret|token(?!s)|credential|(?:access|api)[_-]?key|signature)"
         r"[\w.%-]*|pass|sig)")
SECRET_NAME = re.compile(NAMED, re.IGNORECASE)
ASSIGNED = re.compile(rf"(?<![\w.%-])({NAMED})=[^\s&;'\"]+", re.IGNORECASE)
"""A password in a query or a driver's connection string: ``sslpassword=…``, ``PWD=…``."""

VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
LEAST = 3
"""Shorter parts of a password are masked only next to a separator: elsewhere they are parts of words."""

LOGGERS = ("", "mlflow", "optuna", "alembic", "sqlalchemy")

_secrets: set[str] = set()


def remember(address: str) -> None:
    """Masks the password of an address from now on, in ``safe`` and in the logs of this process.

    Drivers take a password with ``@`` or ``/`` for parts of the address and print these: each part is masked, both
    encoded and decoded. What the address shows anyway is not masked, such as a user name equal to the password.
    """
    shown = set(re.split(r"[^\w.-]+", without_password(address)))
    for secret in _passwords_in(address):
        decoded = unquote(secret)
        parts = {secret, decoded, unquote_plus(secret), quote(decoded, safe=""), quote_plus(decoded)}
        parts |= {part for text in (secret, decoded) for part in re.split("[@:/?#]", text)}
        _secrets.update(part for part in parts if part and part not in shown)
    mask_logs()


def mask_logs() -> None:
    """Makes every log handler of this process mask passwords. Call it again after adding a handler."""
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_masked)


def safe(text: str) -> str:
    """The text with passwords masked: those of addresses in it, and those of all addresses given to ``remember``."""
    environment = {value.strip() for name in VARIABLES if len(value := os.environ.get(name, "")) >= LEAST}
    for secret in sorted(_secrets | environment, key=len, reverse=True):
        text = re.sub(_occurrence(secret), MASK, text)
    text = URL.sub(lambda found: without_password(found[0]), text)
    return ASSIGNED.sub(rf"\1={MASK}", text)


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, with passwords masked."""
    return safe((str(error).strip() or type(error).__name__).splitlines()[0])


def without_password(address: str) -> str:
    """The address with its password masked: ``postgresql://me:***@host/runs``."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _malformed_without_password(address)
    if scheme.lower().partition("+")[0] not in ("sqlite", "file"):
        userinfo, place = split_userinfo(rest)
        user, colon, _ = userinfo.partition(":")
        rest = f"{user}:{MASK}@{place}" if colon else rest
    hidden = re.sub(r"([?&;])([^=?&;#]+)=([^&;#]*)", _without_secret_value, rest)
    return f"{scheme}://{hidden}"


def is_path(address: str) -> bool:
    """Whether an address without ``://`` can only mean a file or folder, not a login without its scheme."""
    return address.startswith(("/", "./", "../", "~")) and not re.match("//[^/]*@", address)


def split_userinfo(rest: str) -> tuple[str, str]:
    """Splits at the ``@`` after user and password; the first part is empty if there is none.

    The last ``@`` counts, so that a password that contains one is masked as a whole.
    """
    before, mark, query = rest.partition("?")
    if mark and "@" in before and re.match("[^=/@]+=", query):
        userinfo, at, place = before.rpartition("@")
        return userinfo, f"{place}?{query}"
    userinfo, at, place = rest.rpartition("@")
    return (userinfo, place) if at else ("", rest)


class _MaskingFilter(logging.Filter):
    """Masks a record's message and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = safe(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = safe(logging.Formatter().formatException(record.exc_info))
        return True


_masked = _MaskingFilter()


def _passwords_in(address: str) -> list[str]:
    """The passwords of an address, as written in it."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        userinfo = "" if is_path(address) else address.rpartition("@")[0]
        return [secret for secret in re.split("[:/]+", userinfo)[1:] if secret]
    found = [split_userinfo(rest)[0].partition(":")[2]]
    for name, value in parse_qsl(rest.partition("?")[2]):
        if SECRET_NAME.fullmatch(name):
            found += [value, quote(value, safe=""), quote_plus(value)]
    return [secret for secret in found if secret] if scheme.partition("+")[0] not in ("sqlite", "file") else []


def _malformed_without_password(address: str) -> str:
    """A malformed address, such as ``postgresql:me:secret@host``, with everything masked that may be a password."""
    if is_path(address):
        return address
    address = ASSIGNED.sub(rf"\1={MASK}", address)
    userinfo, at, place = address.rpartition("@")
    first, colon, _ = userinfo.partition(":")
    if at and colon:
        return f"{first}:{MASK}@{place}"
    first, colon, rest = address.partition(":")
    return f"{first}:{MASK}" if ":" in rest and not first.startswith("[") else address


def _without_secret_value(found: re.Match[str]) -> str:
    mark, name, _ = found.groups()
    return f"{mark}{name}={MASK}" if SECRET_NAME.fullmatch(unquote(name)) else found[0]


def _occurrence(secret: str) -> str:
    """A pattern that finds a password as a whole word, so that ``me`` is not found in ``name``."""
    whole = rf"(?<![0-9A-Za-z]){re.escape(secret)}(?![0-9A-Za-z])"
    if len(secret) >= LEAST:
        return whole
    return rf"{whole}(?=[@:/'\"])|(?<=[@:/'\"]){whole}"
