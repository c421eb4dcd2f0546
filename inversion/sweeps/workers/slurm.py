"""Workers as jobs of Slurm, submitted through submitit: each joins the study, and is requeued until the study is done.

A job's worker is a process of its own: at a signal of Slurm the job stops it, which saves its runs, before it is
requeued. https://github.com/facebookincubator/submitit, docs/checkpointing.md
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from inversion.errors import InversionError, RequestError, UnknownNameError
from inversion.tracking.address import require_reachable
from inversion.tracking.masking import safe, without_password

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

Value = str | int | bool

SIGNAL_SECONDS = 180
"""How long before the time limit Slurm signals a job."""

SAVE_SECONDS = 120.0
"""How long a job then waits for its command, which gives its workers 60 s to save their runs."""

MOST_TIMEOUTS = 10_000
"""How often a job that reaches its time limit is requeued. A job of a study that is done ends at once."""

OURS = ("nodes", "ntasks_per_node", "num_gpus", "array_parallelism", "additional_parameters", "setup", "teardown",
        "srun_args", "use_srun", "stderr_to_stdout")
"""submitit's parameters that are not options here: one job is one task, and these are set by us or are not texts."""

FLAGS = ("exclusive",)
NUMBERS = ("cpus_per_task", "cpus_per_gpu", "gpus_per_node", "gpus_per_task", "signal_delay_s")
TIMES = "minutes, hours:minutes:seconds or days-hours, such as 240, 4:00:00 or 2-0"


def parse_options(texts: Sequence[str]) -> dict[str, Value]:
    """Options of sbatch from texts such as ``partition=gpu,gres=gpu:1,time=4:00:00``, under submitit's names.

    Only a comma before ``NAME=`` or a flag separates two options, because values may contain commas. ``time`` is
    returned in minutes.

    Raises:
        RequestError: submitit is not installed; an option is malformed, not known, or given twice; or ``time`` or
            ``cpus_per_task`` is missing, without which a job would have five minutes and one core.
    """
    known = sorted(set(_submitit().SlurmExecutor._valid_parameters()) - set(OURS))
    options: dict[str, Value] = {}
    for text in texts:
        for piece in re.split(rf",(?=\s*(?:[\w-]+=|(?:{'|'.join(FLAGS)})\s*(?:,|$)))", text):
            name, equals, value = piece.strip().removeprefix("--").partition("=")
            name = name.strip().replace("-", "_")
            if name not in known:
                raise UnknownNameError("--slurm: unknown option of sbatch", name, known)
            if name in options:
                raise RequestError(f"--slurm: {name} is given twice")
            if not value.strip() and not (name in FLAGS and not equals):
                raise RequestError(f"--slurm: {piece.strip()!r} has no value: write {name}=VALUE")
            options[name] = _read(name, value.strip()) if equals else True
    if "time" not in options:
        raise RequestError(f"--slurm: time is missing, the limit of a job: {TIMES}")
    if "cpus_per_task" not in options:
        raise RequestError("--slurm: cpus-per-task is missing, the cores of a job: its workers share them as threads")
    return {"signal_delay_s": SIGNAL_SECONDS, **options}


def _read(name: str, value: str) -> Value:
    """The value of an option.

    Raises:
        RequestError: it is no number or time where it has to be one.
    """
    if name == "time":
        return _minutes(value)
    if name not in NUMBERS:
        return value
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise RequestError(f"--slurm: {name}={value} is not a whole number above 0")
    return int(value)


def _minutes(value: str) -> int:
    """A time limit as sbatch writes it, in minutes.

    Raises:
        RequestError: it is malformed or 0.
    """
    days, dash, rest = value.rpartition("-")
    parts = rest.split(":")
    if not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts + [days] * bool(dash)) or len(parts) > 3:
        raise RequestError(f"--slurm: time={value} is not a time limit. Allowed: {TIMES}.")
    numbers = [int(part) for part in parts]
    if dash or len(parts) == 3:  # hours first; else minutes
        numbers += [0] * (3 - len(parts))
        seconds = int(days or 0) * 86_400 + numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    else:
        seconds = numbers[0] * 60 + sum(numbers[1:])
    if seconds == 0:
        raise RequestError(f"--slurm: time={value}: a job needs some time")
    return math.ceil(seconds / 60)


@dataclass
class Join:
    """The function of a job: works on a study with ``command``, and is requeued at the time limit or a preemption."""

    command: Sequence[str]

    def __call__(self) -> None:
        """Works until the study is done; exits with the code of the command."""
        self.process = self._start()
        signal.signal(signal.SIGTERM, lambda *_: self.process.terminate())  # the job is cancelled
        if code := self.process.wait():
            raise SystemExit(code)

    def checkpoint(self) -> DelayedSubmission:
        """Stops the workers, which save and release their runs; returns what the requeued job does."""
        self.process.terminate()
        with suppress(psutil.NoSuchProcess):  # inside a handler, where Popen's own wait holds its lock
            psutil.Process(self.process.pid).wait(SAVE_SECONDS)
        again: DelayedSubmission = _submitit().helpers.DelayedSubmission(Join(self.command))
        return again

    def _start(self) -> subprocess.Popen[bytes]:
        # Some clusters send the signal to all processes of a job. The command has to get ours alone, and inherits that
        # Slurm's is blocked.
        slurms = getattr(signal, f"SIG{_submitit().JobEnvironment.USR_SIG}")
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
        signal.pthread_sigmask(signal.SIG_BLOCK, [slurms])
        try:
            return subprocess.Popen(self.command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [slurms])


class Slurm:
    """The Slurm cluster of this machine.

    Args:
        options: those of each job (``parse_options``).
        jobs: how many.
        stores: addresses of the queue and the tracking store by their option.

    Raises:
        RequestError: there is no sbatch here, or it refuses the options; or the nodes could not reach a store, or only
            with a password that would be visible in the jobs' commands.
    """

    def __init__(self, options: Mapping[str, Value], jobs: int, stores: Mapping[str, str]) -> None:
        self.options = options
        self.jobs = jobs
        for option, url in stores.items():
            if (shown := without_password(url)) != url:
                raise RequestError(f"{option} {shown}: the jobs' commands would show its password. Leave it out, and "
                                   "use ~/.pgpass, or MLflow's variables for user and password.")
        if missing := [name for name in ("sbatch", "srun") if shutil.which(name) is None]:
            raise RequestError(f"--slurm: {' and '.join(missing)} not found on this machine. Run the command on a "
                               "login node of the cluster.")
        require_reachable(stores, self._count_machines(), "the Slurm cluster")
        self._require_accepted()

    def threads(self, workers: int | None) -> int:
        """The cores of each of a job's workers; by default it has one for each GPU."""
        return max(1, int(self.options["cpus_per_task"]) // (workers or self._gpus()))

    def submit(self, arguments: Sequence[str], study: str, folder: Path) -> list[str]:
        """Submits the jobs as one array; each runs ``inversion-sweep`` with the arguments. Returns their ids.

        Args:
            arguments: of the command.
            study: its name.
            folder: for logs; the nodes have to see it under the same path.

        Raises:
            InversionError: sbatch failed, or the folder cannot be written.
        """
        submitit = _submitit()
        job = Join([sys.executable, "-m", "inversion.sweeps", *arguments])
        try:
            executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_TIMEOUTS)
            executor.update_parameters(**{"job_name": study, "array_parallelism": self.jobs, **self.options,
                                          "additional_parameters": {"requeue": True}})
            with executor.batch():
                submitted = [executor.submit(job) for _ in range(self.jobs)]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
            raise InversionError(f"the runs are queued, and no job could be submitted: {_cause(str(error))}") from error
        return [str(one.job_id) for one in submitted]

    def _count_machines(self) -> int:
        """This machine and the nodes of the partition; two if sinfo does not tell."""
        partition = [f"--partition={self.options['partition']}"] if "partition" in self.options else []
        nodes = {name.partition(".")[0] for name in _answer(["sinfo", "--noheader", "--Node", "--format=%N",
                                                             *partition]).split()}
        return len(nodes | {socket.gethostname().partition(".")[0]}) if nodes else 2

    def _gpus(self) -> int:
        counted = self.options.get("gpus_per_task") or self.options.get("gpus_per_node")
        found = re.search(r"gpu(?::[^:,]+)*?:(\d+)", str(self.options.get("gres", "")))
        return int(counted or (found[1] if found else 1))

    def _require_accepted(self) -> None:
        flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
                 for name, value in self.options.items() if name != "signal_delay_s"]
        asked = subprocess.run(["sbatch", "--test-only", *flags, "--wrap", "true"], capture_output=True, text=True)
        if asked.returncode:
            raise RequestError(f"--slurm: sbatch refuses this: {_cause(asked.stderr)}")


def _cause(text: str) -> str:
    """The last line of a program's messages, which has the reason."""
    lines = [line for line in text.splitlines() if line.strip()]
    return safe(lines[-1].removeprefix("sbatch: error: ").strip()) if lines else "it says no reason"


def _answer(command: Sequence[str]) -> str:
    """What a command prints; nothing if it fails or does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _submitit() -> Any:
    """The package, which is imported only where it is needed.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import submitit
        import submitit.helpers
    except ImportError as error:
        raise RequestError("--slurm needs submitit: pip install 'inversion[slurm]'") from error
    return submitit
