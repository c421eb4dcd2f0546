"""What a PSNR counts as in means: finite and continuous, whatever is exact."""

from __future__ import annotations

import math

import pytest

from inversion.decibels import count_exact, counted, decibels, exact_note, is_a_mean
from inversion.errors import NonFiniteError
from inversion.training import evaluate
from inversion.training.evaluate import Scores


def test_an_exact_image_counts_as_100_db_and_what_is_broken_stays_broken() -> None:
    values = counted([math.inf, 812.0, 100.0, 99.5, 20.0, 0.0, -math.inf])
    assert values.tolist() == [100.0, 100.0, 100.0, 99.5, 20.0, 0.0, -math.inf]
    assert math.isnan(counted([math.nan])[0])
    assert count_exact([math.inf, 812.0, 99.5, math.nan]) == 2


def test_a_better_image_never_lowers_a_mean() -> None:
    means = [float(counted([20.0, psnr]).mean()) for psnr in (30.0, 99.0, 120.0, 870.0, math.inf)]
    assert means == sorted(means)
    assert means[-1] == 60.0


@pytest.mark.parametrize(("psnr", "text"), [(math.inf, "exact"), (140.0, "exact"), (23.456, "23.46 dB")])
def test_an_image_is_shown_as_exact_or_in_decibels(psnr: float, text: str) -> None:
    assert decibels(psnr) == text


def test_what_earlier_versions_logged_is_no_mean() -> None:
    assert [is_a_mean(value) for value in (25.0, 100.0, 1.7976931348623157e308, math.inf, math.nan)] == [
        True, True, False, False, False]


def test_the_test_metrics_are_finite_and_say_how_many_images_were_exact() -> None:
    values = evaluate.final_metrics(Scores(psnr=[math.inf, 20.0, 30.0], ssim=[1.0, 0.5, 0.6], mse=[0.0, 0.01, 0.001]))
    assert values["test/psnr"] == pytest.approx(50.0)
    assert values["test/psnr_std"] == pytest.approx((3800 / 3) ** 0.5)
    assert values["test/exact_images"] == 1
    assert "test/exact_images" not in evaluate.final_metrics(Scores(psnr=[20.0], ssim=[0.5], mse=[0.01]))


def test_a_single_image_and_a_set_of_exact_ones_have_numbers_too() -> None:
    assert evaluate.final_metrics(Scores(psnr=[20.0], ssim=[0.5], mse=[0.01]))["test/psnr_std"] == 0.0
    values = evaluate.final_metrics(Scores(psnr=[math.inf] * 2, ssim=[1.0] * 2, mse=[0.0] * 2))
    assert (values["test/psnr"], values["test/psnr_std"], values["test/exact_images"]) == (100.0, 0.0, 2)


def test_an_image_without_scores_is_named() -> None:
    scores = Scores(psnr=[20.0, math.nan], ssim=[0.5, math.nan], mse=[0.01, math.nan])
    with pytest.raises(NonFiniteError, match=r"test image b\.png: its psnr is nan"):
        scores.require_numbers(["a.png", "b.png"])
    Scores(psnr=[math.inf], ssim=[1.0], mse=[0.0]).require_numbers(["a.png"])


def test_the_note_beside_a_mean() -> None:
    assert [exact_note(count) for count in (0, 1, 2)] == [
        "", "1 image exact, counted as 100 dB", "2 images exact, counted as 100 dB"]
