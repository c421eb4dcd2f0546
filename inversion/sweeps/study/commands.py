"""Commands to copy that continue with a study, with as few options as are needed in this shell."""

from __future__ import annotations

import shlex

from inversion.tracking.address import absolute
from inversion.tracking.masking import without_password

HIDDEN = "***"
"""What stands for a password; the queue of such an address is not recorded with it, and has to be given again."""


def join_command(study: str, tracking_uri: str | None, queue: str) -> str:
    """The command that starts workers for a study in this folder and environment.

    Args:
        study: its name.
        tracking_uri: the tracking store, if it was given as an option; else the next command finds it too.
        queue: the address of its queue. It is known from the study's run in the store, except for a password in it.
    """
    words = ["inversion-sweep", "--join", "--study", study]
    if HIDDEN in without_password(queue):
        words += ["--storage", without_password(queue)]
    if tracking_uri:
        words += ["--tracking-uri", without_password(absolute(tracking_uri))]
    return shlex.join(words)
