"""What is computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion.training import feature_cache as module
from inversion.training.cotraining import CoTrainingGroup
from inversion.training.feature_cache import FeatureCache
from inversion.training.trainer import Trainer


def maker(made: list[int], number: int, floats: int = 100) -> Callable[[], list[Tensor]]:
    def make() -> list[Tensor]:
        made.append(number)
        return [torch.full((floats,), float(number))]

    return make


def test_what_has_room_is_made_once_and_the_rest_each_time() -> None:
    made: list[int] = []
    kept = FeatureCache(room=900)
    for _ in range(2):
        for number in range(3):  # 400 bytes each
            value, = kept.get(number, maker(made, number))
            assert torch.equal(value, torch.full((100,), float(number)))
    assert made == [0, 1, 2, 2]
    assert kept.get("small", maker(made, 9, floats=25)) is kept.get("small", maker(made, 9, floats=25))
    assert made == [0, 1, 2, 2, 9]


@pytest.mark.parametrize(("free", "room"), [(10**12, module.KEPT_BYTES), (2000, 100), (0, 0)])
def test_it_takes_no_more_than_a_share_of_the_memory_that_is_free(
        free: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: free)
    kept = FeatureCache()
    kept.get("large", maker([], 0, floats=10**3))
    assert kept.room == (room - 4000 if room > 4000 else room)


def test_validation_encodes_its_images_once_and_scores_as_if_it_did_so_every_epoch(
        make_trainer: Callable[..., Trainer]) -> None:
    results = []
    for room in (None, 0):
        trainer = make_trainer(f"room {room}")
        trainer.group = CoTrainingGroup()
        trainer.group.validation = FeatureCache(room)
        counted, encode = [], trainer.model.encode

        def count(images: Tensor, *seeds: Any, encode: Callable[..., list[Tensor]] = encode) -> list[Tensor]:
            if not torch.is_grad_enabled():
                counted.append(len(images))  # noqa: B023
            return encode(images, *seeds)

        trainer.model.encode = count
        trainer.fit()
        results.append((len(counted), trainer.state.best_loss, trainer.state.last_metrics["val/psnr"]))
    kept, anew = results
    assert anew[0] - kept[0] == 3  # of four epochs' validations, all but the first
    assert kept[1:] == anew[1:]
