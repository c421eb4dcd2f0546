"""Commands to copy that continue with a study, with as few options as possible in this folder."""

from __future__ import annotations

import shlex

from inversion.tracking.address import absolute
from inversion.tracking.connection import find_store
from inversion.tracking.masking import without_password

HIDDEN = "***"
"""What stands for a password; the queue of such an address is not recorded with it, and has to be given again."""


def join_command(study: str, tracking_uri: str, queue: str) -> str:
    """The command that starts workers for a study; options that are the default here are left out.

    The address of the queue is known from the study's run in the tracking store, except for a password in it.
    """
    words = ["inversion-sweep", "--join", "--study", study]
    if HIDDEN in without_password(queue):
        words += ["--storage", without_password(queue)]
    if absolute(tracking_uri) != absolute(find_store(None)):
        words += ["--tracking-uri", without_password(tracking_uri)]
    return shlex.join(words)
