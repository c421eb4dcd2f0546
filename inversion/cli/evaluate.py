"""``inversion evaluate``: a finished run scored again."""

from __future__ import annotations

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import ParameterType, blank_is_default, no_blank, tracking_options
from inversion.config.run_config import parse_value
from inversion.data.datasets import data_folder, require_data
from inversion.losses.lpips_weights import require_trunk_file


@click.command("evaluate")
@click.argument("run", metavar="RUN", callback=no_blank)
@click.option("--data", metavar="FOLDER|NAME", callback=blank_is_default,
              help="Other photographs: a folder, sample or div2k [default: the run's]")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True,
              help="The photographs of which split; a folder is split as in training.")
@click.option("--test-limit", type=ParameterType("test_limit"), metavar="N", help="Only the first N photographs; 0: "
              "all [default: as in the run, all of another set]")
@click.option("--lpips-weights", metavar="FILE", callback=blank_is_default,
              help="AlexNet trunk of LPIPS: imagenet, a file, or off [default: the run's]")
@click.option("--device", metavar="DEVICE", callback=blank_is_default,
              help="cpu, cuda or cuda:N [default: the run's, where this machine has it]")
@click.option("--data-dir", metavar="FOLDER", callback=blank_is_default,
              help="Where downloads and caches are kept [default: as in the run]")
@tracking_options
def command(run: str, data: str | None, split: str, test_limit: int | None, lpips_weights: str | None,
            device: str | None, data_dir: str | None, tracking_uri: str | None, experiment: str | None) -> None:
    """Score a finished run again, on its own test photographs or on others, and log that as a run below it.

    RUN is a run's id, the beginning of one, or a run's name. On its own photographs, the same kind of machine and the
    same number of threads, the scores are those that were logged, to the last bit. The evaluation is put into the
    run's experiment, unless another one is given.

    \b
    Examples:
      inversion evaluate 4fbe0d1c
      inversion evaluate 4fbe0d1c --data ./holiday --lpips-weights alexnet-owt-7be5be79.pth
      inversion evaluate vgg16:block1+wavelet --data sample --device cpu
    """
    device = parse_value("device", device) if device else None
    if data:
        require_data(data, data_folder(data_dir or "auto"))
    if lpips_weights:
        require_trunk_file(lpips_weights)
    with slow_imports():
        from inversion.cli import evaluating

    evaluating.evaluate(run, evaluating.Options(data, split, test_limit, lpips_weights, device, data_dir),
                        tracking_uri, experiment)
