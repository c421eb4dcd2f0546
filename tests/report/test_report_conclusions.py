"""What is concluded from a study: the answer, the advice, and the numbers, on studies whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inversion.report.conclusions import fairness, headline, recommendations, tied_with_winner
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.data.study import StudyData
from inversion.report.tables import questions, rankings
from inversion.report.tables.overview import standing, summary
from inversion.tracking.connection import connect
from inversion.tracking.study import SIDE_BY_SIDE


def read(made: Any, seed_sd: float | None = 0.01) -> tuple[StudyData, list[Board]]:
    data = collect(connect(), made.finish())
    return data, make_boards(data.runs, seed_sd)


def test_the_headline_says_who_won_and_whether_it_is_real(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet")
    made.add(scores(24), decoder="attention")
    _, (board,) = read(made)
    text = " ".join(headline(board))
    assert text.startswith("vgg16:block1+wavelet is first with 25.00 dB")
    assert "1.00 dB" in text
    assert "Images: it is better on all 12 test images: the trained networks differ on such images." in text
    assert re.search(r"with 1 seed each, the lead holds up \(p = [^,]+\)", text)
    assert text.count("p = ") == 1
    assert tied_with_winner(board) == []
    assert "not established" not in recommendations(board, None)[0].text


def test_a_winner_by_chance_is_called_that(make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    made = make_study()
    made.add(scores(25.0, noise=2.0), decoder="wavelet")
    made.add(scores(24.9, noise=2.0), decoder="attention")
    _, (board,) = read(made)
    text = " ".join(headline(board))
    assert "the images alone cannot tell the trained networks apart" in text
    assert "leave the lead open" in text
    assert [item.label for item in tied_with_winner(board)] == ["vgg16:block1+attention"]
    assert recommendations(board, None)[0].text.endswith("Its lead over the other one is not established.")


def test_one_run_of_one_image_is_reported_without_an_interval(make_study: Callable[..., Any]) -> None:
    made = make_study()
    made.add([25.0], images=["only.png"])
    _, (board,) = read(made)
    assert headline(board)[0] == "vgg16:block1+transposed_conv has 25.00 dB PSNR, SSIM 0.500."
    assert [table.key for table in questions.questions(board)] == []


def test_the_memory_budget_chooses_the_best_that_fits(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), encoder="ensemble", device="cuda", metrics={"train_peak_memory_mb": 2000.0})
    made.add(scores(24), encoder="vgg16", device="cuda", metrics={"train_peak_memory_mb": 900.0})
    made.add(scores(20), encoder="resnet34", device="cuda", metrics={"train_peak_memory_mb": 500.0})
    _, (board,) = read(made)

    def within(budget: float) -> str:
        advice, = (item for item in recommendations(board, budget) if item.title.startswith("Within"))
        return advice.text

    assert within(3000).startswith("ensemble+weighted+transposed_conv")
    assert within(1000).startswith("vgg16:block1+transposed_conv")
    assert within(100) == "No configuration trained within this budget."


@pytest.mark.parametrize("how", [{"device": "cpu"}, {"device": "cuda", "tags": {SIDE_BY_SIDE: "4"}}],
                         ids=["on a cpu", "side by side"])
def test_memory_that_is_not_the_runs_own_is_not_recommended(
    how: dict[str, Any], make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), **how, metrics={"train_peak_memory_mb": 900.0})
    made.add(scores(24), **how, encoder="resnet34", metrics={"train_peak_memory_mb": 500.0})
    _, (board,) = read(made)
    for budget in (None, 5000.0):
        advice, = (item for item in recommendations(board, budget) if "memory" in item.title or "Within" in item.title)
        assert advice.text.startswith("Not known: memory measured on a CPU")
    assert "resident set" in rankings.leaderboard(board).note


def test_every_sentence_on_the_winner_is_corrected_for_all_pairs(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    behind = 0.01 * np.array([1, 2, 3, 4, 5, -6, -7, 8, 9, 10, 11, 12])  # p = 0.03: significant on its own
    made = make_study()
    base = np.asarray(scores(25.0))
    made.add(base + 0.001, encoder="ensemble")
    for number, decoder in enumerate(("wavelet", "attention", "transposed_conv")):
        made.add(base - np.roll(behind, number), decoder=decoder)
    _, (board,) = read(made, seed_sd=1e-6)
    assert len(board.against_winner) == 3
    for found in board.against_winner.values():
        assert found.estimate.p < 0.05 < found.p
    sentences = headline(board)
    assert "leave the lead open (p = 0.19, corrected for all 6 pairs)" in sentences[3]
    assert len(tied_with_winner(board)) == 3
    assert "holds up" not in " ".join([*sentences, *(advice.text for advice in recommendations(board, None))])
    assert ": the best gains +0.04 dB over the best single model (" in recommendations(board, None)[-1].text


def test_one_seed_of_each_is_said_to_decide_nothing_between_configurations(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet")
    made.add(scores(24), decoder="attention")
    _, (board,) = read(made, seed_sd=None)
    text = " ".join(headline(board))
    assert "Images: it is better on all 12 test images: the trained networks differ on such images." in text
    assert "Seeds: every configuration was trained once." in text
    assert "p = " not in text
    assert "holds up" not in text


def test_a_lead_within_the_seed_noise_does_not_hold_up(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for seed, luck in enumerate((-0.4, 0.0, 0.4)):
        made.add(scores(25 + luck), decoder="wavelet", seed=seed)
        made.add(scores(24.8 + luck), decoder="attention", seed=seed)
    _, (board,) = read(made, seed_sd=None)
    assert board.noise is not None
    assert board.noise.sd == pytest.approx(0.4)
    assert headline(board)[2].startswith("Images: it is better on ")
    assert "the trained networks differ" in headline(board)[2]  # they do, and the configurations need not
    assert headline(board)[3].startswith(
        "Seeds: trainings of one configuration differ by 0.40 dB (standard deviation); with 3 seeds each, images and "
        "seeds together leave the lead open (p = ")


def test_advice_against_a_decoder_needs_differences_that_hold_up_among_all_of_their_kind(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    def avoid(noise: float) -> str:
        made = make_study(f"noise{round(10 * noise)}")
        for encoder, mean in (("vgg16:block1", 25), ("vgg16:block3", 20), ("ensemble", 25.2)):
            made.add(scores(mean, seed=1), encoder=encoder, decoder="wavelet")
            made.add(scores(mean - 0.5, noise, seed=2), encoder=encoder, decoder="attention")
        _, (board,) = read(made)
        return recommendations(board, None)[-1].text

    beaten = "The attention decoder with lr=0.0001, which was not tuned: at every layer another one is better"
    assert beaten in avoid(0.1)
    assert "attention decoder" not in avoid(3.0)
    assert ("Ensembles with lr=0.0001, which was not tuned: the best gains +0.20 dB over the best single model (+0."
            in avoid(0.2))


def test_advice_against_ensembles_needs_a_gain_that_is_known_to_be_small(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    def avoid(study: str, noise: float, images: int = 12, seed_sd: float | None = 0.01) -> str:
        made, names = make_study(study), [f"test/{number}.png" for number in range(images)]
        made.add(scores(25, seed=1)[:images], images=names, encoder="vgg16:block1")
        made.add(scores(25.2, noise, seed=2)[:images], images=names, encoder="ensemble")
        _, (board,) = read(made, seed_sd=seed_sd)
        return recommendations(board, None)[-1].text

    assert "Ensembles with lr=0.0001, which was not tuned: the best gains +0.2" in avoid("known", 0.01)
    nothing = "Nothing stands out on these test images."
    assert avoid("wide", 1.0) == nothing  # the interval reaches beyond half a decibel
    assert avoid("few", 0.01, images=2) == nothing
    assert avoid("one seed", 0.01, seed_sd=None) == nothing


def test_the_answer_says_what_it_does_not_rest_on(make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet")
    made.add(scores(24), decoder="attention")
    data, boards = read(made)
    assert standing(data, boards) == []
    made.add(scores(20), protocol="published")
    made.add(None, status="FAILED", decoder="frequency_aware", tags={"inversion.failure": "oom"})
    made.plan("vgg16:block3+wavelet")
    data, boards = read(made)
    assert standing(data, boards) == [
        "3 of 5 runs are finished; 1 failed; 1 run of another protocol is ranked separately."]


def test_the_summary_counts_what_failed_by_cause_and_what_never_began(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet", tags={"inversion.micro_batch": "1"})
    made.add(None, status="FAILED", decoder="attention", tags={"inversion.failure": "oom"})
    made.add(None, status="FAILED", decoder="attention", seed=1, tags={"inversion.failure": "oom"})
    made.add(None, status="KILLED", decoder="transposed_conv", tags={"inversion.failure": "interrupted"})
    made.add(None, status="KILLED", decoder="linear", tags={"inversion.failure": "time_limit"})
    made.plan("vgg16:block1+frequency_aware")
    data, boards = read(made)
    numbers = summary(data, boards)
    assert numbers["attempted"] == "5 of 6 runs"
    assert numbers["reached their time limit"] == "1"
    assert standing(data, boards) == ["1 of 6 runs are finished; 2 failed; 1 reached their time limit."]
    assert (numbers["finished"], numbers["failed"], numbers["interrupted or running"]) == ("1", "2 oom", "1")
    assert numbers["rescued from out-of-memory"] == "vgg16:block1+wavelet"
    assert data.missing == ["vgg16:block1+frequency_aware"]


def test_hours_are_those_of_work_where_they_were_logged(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), metrics={"train_seconds": 3500.0, "eval_seconds": 100.0})
    data, boards = read(made)
    assert summary(data, boards)["total time"] == "1.00 h (training and evaluation of 1 run)"


def test_trials_of_a_search_that_have_begun_since_they_were_listed_are_not_missing(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), lr=0.01)
    made.add(scores(24), lr=0.02)
    made.planned = [{"run": f"trial {number}", "digest": None, "config": None} for number in range(3)]
    data, _ = read(made)
    assert data.missing == ["trial 2"]


def test_training_that_had_not_converged_is_named_with_its_slope(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet")
    made.add(scores(24), decoder="attention")
    _, (board,) = read(made)
    steep, gentle = ([(epoch, rate * epoch) for epoch in (1, 2, 3)] for rate in (0.25, 0.125))
    first = fairness(board, {"vgg16:block1+attention": steep, "vgg16:block1+wavelet": gentle})[0]
    assert first.startswith("2 of 2 configurations had not converged when training ended (vgg16:block1+attention still "
                            "rose by 0.25 dB per epoch)")
    flat = [(epoch, 20.0) for epoch in (1, 2, 3)]
    level, short, *_ = fairness(board, {"vgg16:block1+attention": flat, "vgg16:block1+wavelet": flat[:2]})
    assert level.startswith("Training had levelled off in 1 of 2 configurations: ")
    assert short.startswith("Whether training had converged is not known for 1 of 2 configurations: ")


def test_a_rate_that_ends_at_its_minimum_is_not_taken_for_convergence(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet", schedule="cosine")
    made.add(scores(24), decoder="attention")
    _, (board,) = read(made)
    told, = (sentence for sentence in fairness(board, {}) if "cosine" in sentence)
    assert told.startswith("In 1 of 2 configurations the learning rate fell")
    rising = {item.label: [(epoch, 20.0 + epoch) for epoch in range(1, 6)] for item in board.configurations}
    said = " ".join(fairness(board, rising))
    assert "had not converged" in said
    assert "Their scores level off" not in said  # these do not
    assert "does not show that more epochs would not help" in told


def test_where_validation_would_choose_another_configuration_it_is_named(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet", metrics={"best/val_psnr": 23.0})
    made.add(scores(24), decoder="attention", metrics={"best/val_psnr": 24.0})
    _, (board,) = read(made)
    assert "By PSNR on the validation images, on which to choose, vgg16:block1+attention is first." in headline(board)
    agreed = make_study("agreed")
    agreed.add(scores(25), decoder="wavelet", metrics={"best/val_psnr": 24.5})
    agreed.add(scores(24), decoder="attention", metrics={"best/val_psnr": 24.0})
    _, (board,) = read(agreed)
    assert "validation images" not in " ".join(headline(board))
