"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inversion.training.memory import keep_freed_memory

PROGRAM = """
import resource, torch
from inversion.training.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12_000_000)  # 48 MB, more than any threshold of glibc's
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def settled_faults():
    for _ in range(6):  # until blocks have found their places
        faults()
    return faults()
print(settled_faults())
keep_freed_memory()
print(settled_faults())
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="a C library other than glibc")
def test_a_large_block_is_faulted_in_once_and_not_each_time() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    fresh, kept = map(int, done.stdout.split())
    assert fresh > 100  # with huge pages there are fewer than with small ones
    assert kept < fresh / 10
