"""A study of known truth through ``inversion-report``: what is equal, better, or ahead by its learning rate alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.report.conclusions import fairness, headline
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.published.feature_inversion import study as paper
from inversion.tracking.connection import connect

IMAGES = [f"test/{number:02}.png" for number in range(40)]
CONFIGURATIONS = [("vgg16:block1", "wavelet"), ("vgg16:block1", "attention"), ("vgg16:block1", "transposed_conv"),
                  ("resnet34:layer1", "transposed_conv")]
SLOW, FAST = 1e-4, 1e-3


def fabricate(made: Any, seeds: int) -> str:
    """The first is better by 0.4 dB at the rate of its own, the second is 2 dB ahead at the slow rate alone.

    The others are equal. The standard deviation between trainings is 0.1 dB, and that of a pair of configurations
    between images 0.3 dB.
    """
    chance = np.random.default_rng(seeds)
    easy = chance.normal(0, 2, len(IMAGES))
    for number, (encoder, decoder) in enumerate(CONFIGURATIONS):
        own = chance.normal(0, 0.3 / np.sqrt(2), len(IMAGES))
        own -= own.mean()
        best = SLOW if number == 1 else FAST
        for lr in (SLOW, FAST):
            luck = chance.normal(0, 0.1, seeds if lr == best else 1)
            if len(luck) > 1:
                luck = 0.1 * (luck - luck.mean()) / luck.std(ddof=1) + (0.0, 0.05, -0.05, 0.03)[number]
            for seed, each in enumerate(luck):
                mean = 17 + (0.4 if number == 0 else 0.0) - (0.0 if lr == best else 2.0) + each
                made.add(mean + easy + own, images=IMAGES, encoder=encoder, decoder=decoder, lr=lr, seed=seed,
                         metrics={"best/val_psnr": mean - 0.5})
                made.planned[-1] |= {"group": encoder + decoder, "value": f"{encoder}{decoder}{lr}"}
    return str(made.finish())


@pytest.mark.parametrize(("seeds", "is_established"), [(2, False), (5, True)])
def test_the_page_says_the_truth(
    seeds: int, is_established: bool, make_study: Callable[..., Any], tmp_path: Path
) -> None:
    name = fabricate(make_study(), seeds)
    assert run_command(cli, [name, "--output", str(tmp_path / "report")]) == 0
    page, text = ((tmp_path / "report" / file).read_text() for file in ("index.html", "report.md"))
    first, *others = ["+".join(parts) for parts in CONFIGURATIONS]
    lead = "the lead holds up" if is_established else "images and seeds together leave the lead open"
    assert f"with {seeds} seeds each, {lead}" in page
    assert f"with {seeds} seeds each, {lead}" in text
    assert ("--seeds-for undecided" in text) is not is_established
    ranked = pd.read_csv(tmp_path / "report" / "tables" / "leaderboard.csv")
    assert ranked["configuration"][0] == first
    assert ranked["tuned"].tolist() == [f"lr={SLOW:g}" if label == others[0] else f"lr={FAST:g}"
                                        for label in ranked["configuration"]]
    pairs = pd.read_csv(tmp_path / "report" / "tables" / "differences.csv")
    assert not (pairs["holds"] == "yes")[(pairs["a"] != first) & (pairs["b"] != first)].any()
    assert "Another learning rate may change their order" not in text
    assert "All other parameters, except the tuned ones, are equal on both sides." in text
    assert "lr=" not in text.partition("## What to use")[2].partition("## Leaderboard")[0]


def test_what_wins_at_one_learning_rate_is_said_to_beside_the_conclusions_and_the_findings(
    make_study: Callable[..., Any]
) -> None:
    runs = [run for run in collect(connect(), fabricate(make_study(), 1)).runs if run.parameters["lr"] == SLOW]
    board, = make_boards(runs)
    assert board.winner.decoder == "attention"
    assert "nothing is decided between configurations" in " ".join(headline(board))
    caveat = "All configurations were trained with lr=0.0001. Another learning rate may change their order"
    assert fairness(board, {})[-1].startswith(caveat)
    assert caveat in paper().about_findings(board)


def written(name: str, folder: Path, *options: str) -> str:
    """What ``inversion-report`` writes to ``report.md``."""
    assert run_command(cli, [name, "--output", str(folder), *options]) == 0
    return (folder / "report.md").read_text()


def test_a_seed_noise_that_was_given_is_not_said_to_be_that_of_the_trainings(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    for seed in (0, 1):
        made.add(scores(20 + 0.1 * seed), decoder="wavelet", seed=seed)
        made.add(scores(19 - 0.1 * seed), decoder="transposed_conv", seed=seed)
    name = made.finish()
    measured, given = written(name, tmp_path / "a"), written(name, tmp_path / "b", "--seed-sd", "0.05")
    assert "trainings of one configuration differ by 0.07 dB (standard deviation);" in measured
    assert "trainings of one configuration differ by" not in given
    assert "are taken to differ by 0.05 dB (standard deviation, given and not measured);" in given
    assert "that includes the seed noise" in measured
    assert "that includes the given seed noise" in given


def test_options_of_decoders_and_fusions_that_no_name_says_are_in_a_column(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    plain, made = make_study("plain"), make_study("made")
    for study, options in ((plain, "auto"), (made, "design=published")):
        study.add(scores(20), decoder="wavelet", decoder_options=options)
        study.add(scores(19), decoder="transposed_conv")
        study.add(scores(21), encoder="vgg16:block1+resnet34:layer1", decoder="transposed_conv", fusion_options=options)
    text = written(plain.finish(), tmp_path / "plain")
    assert "All other parameters are equal on both sides." in text
    assert "| options |" not in text
    text = written(made.finish(), tmp_path / "made")
    assert "All other parameters are equal on both sides." not in text
    assert text.count("All other parameters, except the options of decoders and fusions, are equal on both sides.") == 2
    for title in ("Leaderboard", "Which decoder?"):
        table = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
        wavelet, simple = (next(line for line in table.splitlines() if kind in line and line.startswith("|"))
                           for kind in ("wavelet", "block1+transposed" if title == "Leaderboard" else "transposed"))
        assert "| design=published |" in wavelet
        assert "| default |" in simple
    assert "| fusion: design=published |" in text


def test_advice_on_quality_says_the_rate_that_was_not_tuned(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    for decoder, mean in (("wavelet", 20), ("transposed_conv", 19)):
        made.add(scores(mean), decoder=decoder)
    assert "vgg16:block1+wavelet with lr=0.0001, which was not tuned: 20" in written(made.finish(), tmp_path)
