"""The command group ``inversion``, and running any command: one line per error, and exit codes 0, 1, 2 and 130."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback

import click

import inversion
from inversion.cli.imports import slow_imports
from inversion.console import log_to_stderr, set_up_streams, write_error
from inversion.errors import InterruptedRunError, InversionError, RequestError, SeveralErrors, UnknownNameError
from inversion.files import shown
from inversion.tracking.masking import mask_logs, safe

COMMANDS = {
    "train": "Train a decoder for one encoder layer and score it.",
    "evaluate": "Score a finished run again, on its own images or others.",
    "reconstruct": "Reconstruct your own pictures with trained runs.",
    "optimize": "Invert a layer without training: a lower bound to compare with the decoders.",
    "list": "Show encoders, layers, decoders and fusions.",
    "data": "Fetch, verify and cache a data set.",
    "doctor": "Check this machine; end runs whose process is gone.",
}
"""Name and summary of each command, which is ``command`` in the module of that name."""

OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG,
                  errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ESTALE}
"""What is wrong with a file or a disk, and with no program: permissions, space, names, links."""


LOG_LEVEL = "MLFLOW_LOGGING_LEVEL"
"""The environment variable that MLflow reads when it is imported."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with slow_imports():
            command: click.Command = importlib.import_module(f"inversion.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownNameError("unknown command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(inversion.__version__, prog_name="inversion")
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def cli(verbose: bool) -> None:
    """How much of an image survives inside a neural network?

    Freeze a pretrained encoder, cut it at a layer, train a decoder to rebuild the image from the features, and score
    the reconstructions. Everything is tracked in MLflow.

    \b
    A first run, without any download, on the images that come with this package:
      inversion train --encoder resnet34 --decoder wavelet --data sample --weights random --epochs 3
    """
    set_up_logging(verbose)


def set_up_logging(verbose: bool) -> None:
    """Logs warnings to standard error, with ``verbose`` also progress."""
    log_to_stderr("%(levelname)s %(name)s: %(message)s", logging.INFO if verbose else logging.WARNING)
    mask_logs()
    # MLflow logs every database table that it creates; keep only its warnings
    level = os.environ.setdefault(LOG_LEVEL, "INFO" if verbose else "WARNING")
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise UnknownNameError(f"environment variable {LOG_LEVEL}: no log level is called", level, sorted(known))


def main() -> None:
    """Runs a command and exits: 0 all done, 1 something ran and failed, 2 the request was wrong, 130 interrupted."""
    sys.exit(run_command(cli))


def run_command(command: click.Command, arguments: list[str] | None = None) -> int:
    """Runs a click command; prints each error as one line and returns the exit code."""
    # Read by OpenMP when PyTorch is imported. Threads that spin at barriers take cores from others (docs/log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    set_up_streams()
    try:
        try:
            code = command.main(arguments, standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return 0
        return code if isinstance(code, int) else 0
    except click.NoSuchOption as error:
        return _report(RequestError(_unknown_option(error)))
    except click.ClickException as error:
        return _report(RequestError(error.format_message()))
    except InversionError as error:
        return _report(error)
    except (click.Abort, KeyboardInterrupt):
        return _report(InterruptedRunError("interrupted"))
    except Exception as error:
        if (expected := _expected(error)) is None:
            raise
        return _report(expected)


def _unknown_option(error: click.NoSuchOption) -> str:
    """click's message, with the option that other tools call so, or what is done where there is none."""
    from inversion.config.run_config import RunConfig
    from inversion.synonyms import PARAMETERS, meaning_of

    parameters = error.ctx.command.params if error.ctx else []
    options = {option.removeprefix("--").replace("-", "_"): option for parameter in parameters
               if isinstance(parameter, click.Option) and not parameter.hidden for option in parameter.opts}
    said = error.message.removesuffix(".")
    meaning = meaning_of(error.option_name, PARAMETERS, options)
    if meant := meaning.among(options):
        note = f": {meaning.note}" if meaning.note else ""
        return f"{said}{note}. Did you mean {options[meant]!r}?"
    if not {"set", "decoder"} & set(options):  # a command without the parameters of a run
        return error.format_message()
    if "set" in options:
        of_run = meaning_of(error.option_name, PARAMETERS, RunConfig.model_fields)
        if meant := of_run.among(RunConfig.model_fields):
            return f"{said}: parameters of runs are set with --set. Did you mean '--set {meant}=VALUE'?"
    remark = meaning.remark(())
    return f"{said}: {remark}." if remark else error.format_message()


def _expected(error: Exception) -> InversionError | None:
    """The error to report if the output or the tracking store failed; None if it is a bug."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    if isinstance(error, OSError) and any(frame.f_code is click.echo.__code__ for frame in frames):  # of --help
        return InversionError(f"the output cannot be written: {error.strerror or error}")
    if "mlflow" in sys.modules:  # something may have used a store
        from inversion.tracking.store_errors import to_inversion_error

        if (ours := to_inversion_error(error)) is not None:
            return ours
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE and isinstance(error.filename, str | bytes):
        return InversionError(f"{shown(os.fsdecode(error.filename))}: {error.strerror}")
    return None


def _report(error: InversionError) -> int:
    for line in error.lines if isinstance(error, SeveralErrors) else [str(error)]:
        write_error(safe(line))
    if "MLFLOW_RUN_ID" in os.environ:
        from inversion.tracking.tracked_run import fail_project_run

        fail_project_run(error)
    return error.exit_code
