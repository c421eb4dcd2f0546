"""How a Ray cluster is divided among workers, and what it has to reach."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from inversion.errors import RequestError
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.ray_cluster import divide, work_on
from inversion.tracking.address import require_reachable

GOOD = {"--storage": "postgresql://lab@db/queue", "--tracking-uri": "http://mlflow:5000"}
CLUSTER = "the Ray cluster"


@pytest.fixture(autouse=True)
def level_of_logging() -> Iterator[None]:
    """A task sets it for its process, which is that of the tests here."""
    logger = logging.getLogger("inversion")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.parametrize(("share", "taken", "room"), [
    (None, 1.0, [4, 1]), (0.5, 0.5, [8, 2]), (0.3, 0.3, [12, 3]), (1.0, 1.0, [4, 1]), (0.0, 0.0, [1, 1, 1]),
])
def test_a_worker_fits_into_one_gpu_and_never_into_the_rests_of_two(
    share: float | None, taken: float, room: list[int]
) -> None:
    nodes = [{"CPU": 32.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}]
    assert divide(nodes, share) == (taken, room)


def test_without_gpus_each_node_has_one_worker__a_head_without_cpus_none() -> None:
    assert divide([{"node:10.0.0.1": 1.0}, {"CPU": 16.0}, {"CPU": 2.0}], None) == (0.0, [1, 1])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_share_of_a_gpu_that_is_not_there_is_refused(share: float) -> None:
    with pytest.raises(RequestError, match=f"--gpus-per-run {share:g}: no node of the cluster has a GPU"):
        divide([{"CPU": 16.0}], share)


def test_a_cluster_without_cpus_is_refused() -> None:
    with pytest.raises(RequestError, match="no node of the Ray cluster has a CPU"):
        divide([{"CPU": 0.0}], None)


@pytest.mark.parametrize(("option", "url"), [
    ("--storage", "sqlite:////home/me/inversion-queue.db"),
    ("--storage", "postgresql://lab:secret@localhost/queue"),
    ("--tracking-uri", "sqlite:////home/me/mlflow.db"),
    ("--tracking-uri", "/home/me/mlruns"),
    ("--tracking-uri", "file:///home/me/mlruns"),
    ("--tracking-uri", "http://127.0.0.1:5000"),
    ("--tracking-uri", "http://[::1]:5000"),
])
def test_what_only_one_machine_reaches_is_refused_for_several(option: str, url: str) -> None:
    with pytest.raises(RequestError, match=f"{option} .* only reachable from this machine, and the Ray cluster has s"
                       ) as told:
        require_reachable(GOOD | {option: url}, 2, CLUSTER)
    assert "secret" not in str(told.value)
    require_reachable(GOOD | {option: url}, 1, CLUSTER)


@pytest.mark.parametrize("url", ["https://me@mlflow.example.org/team", "postgresql+psycopg://lab@db:5433/runs",
                                 "mysql+pymysql://lab@db/runs"])
def test_what_every_machine_may_reach_is_left_to_mlflow(url: str) -> None:
    require_reachable(GOOD | {"--tracking-uri": url}, 2, CLUSTER)


def test_a_worker_that_gives_up_says_why(workplace: Path) -> None:
    spec = WorkerSpec("tiny", f"sqlite:///{workplace}/queue.db", f"sqlite:///{workplace}/mlflow.db", "inversion")
    assert "has no study 'tiny'" in work_on(spec.to_text())
