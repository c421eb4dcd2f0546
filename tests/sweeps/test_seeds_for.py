"""``inversion-sweep --study NAME --seeds-for undecided``: the seeds that the report asks for, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Sweep = Callable[..., Any]

GRID = "grid:\n  - decoder: [transposed_conv, wavelet]"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Enough test images for a verdict."""
    chance = np.random.default_rng(5)
    for split, count in (("train", 4), ("val", 2), ("test", 12)):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for number in range(count):
            values = Image.fromarray(chance.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            values.resize((48, 44), Image.Resampling.BICUBIC).save(tmp_path / f"photos/{split}/{number}.png")
    return tmp_path / "photos"


def test_undecided_questions_get_the_seeds_that_are_expected_to_decide_them(
        photos: Path, lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[[], None]) -> None:
    queued(GRID, data=photos)
    assert "has no scored runs yet" in sweep("--study", "tiny", "--seeds-for", "undecided", "--workers", 0).err
    work_here()
    planned = sweep("--study", "tiny", "--seeds-for", "undecided", "--dry-run")
    assert (planned.code, planned.err) == (0, "")
    found = re.search(r"(\d) seeds for 2 configurations are expected to decide 1, .*0\.12 dB \(assumed\)", planned.out)
    assert found, planned.out
    seeds = int(found[1])
    assert len(lab.results().trials) == 2
    asked = sweep("--study", "tiny", "--seeds-for", "undecided", "--workers", 0)
    assert (asked.code, asked.err) == (0, "")
    assert f"study tiny: {2 * seeds} runs, {2 * (seeds - 1)} of them new" in asked.out
    configs = [trial.user_attrs["config"] for trial in lab.results().trials]
    assert sorted((config["decoder"], config["seed"]) for config in configs) == [
        (decoder, seed) for decoder in ("transposed_conv", "wavelet") for seed in range(seeds)]
    again = sweep("--study", "tiny", "--seeds-for", "undecided", "--workers", 0)
    assert f"study tiny: {2 * seeds} runs, 0 of them new" in again.out


def test_a_seed_noise_that_is_known_decides_without_more_seeds(
        photos: Path, lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[[], None]) -> None:
    queued(GRID, data=photos)
    work_here()
    outcome = sweep("--study", "tiny", "--seeds-for", "undecided", "--seed-sd", "0.001")
    assert (outcome.code, outcome.err) == (0, "")
    assert "study tiny: nothing is undecided" in outcome.out
    assert len(lab.results().trials) == 2


@pytest.mark.parametrize(("words", "message"), [
    (["smoke.yaml", "--seeds-for", "undecided"], "give it with --study NAME alone"),
    (["--study", "x", "--seeds-for", "undecided", "--join"], "give it with --study NAME alone"),
    (["--study", "x", "--seeds-for", "all"], "'all' is not 'undecided'"),
    (["smoke.yaml", "--seed-sd", "0.1"], "--seed-sd is for --seeds-for"),
    (["--study", "x", "--seeds-for", "undecided", "--seed-sd", "0"], "0.0 is not in the range 0<x<=1000000000"),
])
def test_requests_that_do_not_go_together_are_refused(words: list[str], message: str, sweep: Sweep) -> None:
    outcome = sweep(*words)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
