"""Which process works on a run, so that a run whose process is gone can be told from one that goes on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

import psutil

HOST, PID, STARTED = "inversion.host", "inversion.pid", "inversion.process_started"
VERSIONED = ("inversion", "torch", "torchvision", "timm", "lpips", "mlflow")
CLOCK_SECONDS = 30
"""Start times are counted from the boot, whose time of day moves when the clock is set."""


def owner_tags() -> dict[str, str]:
    """Host, process and versions of whoever calls."""
    process = psutil.Process()
    versions = {f"inversion.version.{package}": version(package) for package in VERSIONED}
    return {HOST: platform.node(), PID: str(process.pid), STARTED: f"{process.create_time():.2f}", **versions}


def owner_is_alive(tags: Mapping[str, str]) -> bool | None:
    """Whether the process that the tags name still runs; None where this machine cannot know."""
    if tags.get(HOST) != platform.node() or not tags.get(PID, "").isdigit():
        return None
    try:
        process = psutil.Process(int(tags[PID]))
        same = abs(process.create_time() - float(tags.get(STARTED, "nan"))) < CLOCK_SECONDS
        return same and process.is_running()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's process has that number now, or it is ours under another user
        return None
