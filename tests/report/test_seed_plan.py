"""Which seeds would decide what is open: the plan names the fewest, and deciding with them comes true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.published.feature_inversion import study as paper
from inversion.report.seed_plan import ASSUMED_SD, describe_plan, plan_seeds
from inversion.tracking.connection import connect

DECODERS = ("transposed_conv", "wavelet", "attention", "frequency_aware")


def read(made: Any) -> Board:
    board, = make_boards(collect(connect(), made.finish()).runs)
    return board


def test_a_study_of_one_seed_is_told_how_many_seeds_would_decide_it(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for place, decoder in enumerate(DECODERS):
        made.add(scores(25 - place), decoder=decoder)
    board = read(made)
    plan = plan_seeds(board, [paper()])
    assert plan is not None
    assert plan.noise.sd == ASSUMED_SD
    # the winner's lead, and that the simplest decoder is the best there
    assert (plan.decides, plan.undecided) == (2, 2)
    assert {item.label for item in plan.configurations} == {item.label for item in board.configurations}
    assert describe_plan(plan) == (
        f"2 questions are undecided. {plan.seeds} seeds for 4 configurations are expected to decide 2, with the "
        "present means and a seed noise of 0.12 dB (assumed)")


def test_a_plan_that_is_carried_out_decides_what_it_said(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for seed, luck in enumerate((-0.1, 0.1)):
        made.add(scores(25 + luck), decoder="wavelet", seed=seed)
        made.add(scores(24.4 + luck), decoder="attention", seed=seed)
    made.add(scores(20), decoder="frequency_aware")
    board = read(made)
    plan = plan_seeds(board)
    assert plan is not None
    assert (plan.decides, plan.undecided) == (1, 1)
    assert [item.label for item in plan.configurations] == ["vgg16:block1+wavelet", "vgg16:block1+attention"]
    for seed in range(2, plan.seeds):
        luck = 0.1 if seed % 2 else -0.1
        made.add(scores(25 + luck), decoder="wavelet", seed=seed)
        made.add(scores(24.4 + luck), decoder="attention", seed=seed)
    assert plan_seeds(read(made)) is None


@pytest.mark.parametrize("images", [5, 12])
def test_what_seeds_cannot_decide_is_said(images: int, make_study: Callable[..., Any], scores: Callable[..., Any]
                                          ) -> None:
    made = make_study()
    names = [f"test/{number}.png" for number in range(images)]
    for mean, decoder in ((25.0, "wavelet"), (24.99, "attention")):
        made.add(scores(mean, 2.0)[:images], decoder=decoder, images=names)
    plan = plan_seeds(read(made))
    assert plan is not None
    assert (plan.seeds, plan.configurations, plan.undecided) == (0, (), 1)
    assert describe_plan(plan) == (
        "1 question is undecided: up to 5 seeds are not expected to decide any; still more, or more test images, may")


def test_one_configuration_leaves_nothing_open(make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    made = make_study()
    made.add(scores(25))
    assert plan_seeds(read(made), [paper()]) is None
