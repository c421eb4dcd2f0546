"""Notifications as JSON: posted to a URL, or given to a command on its standard input."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from inversion.errors import RequestError

URL_SECONDS, COMMAND_SECONDS = 10, 30
"""How long a server or a command may take: the sender waits."""

ALLOWED = "Allowed: a URL that begins with http:// or https://, or a command, such as './tell-me.sh --loud'"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where notifications go: to a URL, or else to a command."""

    url: str = ""
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it is shown: the path of a webhook is a password."""
        return f"{urlsplit(self.url).scheme}://{urlsplit(self.url).hostname}" if self.url else self.command[0]


def parse_target(text: str) -> Target:
    """Reads the address of a webhook or a command with its arguments.

    Raises:
        RequestError: it is neither, or there is no such command.
    """
    if "://" in text.partition(" ")[0]:
        try:
            place = urlsplit(text.strip())
            usable = place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise RequestError(f"--notify: this is not an address to post to. {ALLOWED}.")
        return Target(url=text.strip())
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RequestError(f"--notify: {text!r} cannot be split into words ({error}). {ALLOWED}.") from error
    if not words or shutil.which(words[0]) is None:
        raise RequestError(f"--notify: there is no command {words[0] if words else ''!r} that can be run. {ALLOWED}.")
    return Target(command=tuple(words))


def send(target: Target, message: Mapping[str, Any]) -> None:
    """Sends a message; a failure is a warning in the log."""
    text = json.dumps(message)
    failure = _post(target.url, text) if target.url else _run(target.command, text)
    if failure:
        _logger.warning("--notify %s: the notification %r was not delivered: %s", target, message.get("state"), failure)


def _post(url: str, text: str) -> str:
    """Posts JSON; returns why it failed, without the address, which the errors of requests contain."""
    import requests

    try:
        answer = requests.post(url, data=text.encode(), headers={"Content-Type": "application/json"},
                               timeout=URL_SECONDS)
    except requests.Timeout:
        return f"no answer within {URL_SECONDS} s"
    except (requests.RequestException, ValueError) as error:
        return f"no connection ({type(error).__name__})"
    return "" if answer.ok else f"status {answer.status_code}"


def _run(command: tuple[str, ...], text: str) -> str:
    """Runs a command; returns why it failed."""
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, errors="replace",
                              timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it did not end within {COMMAND_SECONDS} s"
    except OSError as error:
        return str(error.strerror)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return f"exit code {done.returncode}{f': {last}' if last else ''}" if done.returncode else ""
