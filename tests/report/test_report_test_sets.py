"""The report of a study whose trained models were scored on further images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.tables.test_sets import test_sets as tables_of
from inversion.tracking.connection import connect

DECODERS = {"attention": (30.0, 25.0), "wavelet": (28.0, 22.0), "linear": (26.0, 23.0), "transposed_conv": (24.0, 20.0)}
"""PSNR on the test images and on a holiday, where two change places."""


def tables(made: Any) -> list[Any]:
    data = collect(connect(), made.finish())
    return tables_of(data, make_boards(data.runs)[0])


def test_each_set_has_a_table_and_the_agreement_of_its_ranking(make_study: Callable[..., Any]) -> None:
    made = make_study()
    runs = {name: made.add([own] * 12, decoder=name) for name, (own, _) in DECODERS.items()}
    for name, (_, there) in DECODERS.items():
        made.evaluate(runs[name], [1.0] * 4)  # of which the newest counts
        made.evaluate(runs[name], [there + 1, there - 1, there, there], warnings=["two were trained on"])
    seeds = [made.add([27.0] * 12, decoder="residual", seed=seed) for seed in (0, 1)]
    made.evaluate(seeds[0], [40.0] * 4)
    made.evaluate(runs["linear"], [50.0] * 12, "made", own=True)  # the study's own test images, scored again
    all_sets, holiday = tables(made)
    row, = all_sets.rows
    assert (row["set"], row["images"], row["configurations"], row["incomplete"]) == ("holiday", 4, 4, 1)
    assert (row["tau_psnr"], row["tau_lpips"]) == (pytest.approx((5 - 1) / 6), None)
    assert (row["swapped"], row["pairs"], row["warning"]) == (1, 6, "two were trained on")
    assert row["best"] == row["own_best"] == "vgg16:block1+attention"
    found = [(line["rank"], line["own_rank"], line["configuration"].split("+")[1], line["psnr"], line["seeds"])
             for line in holiday.rows]
    assert found == [(None, None, "residual", 40.0, 1), (1, 1, "attention", 25.0, 1), (2, 3, "linear", 23.0, 1),
                     (3, 2, "wavelet", 22.0, 1), (4, 4, "transposed_conv", 20.0, 1)]
    assert holiday.rows[1]["psnr_std"] == pytest.approx(0.5 ** 0.5)
    assert "On holiday, 4 images" in holiday.markdown()


def test_sets_of_one_name_are_told_apart_and_few_configurations_have_no_correlation(
    make_study: Callable[..., Any]
) -> None:
    made = make_study()
    run = made.add([25.0] * 12)
    made.evaluate(run, [20.0] * 4)
    made.evaluate(run, [22.0] * 4, digest="0" * 64)
    all_sets, *each = tables(made)
    assert [row["set"] for row in all_sets.rows] == ["holiday 00000000, lpips_weights off",
                                                     "holiday holidayh, lpips_weights off"]
    assert [row["tau_psnr"] for row in all_sets.rows] == [None, None]
    assert [table.rows[0]["psnr"] for table in each] == [22.0, 20.0]
