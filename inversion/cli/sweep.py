"""The command ``inversion-sweep``: its options; ``sweeps.actions`` has what it does."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from inversion.cli.app import run_command, set_up_logging
from inversion.cli.imports import slow_imports
from inversion.cli.options import (
    STORE_VARIABLE,
    Duration,
    FiniteRange,
    label_options,
    no_blank,
    tracking_options,
    trust_code_option,
)
from inversion.cli.sweep_runs import act, is_about_runs, require_alone, run_options
from inversion.config.run_config import MOST
from inversion.console import Console, make_console
from inversion.notify import Target, parse_target
from inversion.sweeps.spec.spec import Spec, check_study, load_spec, require_inputs
from inversion.tracking.address import read_queue
from inversion.tracking.registration import RegisteredName, parse_registered_name

STORE_FILE = "mlflow.db"
"""The tracking store of a folder, unless another one is given."""

NOT_IN_JOBS = ("ray", "status", "time_limit", "max_runs", "notify", "register")
"""Options that do not go with --slurm."""

MAX_WORKERS = 1024
"""For one command, and on one GPU."""


class IntOrAuto(click.IntRange):
    """A whole number, or ``auto`` for the default: MLproject has to pass a value for every option."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


class GPUShare(FiniteRange):
    """A share of a GPU from 0 to 1; at most ``MAX_WORKERS`` workers fit on one."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = super().convert(value, param, ctx)
        if 0 < share < 1 / MAX_WORKERS:
            self.fail(f"{value} would put more than {MAX_WORKERS} workers on a GPU.", param, ctx)
        return share


def unless_auto(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The text; None for ``auto`` and the empty text."""
    return None if value in ("auto", "") else value


def queue_address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The address in its canonical form, if one was given."""
    given = unless_auto(ctx, param, value)
    return read_queue(given) if given else None


def registered_name(ctx: click.Context, param: click.Parameter, value: str | None) -> RegisteredName | None:
    """The name and the alias under which the winner is registered, if they were given."""
    return None if value is None else parse_registered_name(value)


def slurm_options(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
    """The options of Slurm's jobs, if they were given."""
    if not value:
        return {}
    from inversion.sweeps.workers.slurm import parse_options

    return dict(parse_options(value))


def notify_target(ctx: click.Context, param: click.Parameter, value: str | None) -> Target | None:
    """Where notifications go, if that was given."""
    return None if value is None else parse_target(value)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("spec", required=False, callback=no_blank)
@click.option("--workers", type=IntOrAuto(0, MAX_WORKERS), metavar="N", help="Worker processes on this machine; 0 "
              "only queues the runs [default: one per GPU, or one]")
@click.option("--join", is_flag=True, help="Work on the study without adding to it: for more terminals and machines.")
@click.option("--status", is_flag=True, help="Show the state of the study's runs, and start nothing.")
@click.option("--dry-run", is_flag=True, help="Show the runs that the spec asks for, and start nothing.")
@click.option("--retry-failed", is_flag=True, help="Retry failed runs, from their last checkpoint.")
@click.option("--set", "sets", metavar="NAME=VALUE", multiple=True,
              help="Set a parameter of every run; NAME=[A, B] makes it one more axis.")
@click.option("--where", "wheres", metavar="NAME=VALUE", multiple=True,
              help="Only the runs with this value; repeat a NAME to allow several values.")
@run_options
@click.option("--study", metavar="NAME", callback=unless_auto, help="Name of the study [default: as in the spec]; "
              "also instead of SPEC for requests about a study that is queued already.")
@click.option("--seeds-for", type=click.Choice(["undecided"]), help="With --study: queue the seeds that are expected "
              "to decide what its report leaves undecided, and work on them.")
@click.option("--seed-sd", type=FiniteRange(min=0, max=MOST, min_open=True), metavar="DB",
              help="For --seeds-for: the standard deviation of the mean PSNR between trainings, where it is known "
              "[default: measured in the study]")
@click.option("--storage", metavar="URL", callback=queue_address, help="The queue's database: a file on this machine, "
              "or postgresql://USER@HOST/DATABASE for several [default: inversion-queue.db beside the tracking store]")
@click.option("--ray", metavar="ADDRESS", callback=no_blank,
              help="Work as tasks of this Ray cluster (auto: the one on this machine).")
@click.option("--gpus-per-run", type=GPUShare(), metavar="SHARE",
              help="Share of a GPU for each Ray worker, 0 to 1 [default: 1 where the cluster has GPUs]")
@click.option("--slurm", metavar="OPTIONS", multiple=True, callback=slurm_options,
              help="Submit jobs to Slurm that work on the study, with these options of sbatch, such as "
              "partition=gpu,gres=gpu:1,cpus-per-task=8,time=4:00:00; then exit.")
@click.option("--jobs", type=click.IntRange(1, MAX_WORKERS), metavar="N", help="How many jobs [default: 1]")
@click.option("--side-by-side", type=IntOrAuto(1, 16), metavar="N",
              help="Let each worker train up to N runs together that share encoder, images and seed: same "
              "numbers, less time [default: 4 for a single worker on a CPU, else 1]")
@click.option("--time-limit", type=Duration(), metavar="TIME", help="Stop after this time, such as 30m, 8h or 8:00:00: "
              "running runs are saved, and the same command resumes the study.")
@click.option("--max-runs", type=click.IntRange(1, MOST), metavar="N", help="Stop when N runs have ended; the others "
              "stay in the queue.")
@click.option("--register", metavar="NAME@ALIAS", callback=registered_name, help="When all runs are done, register the "
              "model of the best one by validation in MLflow's model registry, as NAME@champion.")
@trust_code_option
@click.option("--system-metrics", is_flag=True, help="Log MLflow's system metrics of the runs: CPU, memory, disk, "
              "network, GPU.")
@click.option("--notify", metavar="URL|COMMAND", callback=notify_target, help="Tell when the study is done, failed, "
              "interrupted or stuck: as JSON, posted to a URL or on the standard input of a command.")
@label_options
@tracking_options
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def cli(spec: str | None, sets: tuple[str, ...], wheres: tuple[str, ...], study: str | None, dry_run: bool,
        verbose: bool, **options: Any) -> int:
    """Queue the runs of SPEC and work on them until all are done, also after crashes.

    SPEC is a file, or one that comes with this package: grid.yaml (the 44 configurations of the published study),
    published.yaml (its own decoders in its own protocol), target.yaml (its winner with both targets), tuned.yaml (the
    44, each at its own learning rate), smoke.yaml (the 44, small, without any download), floors.yaml (five layers
    between floors and ceilings), resolution.yaml and rate.yaml (pooled, projected and quantised features), modern.yaml
    (encoders of recent years), search.yaml (an Optuna search).

    The same command again resumes the study and adds the new runs of SPEC; in a second terminal, it works on the study
    too.

    \b
    Examples:
      inversion-sweep smoke.yaml
      inversion-sweep grid.yaml --dry-run
      inversion-sweep grid.yaml --where decoder=wavelet --set seed=[0,1,2]
      inversion-sweep --status --study ablation
      inversion-sweep --study ablation --seeds-for undecided
      inversion-sweep --join --study ablation --register decoder@champion
      inversion-sweep --study ablation --remove '*attention*' --dry-run
      inversion-sweep --study ablation --logs 17 --follow
      inversion-sweep grid.yaml --slurm partition=gpu,gres=gpu:1,cpus-per-task=8,time=4:00:00 --jobs 8
      inversion-sweep --join --study ablation --storage postgresql://lab@db/queue --tracking-uri http://mlflow:5000
    """
    set_up_logging(verbose)
    require_one_request(spec, sets, wheres, study, dry_run, options)
    with slow_imports():  # options of samplers need Optuna, and timm/ encoders need timm
        loaded = load_spec(spec, sets, wheres, study, options["tags"] | options["comment"]) if spec else None
    if loaded and dry_run and not is_about_runs(options):
        from inversion.sweeps.spec.dry_run import show

        console = make_console()
        show(loaded, console)
        _preview(loaded, options, console)
        return 0
    if loaded and not (options["status"] or options["join"] or is_about_runs(options)):
        require_inputs(loaded)
    name = loaded.study if loaded else check_study(str(study))
    if is_about_runs(options):
        return act(name, options | {"dry_run": dry_run})
    with slow_imports():
        from inversion.sweeps import actions

    if options["status"]:
        return actions.status(name, options)
    return actions.sweep(name, None if options["join"] else loaded, options | {"dry_run": dry_run})


def _preview(spec: Spec, options: dict[str, Any], console: Console) -> None:
    """Prints notes on what the real run would refuse here, and on the runs that an existing study has beside these."""
    from inversion.sweeps.spec.refusals import refusals

    for line in refusals(spec):
        console.note(f"the real run would refuse: {line}")
    if options["tracking_uri"] or options["storage"] or os.environ.get(STORE_VARIABLE) or os.path.exists(STORE_FILE):
        with slow_imports():
            from inversion.sweeps import changes

        for line in changes.preview(spec, options):
            console.note(line)


def require_one_request(spec: str | None, sets: tuple[str, ...], wheres: tuple[str, ...], study: str | None,
                        dry_run: bool, options: dict[str, Any]) -> None:
    """Raises a click.UsageError if the options do not go together."""
    if spec is None and not (study and (options["join"] or options["status"] or options["seeds_for"]
                                        or is_about_runs(options))):
        raise click.UsageError("give a SPEC, such as smoke.yaml, or --study NAME with --join, --status, --seeds-for, "
                               "--logs, --stop, --resume, --rerun or --remove")
    require_alone(options, bool(sets or wheres))
    if options["seeds_for"] and (spec or options["join"] or options["status"]):
        raise click.UsageError("--seeds-for queues runs of an existing study: give it with --study NAME alone")
    if options["seed_sd"] is not None and not options["seeds_for"]:
        raise click.UsageError("--seed-sd is for --seeds-for")
    if sum((options["join"], options["status"], dry_run)) > 1:
        raise click.UsageError("--join, --status and --dry-run are three different requests: give one")
    if (sets or wheres) and (options["join"] or options["status"]):
        raise click.UsageError("--set and --where change what is queued; --join and --status queue nothing")
    if options["status"] and options["retry_failed"]:
        raise click.UsageError("--status starts nothing: leave out --retry-failed")
    if (options["tags"] or options["comment"]) and (spec is None or options["join"] or options["status"]):
        raise click.UsageError("--tag and --comment are set when a SPEC is queued: give them with it, and without "
                               "--join and --status")
    for name in ("time_limit", "max_runs", "notify", "system_metrics"):
        if options[name] and (options["status"] or dry_run or options["workers"] == 0):
            raise click.UsageError(f"--{name.replace('_', '-')} is for workers: it does not go with --status, "
                                   "--dry-run and --workers 0")
    if options["register"] and (options["status"] or dry_run or options["workers"] == 0 or options["seeds_for"]):
        raise click.UsageError("--register is for a study that is worked on until all runs are done: it does not go "
                               "with --status, --dry-run, --seeds-for and --workers 0")
    if options["workers"] == 0 and options["slurm"]:
        raise click.UsageError("--slurm with --workers 0: jobs without workers would do nothing")
    if options["workers"] == 0 and options["join"]:
        raise click.UsageError("--join with --workers 0 does nothing")
    if options["jobs"] is not None and not options["slurm"]:
        raise click.UsageError("--jobs is for --slurm OPTIONS")
    for name in NOT_IN_JOBS if options["slurm"] else ():
        if options[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} does not go with --slurm, which submits jobs and exits")
    if options["gpus_per_run"] is not None and options["ray"] is None:
        raise click.UsageError("--gpus-per-run is for --ray ADDRESS; worker processes get a GPU each, or share "
                               "those in CUDA_VISIBLE_DEVICES")


def main() -> None:
    """Runs the command and exits: 0 all done, 1 something failed, 2 the request was wrong, 130 interrupted."""
    sys.exit(run_command(cli))
