"""With pytest-xdist, the files that take longest begin first, so that its workers end together.

xdist itself begins with the files of most tests. Those whose few tests train then come last, and one worker is left
with them. ``--no-loadscope-reorder`` leaves the files as they are.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

COSTS = {"work_here": 3.0, "start": 3.0, "train": 2.0, "reconstruct": 1.0, "sweep": 0.5, "make_trainer": 0.5,
         "make_study": 0.5, "workplace": 0.1}
"""Seconds that a test with a fixture takes, roughly; only the order of the files follows from them."""

LEAST = 0.05
ASKED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "loadscopereorder", False):
        config.option.loadscopereorder = False
        config.stash[ASKED] = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput") or not config.stash.get(ASKED, False):
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    for item in items:
        seconds[str(item.path)] += LEAST + sum(COSTS.get(name, 0) for name in getattr(item, "fixturenames", ()))
    first = {path: -number for number, path in enumerate(seconds)}
    items.sort(key=lambda item: (seconds[str(item.path)], first[str(item.path)]), reverse=True)
