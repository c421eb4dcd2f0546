"""How much slower is a training step when another process burns a core, and which settings of OpenMP help?

Each setting is a process of its own, since OpenMP reads its variables when it is loaded. Steps of transposed_conv at
features of the size of vgg16:block1's, alone and beside a process that never sleeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from inversion.losses.reconstruction import ReconstructionLoss
from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "default": {}, "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"}, "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"}}
BURN = "while True: pass"


@click.command()
@click.option("--steps", default=8, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--inner", is_flag=True, hidden=True)
def main(steps: int, repeats: int, inner: bool) -> None:
    """Prints the median time of a step alone and beside a busy process, for each setting, and the ratios."""
    if inner:
        click.echo(median_ms(step_of(), steps))
        return
    times: dict[tuple[str, bool], list[float]] = {}
    for _ in range(repeats):
        for name, variables in SETTINGS.items():
            for busy in (False, True):
                times.setdefault((name, busy), []).append(measured(variables, steps, busy))
    alone = float(np.median(times["default", False]))
    table = Table("setting", "alone (ms)", "beside another (ms)", "ratio", "alone, beside the default's")
    for name in SETTINGS:
        free, contended = (float(np.median(times[name, busy])) for busy in (False, True))
        table.add_row(name, f"{free:.0f}", f"{contended:.0f}", f"{contended / free:.2f}×", f"{free / alone:.2f}×")
    Console().print(table)


def measured(variables: Mapping[str, str], steps: int, busy: bool) -> float:
    """The median step in a process with these variables, in ms."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    burner = subprocess.Popen([sys.executable, "-c", BURN]) if busy else None
    try:
        done = subprocess.run([sys.executable, "-m", "benchmarks.contention", "--inner", "--steps", str(steps)],
                              env=environment | dict(variables), capture_output=True, text=True, check=True)
    finally:
        if burner is not None:
            burner.kill()
    return float(done.stdout)


def step_of() -> Callable[[], None]:
    """A training step on four images of 224 pixels: encoder-like convolutions, decoder, MSE, backward, Adam."""
    torch.manual_seed(0)
    channels_last = torch.channels_last
    encoder = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
                            nn.MaxPool2d(2)).to(memory_format=channels_last)
    decoder_type = decoders.get("transposed_conv")
    decoder = decoder_type.build(FeatureShape(64, 112, 112), 224,
                                 parse_decoder_options("transposed_conv", decoder_type.OptionsType, {}))
    decoder.to(memory_format=channels_last)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-4)
    loss = ReconstructionLoss(1.0, 0.0, None)
    images = torch.rand(4, 3, 224, 224).contiguous(memory_format=channels_last)

    def step() -> None:
        with torch.no_grad():
            features = encoder(images)
        terms = loss(decoder(features), images)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()

    return step


def median_ms(step: Callable[[], None], steps: int) -> float:
    """The median time of a step after two others, in ms."""
    taken = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        step()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken[2:]))


if __name__ == "__main__":
    main()
