"""The command ``inversion-report``: a report of a study, from the tracking server alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from inversion.cli.app import run_command, set_up_logging
from inversion.cli.imports import slow_imports
from inversion.cli.lookup import look_up_studies
from inversion.cli.options import FiniteRange, no_blank, tracking_options
from inversion.config.run_config import MOST
from inversion.console import Console, make_console
from inversion.errors import RequestError
from inversion.files import shown, why_not_writable

FIGURES = ("svg", "pdf")


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


class Formats(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click alone
    """File formats of figures, separated by commas."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        formats = tuple(dict.fromkeys(part.strip().lower() for part in str(value).split(",")))
        for form in formats:
            if form not in FIGURES:
                self.fail(f"{form!r} is no format of figures. Allowed: {', '.join(FIGURES)}, or both as "
                          f"{','.join(FIGURES)}.", param, ctx)
        return formats


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("studies", metavar="NAME...", nargs=-1, required=True, callback=no_blank)
@click.option("--output", type=Folder(), required=True, metavar="DIR",
              help="Folder for the page, report.md, methods.md and tables/; files of an earlier report are replaced.")
@click.option("--memory-budget", type=Budget(), metavar="MB",
              help="Recommend the best configuration that trained on a GPU within this much memory.")
@click.option("--seed-sd", type=FiniteRange(min=0, max=MOST, min_open=True), metavar="DB",
              help="Standard deviation of the mean PSNR between trainings of one configuration, if it is known from "
                   "other runs [default: measured on the configurations with several seeds]")
@click.option("--figures", type=Formats(), metavar="FORMATS",
              help="Also write every chart to figures/, as svg, pdf or svg,pdf (needs kaleido and a Chromium).")
@tracking_options
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def cli(studies: tuple[str, ...], output: Path, memory_budget: float | None, seed_sd: float | None,
        figures: tuple[str, ...] | None, tracking_uri: str | None, experiment: str | None, verbose: bool) -> None:
    """Draw the conclusions of the study NAME: tables, paired statistics, charts and pictures.

    Everything is read from the tracking server, and the report is also logged to the study's run. A study may be
    unfinished or have failed runs; the report lists what is missing.

    Of several studies, each is compared with the first: the configurations of both, image by image where the test
    images are the same.

    \b
    Examples:
      inversion-report smoke --output report
      inversion-report ablation --output report --memory-budget 12000 --tracking-uri http://server:5000
      inversion-report ablation published --output compared --figures svg,pdf
    """
    set_up_logging(verbose)
    _require_studies(studies, memory_budget)
    _require_folder(output)
    look_up_studies(studies, tracking_uri, experiment)
    with slow_imports():
        from inversion.report.build import make_report
        from inversion.report.compare import compare_studies
        from inversion.report.data.collect import collect
        from inversion.report.render.figures import require_kaleido
        from inversion.report.render.write import log, write, write_comparison
        from inversion.tracking.connection import connect
        from inversion.tracking.study import in_experiment_of

    if figures:
        require_kaleido()
    console = make_console()
    connection = connect(tracking_uri, experiment, create=False)
    connections = [in_experiment_of(connection, study) for study in studies]
    with console.status("reading the tracking server"):
        data = [collect(*each) for each in zip(connections, studies, strict=True)]
    if len(data) > 1:
        with console.status("comparing the studies"):
            comparison = compare_studies(connection, data, seed_sd)
            page = write_comparison(comparison, output, figures or ())
        _print_conclusions(console, comparison.headline, page)
        return
    with console.status("drawing conclusions"):
        report = make_report(connections[0], data[0], memory_budget, seed_sd)
        page = write(report, output, figures or ())
    _print_conclusions(console, report.headline, page)
    with console.status("logging the report"):  # last: the conclusions are printed even if the server rejects it
        log(connections[0], report, output)


def _print_conclusions(console: Console, sentences: Sequence[str], page: Path) -> None:
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)


def _require_studies(studies: Sequence[str], memory_budget: float | None) -> None:
    """Raises a RequestError for a study that is given twice, and for an option that is for one study."""
    if twice := [study for study in studies if studies.count(study) > 1]:
        raise RequestError(f"study {twice[0]} is given twice: a study is compared with others")
    if len(studies) > 1 and memory_budget is not None:
        raise RequestError(f"--memory-budget is for the report of one study, and {len(studies)} are given")


def _require_folder(folder: Path) -> None:
    """Raises a RequestError if the report cannot be written there."""
    if why := why_not_writable(folder):
        raise RequestError(f"--output {shown(folder)}: {why}")
    for name in ("tables", "figures"):
        if (folder / name).is_symlink():
            raise RequestError(f"--output {shown(folder)}: {name} is a symbolic link there, and the report would write "
                               "to its target")
    for name in ("index.html", "report.md", "methods.md", "methods.bib"):
        if (folder / name).is_dir():
            raise RequestError(f"--output {shown(folder)}: {name} is a folder there, and the report would write a file")


def main() -> None:
    """Runs the command and exits with its code."""
    sys.exit(run_command(cli))
