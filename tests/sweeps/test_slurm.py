"""Workers as jobs of Slurm: options, submission, requeueing. Stand-ins for its programs note what they are asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import submitit

from inversion.errors import InversionError, RequestError
from inversion.sweeps.workers.slurm import Join, Slurm, parse_options
from tests.sweeps.lab import SHORT

JOB = "time=4:00:00,cpus-per-task=8"
SERVERS = {"--storage": "postgresql://lab@db/queue", "--tracking-uri": "http://mlflow:5000"}
PROGRAMS = {
    "sbatch": """if [ "$1" = --test-only ]; then
                   case "$*" in *nowhere*) echo "sbatch: error: allocation: Invalid partition" >&2; exit 1;; esac
                 else
                   cp "$1" submitted.sh; echo "Submitted batch job 4711"
                 fi""",
    "srun": "true",
    "sinfo": 'printf "%s\\n" $NODES',
}
WORKER = """
import signal, sys
from pathlib import Path
log = Path(sys.argv[1])
def note(word):
    with log.open("a") as file:
        file.write(word + "\\n")
def stop(*_):
    note("saved")
    sys.exit(130)
again = log.exists()
signal.signal(signal.SIGTERM, stop)
note("done" if again else f"began {__import__('os').getpid()}")
while not again:
    signal.pause()
"""
RUN_TASKS = """#!/bin/bash
if [ "$1" != --test-only ]; then
  for task in 0 1; do
    export SLURM_JOB_ID=4711 SLURM_ARRAY_JOB_ID=4711 SLURM_ARRAY_TASK_ID=$task
    setsid bash "$1" > "task$task" 2>&1 < /dev/null &
  done
  echo "Submitted batch job 4711"
fi
"""
ONE = "grid:\n  - decoder: [wavelet]"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a cluster of three nodes; ``asked`` in it has the calls of Slurm's programs."""
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> "{tmp_path}/asked"\n{text}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NODES", "n1 n2 n2 n3")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wait_for_line(log: Path) -> None:
    """Waits until the log has a whole line."""
    end = time.monotonic() + 60
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(("texts", "options"), [
    ([JOB], {"time": 240, "cpus_per_task": 8}),
    (["cpus-per-task=8", "--time=30"], {"time": 30, "cpus_per_task": 8}),
    ([f"{JOB},gres=gpu:1,shard:2,nodelist=a[1,3],b2,qos=long"],
     {"time": 240, "cpus_per_task": 8, "gres": "gpu:1,shard:2", "nodelist": "a[1,3],b2", "qos": "long"}),
    ([f"exclusive,{JOB}"], {"exclusive": True, "time": 240, "cpus_per_task": 8}),
    ([f"{JOB},exclusive,comment=a=b"], {"exclusive": True, "comment": "a=b", "time": 240, "cpus_per_task": 8}),
    ([f"{JOB},exclusive=user,signal-delay-s=300"],
     {"exclusive": "user", "signal_delay_s": 300, "time": 240, "cpus_per_task": 8}),
])
def test_a_comma_separates_options_only_before_a_name(texts: list[str], options: dict[str, Any]) -> None:
    assert parse_options(texts) == {"signal_delay_s": 180} | options


@pytest.mark.parametrize(("limit", "minutes"), [
    ("90", 90), ("90:30", 91), ("4:00:00", 240), ("0:00:30", 1), ("2-0", 2880), ("1-2:30", 1590), ("1-02:30:01", 1591),
])
def test_a_time_limit_is_read_as_sbatch_reads_it(limit: str, minutes: int) -> None:
    assert parse_options([f"cpus-per-task=8,time={limit}"])["time"] == minutes


@pytest.mark.parametrize(("text", "message"), [
    ("partition=gpu,cpus-per-task=8", "time is missing"),
    ("time=60", "cpus-per-task is missing"),
    (f"{JOB},partiton=gpu", "unknown option of sbatch 'partiton'.*Did you mean 'partition'"),
    (f"{JOB},nodes=2", "unknown option of sbatch 'nodes'"),
    (f"{JOB},time=3", "time is given twice"),
    (f"{JOB},qos=", "'qos=' has no value"),
    ("qos,time=60", "'qos' has no value"),
    ("cpus-per-task=8,time=4h", "time=4h is not a time limit"),
    ("cpus-per-task=8,time=-1", "time=-1 is not a time limit"),
    ("cpus-per-task=8,time=1:2:3:4", "is not a time limit"),
    ("cpus-per-task=8,time=0", "a job needs some time"),
    ("time=60,cpus-per-task=0", "cpus_per_task=0 is not a whole number above 0"),
    ("time=60,cpus-per-task=many", "cpus_per_task=many is not a whole number"),
    ("", "unknown option of sbatch ''"),
])
def test_what_is_wrong_in_the_options_is_named(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_options([text])


@pytest.mark.parametrize(("more", "workers", "threads"), [
    ("", None, 8), ("", 2, 4), (",gres=gpu:2", None, 4), (",gres=gpu:a100:4,shard:9", None, 2), (",gres=gpu", None, 8),
    (",gpus-per-task=2", None, 4), ("", 16, 1),
])
def test_the_workers_of_a_job_share_its_cores(more: str, workers: int | None, threads: int, cluster: Path) -> None:
    assert Slurm(parse_options([JOB + more]), 1, SERVERS).threads(workers) == threads


def test_jobs_are_submitted_as_one_array(cluster: Path) -> None:
    slurm = Slurm(parse_options([f"{JOB},gres=gpu:1,partition=a100"]), 3, SERVERS)
    jobs = slurm.submit(["--join", "--study", "my study"], "my study", cluster / "logs")
    assert jobs == ["4711_0", "4711_1", "4711_2"]
    script = (cluster / "submitted.sh").read_text()
    for line in ("--array=0-2%3", "--cpus-per-task=8", "--gres=gpu:1", "--partition=a100", "--requeue", "--time=240",
                 "--signal=USR2@180", "--job-name='my study'", "--open-mode=append"):
        assert f"#SBATCH {line}\n" in script
    submission = submitit.core.utils.DelayedSubmission.load(cluster / "logs" / "4711_2_submitted.pkl")
    assert submission.function == Join([sys.executable, "-m", "inversion.sweeps", "--join", "--study", "my study"])
    asked = (cluster / "asked").read_text().splitlines()
    assert "sinfo --noheader --Node --format=%N --partition=a100" in asked
    assert any(line.startswith("sbatch --test-only ") and "--gres=gpu:1" in line for line in asked)


@pytest.mark.parametrize(("stores", "nodes", "message"), [
    ({"--storage": "sqlite:////home/me/queue.db"}, "n1 n2", "only reachable from this machine, and the Slurm cluster"),
    ({"--storage": "sqlite:////home/me/queue.db"}, "", "only reachable from this machine, and the Slurm cluster"),
    ({"--storage": "postgresql://lab:secret@db/queue"}, "n1", "would show its password"),
    ({"--tracking-uri": "http://me:secret@mlflow:5000"}, "n1", "would show its password"),
])
def test_stores_that_the_nodes_cannot_use_are_refused(
        stores: dict[str, str], nodes: str, message: str, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODES", nodes)
    with pytest.raises(RequestError, match=message) as told:
        Slurm(parse_options([JOB]), 1, SERVERS | stores)
    assert "secret" not in str(told.value)


def test_files_will_do_on_a_cluster_of_this_machine_alone(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODES", os.uname().nodename)
    Slurm(parse_options([JOB]), 1, SERVERS | {"--storage": "sqlite:////home/me/queue.db"})


def test_what_sbatch_refuses_is_told_before_anything_is_queued(cluster: Path) -> None:
    with pytest.raises(RequestError, match="sbatch refuses this: allocation: Invalid partition"):
        Slurm(parse_options([f"{JOB},partition=nowhere"]), 1, SERVERS)


def test_a_machine_without_slurm_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="sbatch and srun not found on this machine"):
        Slurm(parse_options([JOB]), 1, SERVERS)


def test_a_submission_that_fails_leaves_the_runs_queued(cluster: Path) -> None:
    slurm = Slurm(parse_options([JOB]), 2, SERVERS)
    (cluster / "bin" / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: Job submit limit' >&2; exit 1\n")
    with pytest.raises(InversionError, match=r"runs are queued, and no job could be submitted: .*Job submit limit"):
        slurm.submit(["--join", "--study", "tiny"], "tiny", cluster / "logs")


def test_a_preempted_job_saves_and_goes_on_when_it_is_requeued(tmp_path: Path) -> None:
    """In submitit's own local executor. Slurm's signal alone, which some clusters send to all, stops no worker."""
    log = tmp_path / "log"
    executor = submitit.LocalExecutor(folder=tmp_path / "logs")
    executor.update_parameters(timeout_min=5)
    job = executor.submit(Join([sys.executable, "-c", WORKER, str(log)]))
    wait_for_line(log)
    os.kill(int(log.read_text().split()[1]), signal.SIGUSR2)
    task, = psutil.Process(int(job.job_id)).children()
    task.send_signal(signal.SIGUSR2)
    job.result()
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["began", "saved", "done"]


def test_a_cancelled_job_saves_and_is_not_requeued(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", WORKER, str(log)]
    code = f"from inversion.sweeps.workers.slurm import Join; Join({command!r})()"
    job = subprocess.Popen([sys.executable, "-c", code])
    wait_for_line(log)
    job.terminate()
    assert job.wait(60) == 130
    assert log.read_text().splitlines()[1:] == ["saved"]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_job_ends_with_the_code_of_its_command(code: int) -> None:
    job = subprocess.run([sys.executable, "-c", "import sys; from inversion.sweeps.workers.slurm import Join; "
                          f"Join([sys.executable, '-c', 'raise SystemExit({code})'])()"])
    assert job.returncode == code


def test_a_sweep_queues_its_runs_and_submits_jobs_that_join_it(
        lab: Any, sweep: Callable[..., Any], cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("NODES", os.uname().nodename)
    spec = lab.spec(ONE, threads=None)
    outcome = sweep(spec, "--slurm", "time=60,cpus-per-task=3", "--jobs", 2, "--side-by-side", 2)
    assert outcome.code == 0, outcome.err
    assert "submitted 2 jobs to Slurm: 4711_0, 4711_1; logs in " in outcome.out
    pickled = lab.folder / "slurm" / "tiny" / "4711_0_submitted.pkl"
    job = submitit.core.utils.DelayedSubmission.load(pickled).function
    assert isinstance(job, Join)
    assert job.command == [sys.executable, "-m", "inversion.sweeps", "--join", "--study", "tiny", "--storage",
                     lab.results().storage, "--tracking-uri", f"sqlite:///{lab.folder}/mlflow.db", "--side-by-side",
                     "2"]
    trial, = lab.results().trials
    assert trial.user_attrs["config"]["threads"] == 3
    assert lab.results().parent.info.status == "SCHEDULED"


@pytest.mark.parametrize(("words", "message"), [
    (("--slurm", JOB, "--status"), "--status does not go with --slurm"),
    (("--slurm", JOB, "--max-runs", 2), "--max-runs does not go with --slurm"),
    (("--slurm", JOB, "--ray", "auto"), "--ray does not go with --slurm"),
    (("--slurm", JOB, "--workers", 0), "jobs without workers"),
    (("--jobs", 2), "--jobs is for --slurm"),
    (("--slurm", "time=60"), "cpus-per-task is missing"),
])
def test_requests_that_do_not_go_together_are_refused(words: tuple[object, ...], message: str,
                                                      sweep: Callable[..., Any]) -> None:
    outcome = sweep("smoke.yaml", *words)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.acceptance
def test_jobs_do_the_study(lab: Any, sweep: Callable[..., Any], cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sbatch`` and ``srun`` that run the tasks of the array as processes of this machine."""
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("NODES", os.uname().nodename)
    (cluster / "bin" / "sbatch").write_text(RUN_TASKS)
    (cluster / "bin" / "srun").write_text('#!/bin/bash\nwhile [ "$1" != "$PYTHON" ]; do shift; done; exec "$@"\n')
    monkeypatch.setenv("PYTHON", sys.executable)
    outcome = sweep(lab.spec(SHORT), "--slurm", "time=60,cpus-per-task=1", "--jobs", 2)
    assert outcome.code == 0, outcome.err
    results = lab.results()
    lab.until(lambda: results.parent.info.status == "FINISHED", 300)
    assert [run.info.status for run in results.runs] == ["FINISHED"] * 2
