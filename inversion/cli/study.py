"""The command ``inversion-study``: a study as one file, to be opened on another machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from inversion.cli.app import run_command, set_up_logging
from inversion.cli.imports import slow_imports
from inversion.cli.options import no_blank, tracking_options
from inversion.cli.sweep import queue_address
from inversion.console import make_console, progress_bars
from inversion.errors import RequestError
from inversion.files import shown, why_not_writable
from inversion.sweeps.spec.spec import check_study

STORAGE = click.option("--storage", metavar="URL", callback=queue_address,
                       help="The queue's database [default: inversion-queue.db beside the tracking store]")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Move a study to another machine: all its runs with their artifacts, and its queue, as one file.

    \b
    Examples:
      inversion-study export ablation ablation.tar.zst --keep pictures
      inversion-study import ablation.tar.zst --set data=/data/DIV2K
    """


@cli.command("export")
@click.argument("name", callback=no_blank)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--keep", type=click.Choice(["scores", "pictures", "best", "all"]), default="best", show_default=True,
              help="Of finished runs: scores alone; also the test images' reconstructions; also the best checkpoint; "
                   "or every artifact. Other runs keep the checkpoints from which they resume.")
@STORAGE
@tracking_options
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def export(name: str, file: Path, keep: str, storage: str | None, tracking_uri: str | None, experiment: str | None,
           verbose: bool) -> None:
    """Write the study NAME to FILE (.tar.zst).

    Models that were logged for serving are not part of it.
    """
    set_up_logging(verbose)
    if why := why_not_writable(file.parent):
        raise RequestError(f"{shown(file)}: {why}")
    with slow_imports():
        from inversion.sweeps.opening import service_errors
        from inversion.sweeps.portable.exporting import export_study
        from inversion.tracking.connection import connect
        from inversion.tracking.study import in_experiment_of

    console = make_console()
    with service_errors(), progress_bars() as progress:
        connection = in_experiment_of(connect(tracking_uri, experiment, create=False), name)
        count = export_study(connection, name, storage, file, keep, progress)  # type: ignore[arg-type]
    console.print(f"study {name}: {count} MLflow runs in {shown(file)} ({file.stat().st_size / 1e6:.1f} MB)",
                  soft_wrap=True)


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--study", metavar="NAME", callback=no_blank, help="Another name for the study.")
@click.option("--set", "places", metavar="NAME=VALUE", multiple=True,
              help="Replace a place in the waiting runs: data, data_dir, weights, lpips_weights, vgg_weights, device "
                   "or threads.")
@STORAGE
@tracking_options
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def import_(file: Path, study: str | None, places: tuple[str, ...], storage: str | None, tracking_uri: str | None,
            experiment: str | None, verbose: bool) -> None:
    """Create the runs and the queue of the study in FILE.

    Runs get new ids. Reports, evaluations and reconstructions work as where it came from, and
    ``inversion-sweep --join --study NAME`` goes on with it.
    """
    set_up_logging(verbose)
    replaced = dict(_place(text) for text in places)
    if study is not None:
        check_study(study)
    with slow_imports():
        from inversion.sweeps.opening import service_errors
        from inversion.sweeps.portable.importing import import_study

    console = make_console()
    with service_errors(), progress_bars() as progress:
        name, count = import_study(file, study, replaced, storage, tracking_uri, experiment, progress)
    console.print(f"study {name}: {count} MLflow runs. See: inversion-report {name} --output report, "
                  f"inversion-sweep --status --study {name}", soft_wrap=True)


def _place(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise RequestError(f"--set {text}: NAME=VALUE is needed, such as data=FOLDER")
    return name.strip(), value


def main() -> None:
    """Runs the command and exits with its code."""
    sys.exit(run_command(cli))
