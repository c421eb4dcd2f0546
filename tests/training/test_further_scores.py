"""Scores of the test images that training does not use: MS-SSIM and features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch

from inversion.metrics import FURTHER, METRICS, feature_scores
from inversion.models.encoders.build import Encoder
from inversion.training.device import Engine
from inversion.training.evaluate import Scores, evaluate, final_metrics
from inversion.training.further_scores import FurtherScores
from inversion.training.trainer import Trainer


def engine(protocol: Literal["image", "published"] = "image") -> Engine:
    return Engine(torch.device("cpu"), "fp32", protocol)


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    values = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return values.contiguous(memory_format=torch.channels_last)


def test_cosine_and_error_of_features_are_numpys() -> None:
    one, other = (torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    cosine, error = feature_scores([one], [other])
    for index in range(2):
        x, y = (values[index].double().flatten().numpy() for values in (one, other))
        assert cosine[index].item() == pytest.approx(x @ y / math.sqrt((x @ x) * (y @ y)), abs=1e-6)
        assert error[index].item() == pytest.approx(math.sqrt(((x - y) ** 2).sum() / (x @ x)), abs=1e-6)


def test_features_of_half_the_size_point_the_same_way_and_miss_by_half() -> None:
    features = torch.rand(2, 4, 3, 3)
    cosine, error = feature_scores([features], [features / 2])
    assert cosine.tolist() == pytest.approx([1, 1])
    assert error.tolist() == pytest.approx([0.5, 0.5])


def test_of_several_encoders_the_mean_counts_whatever_their_scale() -> None:
    one, other = torch.rand(2, 4, 3, 3), torch.rand(2, 8, 2, 2)
    small, large = feature_scores([one], [one / 2]), feature_scores([1000 * other], [0 * other])
    for both, first, second in zip(feature_scores([one, 1000 * other], [one / 2, 0 * other]), small, large,
                                   strict=True):
        assert both.tolist() == pytest.approx(((first + second) / 2).tolist())


@pytest.mark.parametrize("features", [torch.rand(2, 4, 3, 3), torch.zeros(2, 4, 3, 3)])
def test_equal_features_have_cosine_1_and_error_0_exactly(features: torch.Tensor) -> None:
    cosine, error = feature_scores([features], [features.clone()])
    assert cosine.tolist() == [1.0, 1.0]
    assert error.tolist() == [0.0, 0.0]


def test_an_exact_reconstruction_has_the_best_scores(frozen: Callable[..., Encoder]) -> None:
    encoder = frozen("vgg16:block1", 192)
    exact = images(2, 192)
    found = FurtherScores(engine(), 192).score(exact.contiguous(), exact, [encoder(exact)], lambda x: [encoder(x)])
    assert found == {"ms_ssim": [1.0, 1.0], "feature_cosine": [1.0, 1.0], "feature_error": [0.0, 0.0]}


def test_a_grey_image_has_other_features(frozen: Callable[..., Encoder]) -> None:
    encoder, originals = frozen("vgg16:block1", 32), images()
    found = FurtherScores(engine(), 32).score(torch.full_like(originals, 0.5), originals, [encoder(originals)],
                                              lambda x: [encoder(x)])
    assert all(error > 0.1 for error in found["feature_error"])
    assert all(cosine < 0.99 for cosine in found["feature_cosine"])


def test_small_images_have_no_ms_ssim_and_the_published_protocol_no_feature_scores() -> None:
    assert FurtherScores(engine(), 224).absent == []
    small = FurtherScores(engine("published"), 64)
    assert [reason.partition(":")[0] for reason in small.absent] == ["no MS-SSIM", "no feature scores"]
    assert small.score(images(), images(), [], lambda _: []) == {}


def test_a_test_has_them_and_a_validation_has_not(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    crops = trainer.data.validation
    plain = evaluate(trainer.model, crops, trainer.loss, trainer.engine)
    assert not any(getattr(plain, name) for name in FURTHER)
    assert "eval_further_seconds" not in final_metrics(plain)
    scores = evaluate(trainer.model, crops, trainer.loss, trainer.engine, further=FurtherScores(trainer.engine, 32))
    assert (scores.psnr, scores.ssim, scores.lpips) == (plain.psnr, plain.ssim, plain.lpips)
    assert len(scores.feature_error) == len(scores.feature_cosine) == len(crops)
    values = final_metrics(scores)
    assert values["test/feature_error"] == pytest.approx(sum(scores.feature_error) / len(crops))
    assert {"test/feature_cosine", "test/feature_error_std", "eval_further_seconds"} <= values.keys()
    assert "test/ms_ssim" not in values


def test_they_do_not_depend_on_the_other_images_of_the_batch(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    crops, further = trainer.data.validation, FurtherScores(trainer.engine, 32)
    together = evaluate(trainer.model, crops, trainer.loss, trainer.engine, further=further)
    alone = evaluate(trainer.model, crops[1:2], trainer.loss, trainer.engine, further=further)
    assert alone.feature_error == pytest.approx(together.feature_error[1:2], abs=1e-5)


def test_every_metric_has_a_list_of_scores() -> None:
    assert all(getattr(Scores(), name) == [] for name in METRICS)
