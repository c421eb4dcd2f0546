"""``inversion doctor``: the state of this machine and of the tracking store's RUNNING runs."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import blank_is_default, no_blank, tracking_options
from inversion.console import Console, make_console, make_table, styled
from inversion.data.datasets import data_folder
from inversion.data.div2k import is_present
from inversion.models.encoders.catalog import ENCODERS
from inversion.models.encoders.imagenet import imagenet_location
from inversion.models.encoders.pretrained_files import cached_file

if TYPE_CHECKING:
    from rich.text import Text

PACKAGES = ("inversion", "torch", "torchvision", "timm", "lpips", "mlflow", "optuna")


@click.command("doctor")
@tracking_options
@click.option("--data-dir", metavar="FOLDER", callback=blank_is_default,
              help="Where downloads and caches are kept [default: user's cache folder]")
@click.option("--end", "ended", metavar="RUN", multiple=True, callback=no_blank,
              help="End this RUNNING run (its id, the beginning of one, or its name) as KILLED, even if it cannot be "
              "checked whether its process is dead.")
def command(tracking_uri: str | None, experiment: str | None, data_dir: str | None, ended: tuple[str, ...]) -> None:
    """Show the device, versions, available weights and data, check the tracking server, and end dead runs.

    A run that is RUNNING in MLflow although its process is gone (killed, power failure, `mlflow run` without conda) is
    ended as KILLED. Runs of other machines are listed; end one with --end RUN_ID. All experiments are searched for
    runs of inversion, or only the one given by --experiment.
    """
    console = make_console()
    show_machine(console, data_folder(data_dir))
    show_runs(console, tracking_uri, experiment, ended)


def show_machine(console: Console, data_dir: Path) -> None:
    """Prints versions, devices, cached weights and data on disk."""
    with slow_imports():
        from inversion.config.device import describe_devices
        from inversion.losses.lpips_weights import ALEXNET

    table = make_table("", "", show_header=False, title="This machine")
    table.add_row("Python", f"{platform.python_version()} on {platform.platform()}")
    table.add_row("packages", ", ".join(f"{package} {version(package)}" for package in PACKAGES))
    table.add_row("device", ", ".join(describe_devices()))
    for name in ENCODERS:
        table.add_row(f"weights of {name}", _found(cached_file(imagenet_location(name)), "not cached: random or FILE"))
    table.add_row("weights of LPIPS", _found(cached_file(ALEXNET), "not cached: LPIPS is off unless downloadable"))
    table.add_row("DIV2K", _found(data_dir / "DIV2K" if is_present(data_dir) else None,
                                  "not downloaded: inversion data div2k"))
    console.print(table)


def show_runs(console: Console, tracking_uri: str | None, experiment: str | None, ended: tuple[str, ...]) -> None:
    """Prints the tracking store and its RUNNING runs; ends those whose process is dead.

    Raises:
        RequestError: the store does not answer, or ``--end`` names a run that is not RUNNING.
    """
    with slow_imports():
        from inversion.tracking.choose import choose_running
        from inversion.tracking.connection import connect
        from inversion.tracking.masking import without_password
        from inversion.tracking.ownership import declare_dead, end_dead, find_running
        from inversion.tracking.store_errors import NoStoreError

    try:
        connection = connect(tracking_uri, experiment, create=False)
    except NoStoreError:
        if tracking_uri or ended:
            raise
        console.print("no tracking store here yet: the first run creates it, or give another --tracking-uri")
        return
    there = "experiment" if connection.experiment_id else "no experiment yet called"
    console.print(f"tracking store {without_password(connection.uri)} answers; {there} {connection.experiment!r}",
                  soft_wrap=True)
    found = {run.run_id: run for run in find_running(connection, everywhere=experiment is None)}
    meant = [str(choose_running(connection, text).info.run_id) for text in ended]
    runs = list((found | {run_id: declare_dead(connection, run_id) for run_id in meant}).values())
    dead = end_dead(connection, runs)
    if runs:
        table = make_table("run", "name", "state", "why", title="RUNNING runs")
        for run in runs:
            table.add_row(run.run_id, run.name, "ended as KILLED" if run in dead else run.verdict, run.why)
        console.print(table)
    else:
        console.print("no run is RUNNING")


def _found(path: Path | None, otherwise: str) -> Text:
    return styled(str(path)) if path else styled(otherwise, "yellow")
