"""Sweeps on a real Ray cluster of several nodes on this machine: the same results, whatever node or driver dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]



class RayCluster:
    """A head without CPUs, and two nodes with one CPU each. A node is a raylet, the parent of its workers."""

    def __init__(self) -> None:
        cluster_utils = pytest.importorskip("ray.cluster_utils")
        self.cluster: Any = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.add(num_cpus=1)
        self.add(num_cpus=1)

    @property
    def address(self) -> str:
        """``HOST:PORT`` of the head."""
        return str(self.cluster.address)

    def add(self, **resources: float) -> Any:
        """One more node."""
        return self.cluster.add_node(**resources)

    def node_of(self, pid: int) -> Any:
        """The node that a worker's process belongs to."""
        parents = {parent.pid for parent in psutil.Process(pid).parents()}
        node, = (node for node in self.cluster.worker_nodes if raylet(node) in parents)
        return node

    def kill(self, node: Any) -> None:
        """Kills a node and with it what runs there."""
        self.cluster.remove_node(node, allow_graceful=False)


def raylet(node: Any) -> int:
    """The process of a node."""
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[..., None]
) -> Iterator[RayCluster]:
    """A Ray cluster with the environment of a workplace."""
    handler = signal.getsignal(signal.SIGTERM)  # every node that is made here takes it
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(tmp_path_factory.mktemp("cluster"), patch)
        made = RayCluster()
        yield made
        made.cluster.shutdown()
    signal.signal(signal.SIGTERM, handler)


def owner(trial: FrozenTrial) -> int:
    """The process that is at a run, or was."""
    return int(trial.user_attrs["owner"]["inversion.pid"])


def running(lab: Any, retried: bool = False) -> list[int]:
    """The processes that are at a run and have reported an epoch of it; ``retried``: of one that was begun before."""
    trials = [trial for trial in lab.results().trials if not retried or "retry_history" in trial.system_attrs]
    return [owner(trial) for trial in trials
            if trial.state == TrialState.RUNNING and trial.intermediate_values and "owner" in trial.user_attrs]


def wait_for_two(lab: Any, process: subprocess.Popen[Any]) -> list[int]:
    """The processes of two workers, as soon as both are in the middle of a run."""
    lab.until(lambda: len(running(lab)) == 2, 90, process)
    return running(lab)


def test_two_nodes_come_to_the_same_as_one_local_process(
    lab: Any, cluster: RayCluster, undisturbed: Any, long_spec: Path
) -> None:
    process = lab.start(long_spec, "--ray", cluster.address)
    first, second = (cluster.node_of(pid) for pid in wait_for_two(lab, process))
    assert first is not second
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    left = lab.results()
    assert [trial.state for trial in left.trials] == [TrialState.COMPLETE] * 4
    assert len({owner(trial) for trial in left.trials}) == 2
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    lab.require_equal(left, undisturbed)


def test_one_node_after_the_other_is_killed_and_the_run_at_hand_goes_on_each_time(
    lab: Any, cluster: RayCluster, undisturbed: Any, long_spec: Path
) -> None:
    process = lab.start(long_spec, "--ray", cluster.address)
    first, second = wait_for_two(lab, process)
    cluster.kill(cluster.node_of(first))
    lab.until(lambda: second in running(lab, retried=True), 90, process)
    cluster.kill(cluster.node_of(second))
    cluster.add(num_cpus=1)
    cluster.add(num_cpus=1)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    left = lab.results()
    assert [owner(trial) for trial in left.trials if trial.state == TrialState.FAIL] == [first, second]
    done = [trial for trial in left.trials if trial.state == TrialState.COMPLETE]
    assert len(done) == len(left.by_digest) == len(left.runs) == 4
    assert {owner(trial) for trial in done} - {first, second}
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    lab.require_equal(left, undisturbed)


def test_a_signal_to_the_driver_makes_the_workers_give_their_runs_back(
    lab: Any, cluster: RayCluster, undisturbed: Any, long_spec: Path
) -> None:
    for number, words in ((signal.SIGTERM, [long_spec]), (signal.SIGINT, ["--join", "--study", "tiny"])):
        process = lab.start(*words, "--ray", cluster.address)
        workers = wait_for_two(lab, process)
        began = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert time.monotonic() - began < 20
        assert "the same command resumes the study" in err
        left = lab.results()
        assert {trial.state.name for trial in left.trials} <= {"WAITING", "FAIL", "COMPLETE"}
        given_back = [trial for trial in left.trials if "released" in trial.user_attrs and owner(trial) in workers]
        assert given_back
        assert all("SIGINT received" in trial.user_attrs["released"] for trial in given_back)
        assert left.parent.info.status == "KILLED"
        stopped = [run for run in left.runs if run.info.status != "FINISHED"]
        assert {run.info.status for run in stopped} == {"KILLED"}
        assert all(left.client.download_artifacts(run.info.run_id, "checkpoints/last.pt") for run in stopped)
    outcome = lab.finish(long_spec)
    assert outcome.code == 0, outcome.err
    assert [trial.state for trial in lab.results().trials].count(TrialState.COMPLETE) == 4
    lab.require_equal(lab.results(), undisturbed)


def test_a_share_of_a_gpu_that_no_node_has_is_refused_before_anything_is_queued(
    lab: Any, cluster: RayCluster, long_spec: Path
) -> None:
    outcome = lab.finish(long_spec, "--ray", cluster.address, "--gpus-per-run", "0.5")
    assert outcome.code == 2
    assert outcome.err == "error: --gpus-per-run 0.5: no node of the cluster has a GPU\n"
    assert lab.results().everything == []


def test_half_a_gpu_for_each_run_makes_two_workers_on_a_node_with_one(
    lab: Any, cluster: RayCluster, long_spec: Path
) -> None:
    node = cluster.add(num_cpus=2, num_gpus=1)
    process = lab.start(long_spec, "--ray", cluster.address, "--gpus-per-run", "0.5")
    workers = wait_for_two(lab, process)
    assert [cluster.node_of(pid) for pid in workers] == [node, node]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    cluster.cluster.remove_node(node)


def test_an_address_where_nothing_answers_is_told_at_once_in_one_line(lab: Any, long_spec: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    outcome = lab.finish(long_spec, "--ray", f"127.0.0.1:{port}", seconds=30)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: --ray 127.0.0.1:{port}: nothing answers there")
    assert outcome.err.count("\n") == 1
    assert lab.results().everything == []


def test_something_that_is_no_cluster_is_asked_once(
    lab: Any, long_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_py_gcs_connect_timeout_s", "5")  # a question takes 30 s else
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        outcome = lab.finish(long_spec, "--ray", f"127.0.0.1:{port}", seconds=60)
    assert outcome.code == 2
    assert f"error: --ray 127.0.0.1:{port}: no Ray cluster could be reached" in outcome.err
    assert lab.results().everything == []
