"""The command ``inversion-report``: a report of a study, from the tracking server alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from inversion.cli.app import run_command, set_up_logging
from inversion.cli.imports import slow_imports
from inversion.cli.options import FiniteRange, no_blank, tracking_options
from inversion.config.run_config import MOST
from inversion.console import make_console
from inversion.errors import RequestError
from inversion.files import shown, why_not_writable


class Budget(FiniteRange):
    """Megabytes, or ``auto`` for no limit: MLproject has to pass a value for every option."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


class Folder(click.Path):
    """A folder. An empty text is rejected: ``Path("")`` is the current folder."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not value.strip():
            self.fail(f"an empty text ({value!r}) is not a folder", param, ctx)
        return super().convert(value, param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("study", metavar="NAME", callback=no_blank)
@click.option("--output", type=Folder(), required=True, metavar="DIR",
              help="Folder for index.html, report.md and tables/; files of an earlier report there are replaced.")
@click.option("--memory-budget", type=Budget(), metavar="MB",
              help="Recommend the best configuration that trained on a GPU within this much memory.")
@click.option("--seed-sd", type=FiniteRange(min=0, max=MOST, min_open=True), metavar="DB",
              help="Standard deviation of the mean PSNR between trainings of one configuration, if it is known from "
                   "other runs [default: measured on the configurations with several seeds]")
@tracking_options
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def cli(study: str, output: Path, memory_budget: float | None, seed_sd: float | None, tracking_uri: str | None,
        experiment: str | None, verbose: bool) -> None:
    """Draw the conclusions of the study NAME: tables, paired statistics, charts and pictures.

    Everything is read from the tracking server, and the report is also logged to the study's run. A study may be
    unfinished or have failed runs; the report lists what is missing.

    \b
    Examples:
      inversion-report smoke --output report
      inversion-report ablation --output report --memory-budget 12000 --tracking-uri http://server:5000
    """
    set_up_logging(verbose)
    _require_folder(output)
    with slow_imports():
        from inversion.report.build import make_report
        from inversion.report.data.collect import collect
        from inversion.report.render.write import log, write
        from inversion.tracking.connection import connect
        from inversion.tracking.study import in_experiment_of

    console = make_console()
    connection = in_experiment_of(connect(tracking_uri, experiment, create=False), study)
    with console.status("reading the tracking server"):
        data = collect(connection, study)
    with console.status("drawing conclusions"):
        report = make_report(connection, data, memory_budget, seed_sd)
        page = write(report, output)
    for sentence in report.headline:
        console.print(sentence, soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
    with console.status("logging the report"):  # last: the conclusions are printed even if the server rejects it
        log(connection, report, output)


def _require_folder(folder: Path) -> None:
    """Raises a RequestError if the report cannot be written there."""
    if why := why_not_writable(folder):
        raise RequestError(f"--output {shown(folder)}: {why}")
    if (folder / "tables").is_symlink():
        raise RequestError(f"--output {shown(folder)}: tables is a symbolic link there, and the report would write "
                           "to its target")
    for name in ("index.html", "report.md"):
        if (folder / name).is_dir():
            raise RequestError(f"--output {shown(folder)}: {name} is a folder there, and the report would write a file")


def main() -> None:
    """Runs the command and exits with its code."""
    sys.exit(run_command(cli))
