"""Progress bars are for terminals."""

from __future__ import annotations

import io
import re

import pytest

from inversion.console import Console, progress_bars
from inversion.progress import no_progress
from inversion.training.progress_bar import ProgressBar


def test_without_a_terminal_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        progress("decoding", 1, 2)
    assert progress is no_progress
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_the_bar_goes_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bars() as progress:
        progress("decoding", 1, 2)
        progress("decoding", 2, 2)
    output, errors = capfd.readouterr()
    assert "decoding" in errors
    assert output == ""


@pytest.mark.parametrize("width", [80, 140])
def test_training_shows_labelled_times_and_the_best_beside_the_latest(width: int) -> None:
    output, now = io.StringIO(), 0.0
    bar = ProgressBar(Console(file=output, width=width, force_terminal=True, color_system=None), 30, lambda: now)
    bar.bars.live.auto_refresh = False
    with bar:
        now = 50.0  # the model was built
        bar.on_step(11, 1, 10, 0.5)
        bar.on_epoch(11, {"val/psnr": 21.5, "images_per_second": 12.0, "train/loss": 0.5})
        bar.on_epoch(12, {"val/psnr": 20.5, "images_per_second": 12.0, "train/loss": 0.5})
        now = 55.0
        bar.on_step(13, 1, 10, 0.4321)
        bar.bars.refresh()
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue()).splitlines()
    first, second = shown[-2:]
    assert first.startswith("epoch 13/30 ")
    # resumed after 100 steps: 20 steps took 5 s, and 179 are left
    assert first.rstrip().endswith("elapsed 0:00:55 · remaining about 0:00:45")
    assert second.rstrip() == "loss 0.4321 · val 20.50 dB · best 21.50 dB (epoch 11) · 12.0 images/s"
    assert max(map(len, shown)) <= width
