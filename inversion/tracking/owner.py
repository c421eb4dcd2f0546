"""Which process works on a run, so that a run whose process is gone can be told from one that goes on."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import psutil

import inversion

HOST, PID, STARTED = "inversion.host", "inversion.pid", "inversion.process_started"
BOOT, NAMESPACE = "inversion.boot", "inversion.pid_namespace"
COMMIT = "inversion.commit"
VERSIONED = ("inversion", "torch", "torchvision", "timm", "lpips", "mlflow")
CLOCK_SECONDS = 30
"""Start times are counted from the boot, whose time of day moves when the clock is set."""


def place_tags() -> dict[str, str]:
    """What a process number holds for: the host, and on Linux its boot and the processes that are seen together.

    Names of hosts are not unique, and every container counts its processes from 1.
    """
    place = {HOST: platform.node()}
    with suppress(OSError):
        place[BOOT] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        place[NAMESPACE] = os.readlink("/proc/self/ns/pid")
    return place


def owner_tags() -> dict[str, str]:
    """Host, process, versions and commit of whoever calls."""
    process = psutil.Process()
    versions = {f"inversion.version.{package}": version(package) for package in VERSIONED}
    return {**place_tags(), PID: str(process.pid), STARTED: f"{process.create_time():.2f}", **versions,
            **({COMMIT: commit} if (commit := _commit()) else {})}


@functools.cache
def _commit() -> str:
    """The commit that this code is checked out from, ``-dirty`` if it was changed since; empty if it is installed."""
    root = Path(inversion.__file__).parents[1]
    if not (root / ".git").exists():  # site-packages may lie inside somebody else's repository
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git here, or a checkout that it does not trust
        return ""


def same_owner(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the tags of two runs name the same process."""
    times = [float(tags.get(STARTED, 0)) for tags in (one, other)]
    return (all(one.get(key) == other.get(key) for key in (HOST, BOOT, NAMESPACE, PID))
            and abs(times[0] - times[1]) < CLOCK_SECONDS)


def owner_is_alive(tags: Mapping[str, str], local: bool = False) -> bool | None:
    """Whether the process that the tags name still runs; None where this machine cannot know.

    ``local``: the tags are in a file of this machine, so that no other one of its name has written them.
    """
    place = place_tags()
    if tags.get(HOST) != place[HOST] or not tags.get(PID, "").isdigit():
        return None
    if local and tags.get(BOOT, place.get(BOOT)) != place.get(BOOT):
        return False  # it was started anew since then
    if any(tags.get(key, value) != value for key, value in place.items()):  # early runs have the host alone
        return None
    try:
        process = psutil.Process(int(tags[PID]))
        same = abs(process.create_time() - float(tags.get(STARTED, "nan"))) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE  # where nobody waits for it, it is one for ever
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's process has that number now, or it is ours under another user
        return None
