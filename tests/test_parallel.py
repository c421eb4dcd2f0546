"""How many cores a process may use: by its affinity and by the quotas of its cgroups."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import pytest

from inversion import parallel
from inversion.parallel import cgroup_quotas, in_order, usable_cores

V2 = "cgroup2 cgroup2 rw,nsdelegate"
V1 = "cgroup cgroup rw,cpu,cpuacct"
Process = Callable[..., Path]


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """``process(line, kind, root, quotas)``: what /proc says of a process whose cgroup is that of the line.

    ``quotas`` are those of cgroups, by their paths below the ``root`` that is mounted.
    """
    def make(group: str, kind: str, root: str, quotas: dict[str, str]) -> Path:
        mounted = tmp_path / "mounted"
        for name, quota in quotas.items():
            folder = mounted / name
            folder.mkdir(parents=True, exist_ok=True)
            if kind == V2:
                (folder / "cpu.max").write_text(f"{quota}\n")
            else:
                for file, number in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), quota.split(), strict=True):
                    (folder / file).write_text(f"{number}\n")
        (tmp_path / "cgroup").write_text(f"7:memory:/elsewhere\n{group}\n")
        (tmp_path / "mountinfo").write_bytes(
            b"20 1 8:1 / /mnt/caf\xe9 rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            b"31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            + f"32 23 0:29 {root} {mounted} rw,nosuid shared:9 master:2 - {kind}\n".encode())
        return tmp_path

    return make


@pytest.mark.parametrize(("group", "kind", "root", "quotas", "expected"), [
    ("0::/", V2, "/", {"": "200000 100000"}, [2.0]),
    ("0::/", V2, "/", {"": "max 100000"}, []),
    ("0::/", V2, "/", {}, []),
    ("0::/system.slice/train.service", V2, "/", {"system.slice/train.service": "150000 100000"}, [1.5]),
    ("0::/pod/box", V2, "/", {"pod": "50000 100000", "pod/box": "max 100000"}, [0.5]),
    ("0::/pod/box", V2, "/", {"pod": "300000 100000", "pod/box": "100000 100000"}, [1.0, 3.0]),
    ("0::/pod/other", V2, "/", {"pod/box": "100000 100000"}, []),
    ("0::/../job", V2, "/", {"": "200000 100000"}, [2.0]),
    ("4:cpu,cpuacct:/docker/4f", V1, "/docker/4f", {"": "250000 100000"}, [2.5]),
    ("4:cpu,cpuacct:/docker/4f", V1, "/", {"docker/4f": "250000 100000", "docker": "-1 100000"}, [2.5]),
    ("4:cpuacct,cpu:/", V1, "/", {"": "-1 100000"}, []),
    ("4:cpuacct:/", V1, "/", {"": "100000 100000"}, []),
], ids=["container", "no limit", "no controller", "service", "pod above", "innermost first", "another's",
        "outside of the namespace", "v1 container", "v1 host", "v1 no limit", "v1 other controller"])
def test_quotas_are_those_of_the_process_and_of_what_it_lies_in(
        group: str, kind: str, root: str, quotas: dict[str, str], expected: list[float], process: Process) -> None:
    assert list(cgroup_quotas(process(group, kind, root, quotas))) == expected


def test_where_the_system_has_no_cgroups_there_are_no_quotas(tmp_path: Path) -> None:
    assert list(cgroup_quotas(tmp_path / "proc")) == []


@pytest.mark.parametrize(("quotas", "count"), [([], 64), ([2.0], 2), ([1.5], 2), ([0.25], 1), ([8.0, 3.0], 3),
                                               ([640.0], 64)])
def test_usable_cores_are_the_affinity_limited_by_the_quotas_rounded_up(
        quotas: list[float], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(parallel, "cgroup_quotas", lambda: iter(quotas))
    assert usable_cores() == count


@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset (util-linux)")
def test_a_process_that_is_bound_to_one_core_has_one() -> None:
    core = min(os.sched_getaffinity(0))
    printed = subprocess.run(["taskset", "-c", str(core), sys.executable, "-c",
                              "from inversion.parallel import usable_cores; print(usable_cores())"],
                             capture_output=True, text=True, check=True)
    assert printed.stdout == "1\n"


def test_files_are_read_by_as_many_threads_as_there_are_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    count = (os.cpu_count() or 1) + 1
    together = Barrier(count)
    monkeypatch.setattr("inversion.parallel.usable_cores", lambda: count)
    assert sorted(in_order(lambda _: together.wait(timeout=60), range(count))) == list(range(count))
