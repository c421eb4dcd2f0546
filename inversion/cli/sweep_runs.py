"""The requests of ``inversion-sweep`` about single runs of a study: their logs, and changes of the queue."""

from __future__ import annotations

from typing import Any, TypeVar

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import no_blank

CHANGES = ("remove", "stop", "resume", "rerun")
"""Options that change runs in the queue, each a request of its own."""

STARTING = ("join", "status", "seeds_for", "retry_failed", "register", "time_limit", "max_runs", "tags", "comment",
            "notify", "system_metrics")
"""Options that do not go with them."""

F = TypeVar("F", bound=Any)


def run_options(command: F) -> F:
    """Adds the options of requests about single runs."""
    for option in reversed((
            click.option("--remove", metavar="RUN", multiple=True, callback=no_blank, help="Remove waiting runs from "
                         "the study's queue: a number that --status shows, a name, the beginning of an id, or a "
                         "pattern such as '*attention*'. Running and finished runs stay."),
            click.option("--stop", metavar="RUN", multiple=True, callback=no_blank, help="Stop runs, on whatever "
                         "machine: they are saved, and no worker takes them until --resume or --rerun."),
            click.option("--resume", metavar="RUN", multiple=True, callback=no_blank, help="Queue stopped or failed "
                         "runs again, from their last checkpoints."),
            click.option("--rerun", metavar="RUN", multiple=True, callback=no_blank, help="Queue finished, failed or "
                         "stopped runs again, from the beginning. Their former runs in MLflow are kept, and not "
                         "ranked."),
            click.option("--logs", metavar="RUN", callback=no_blank, help="Print the end of the log of this run's "
                         "worker, on whatever machine."),
            click.option("--follow", is_flag=True, help="With --logs: print what is added while the run is running."))):
        command = option(command)
    return command


def is_about_runs(options: dict[str, Any]) -> bool:
    """Whether a request is about single runs of a study."""
    return any(options[name] for name in (*CHANGES, "logs"))


def require_alone(options: dict[str, Any], changes_spec: bool) -> None:
    """Raises a click.UsageError if a request about single runs has options of another one."""
    given = [name for name in (*CHANGES, "logs") if options[name]]
    if options["follow"] and not options["logs"]:
        raise click.UsageError("--follow is for --logs")
    if len(given) > 1:
        raise click.UsageError(f"--{given[0]} and --{given[1]} are two requests: give one")
    others = [name for name in STARTING if options[name]]
    if given and (others or changes_spec):
        left_out = f"--{others[0].replace('_', '-')}" if others else "--set and --where"
        raise click.UsageError(f"--{given[0]} is a request of its own: leave out {left_out}")


def act(study: str, options: dict[str, Any]) -> int:
    """Does the request that was given; returns the exit code."""
    with slow_imports():
        from inversion.sweeps import logs, run_changes

    if options["logs"]:
        return logs.show_log(study, options["logs"], options)
    option = next(name for name in CHANGES if options[name])
    return run_changes.change_runs(study, option, options[option], options)
