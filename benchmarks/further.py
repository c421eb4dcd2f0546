"""What the further scores cost: evaluations with and without them in turns, a row for each encoder.

``python -m benchmarks.further`` measures with random weights, as CPU time of one thread: which others change least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import click
import torch
from torchvision.models import alexnet  # type: ignore[import-untyped]

from inversion.config.device import choose_precision
from inversion.config.run_config import RunConfig
from inversion.losses.lpips import LPIPS
from inversion.losses.reconstruction import ReconstructionLoss
from inversion.models.encoders import parse_encoders, parse_weights
from inversion.models.encoders.build import build_encoder
from inversion.models.model import build_model
from inversion.runs.further import load_vgg
from inversion.training.device import make_engine
from inversion.training.evaluate import evaluate
from inversion.training.floors import floor_scores, largest_map
from inversion.training.further_scores import FurtherScores

ENCODERS = ("vgg16:block1", "vgg16:block3", "resnet34:layer1", "vit_small:block3")


@click.command()
@click.option("--image-size", default=224, show_default=True)
@click.option("--images", default=8, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--vgg", is_flag=True, help="Also with LPIPS-VGG and DISTS.")
def main(image_size: int, images: int, repeats: int, vgg: bool) -> None:
    """Prints milliseconds an image: without the further scores, with them, their ratio, and those of the floors."""
    config = RunConfig(device="cpu", precision=choose_precision("auto", "cpu"), threads=1)
    engine = make_engine(config)
    crops = torch.randint(0, 256, (images, image_size, image_size, 3), dtype=torch.uint8)
    metrics = load_vgg(parse_weights("random", parse_encoders("vgg16"))["vgg16"]) if vgg else None
    further = FurtherScores(engine, image_size, metrics)
    loss = ReconstructionLoss(0.5, 0.5, LPIPS(alexnet().state_dict(), "random"))
    for name in ENCODERS:
        cut, = parse_encoders(name)
        encoder = build_encoder(cut, parse_weights("random", [cut])[cut.encoder], image_size)
        model = build_model([encoder], "transposed_conv", {}, None, image_size, seed=0)
        model = model.to(memory_format=torch.channels_last)
        tasks: list[Callable[[], object]] = [
            partial(evaluate, model, crops, loss, engine),
            partial(evaluate, model, crops, loss, engine, further=further),
            partial(floor_scores, crops, largest_map([encoder]), engine)]
        times = [[seconds(task) for task in tasks] for _ in range(repeats)]
        plain, more, floors = (1000 * min(column) / images for column in zip(*times, strict=True))
        click.echo(f"{name:20} without {plain:7.1f} ms, with {more:7.1f} ms: {more / plain:.2f}×; "
                   f"floors {floors:.1f} ms ({config.precision})")


def seconds(task: Callable[[], object]) -> float:
    """CPU time of a task."""
    began = time.process_time()
    task()
    return time.process_time() - began


if __name__ == "__main__":
    main()
