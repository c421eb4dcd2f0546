"""Quantised features beside JPEG, and resolution against the number of values, on studies whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.models.encoders.catalog import parse_encoders
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.data.rates import jpeg_line
from inversion.report.render import charts
from inversion.report.seed_plan import plan_seeds
from inversion.report.tables import questions
from inversion.report.tables.rates import rates
from inversion.report.tables.values import answers, resolution_or_values
from inversion.tracking.connection import connect
from tests.report.conftest import IMAGES

Make = Callable[..., Any]


def add(made: Any, scores: Any, encoder: str, **more: Any) -> str:
    """A run with the metrics of its features' size, as ``inversion train`` logs them."""
    cut, = parse_encoders(encoder)
    shape, bits = cut.shape(64), cut.bits(64)
    rate = {} if bits is None else {"feature_bits_per_pixel": bits / 64**2}
    run_id: str = made.add(scores, encoder=encoder, metrics={"feature_channels": float(shape.channels), **rate}, **more)
    return run_id


def jpeg(images: list[str] = IMAGES, offset: float = 0.0) -> pd.DataFrame:
    """Twice the bits are 6 dB more; a file has 1 bit per pixel more than its scan. Images differ by 2 dB."""
    rows = [{"image": image, "quality": quality, "bits_per_pixel": rate + 1, "scan_bits_per_pixel": rate,
             "psnr": psnr + offset + (1 if number % 2 else -1)}
            for quality, rate, psnr in ((10, 0.5, 20.0), (50, 1.0, 26.0), (90, 2.0, 32.0))
            for number, image in enumerate(images)]
    return pd.DataFrame(rows)


def log_jpeg(made: Any, run_id: str, table: pd.DataFrame, folder: Path) -> None:
    file = folder / "jpeg_per_image.parquet"
    table.to_parquet(file)
    made.client.log_artifact(run_id, str(file), "metrics")


def board_of(made: Any, seed_sd: float | None = 0.01) -> Board:
    board, = make_boards(collect(connect(), made.finish()).runs, seed_sd)
    return board


@pytest.fixture
def rated(make_study: Make, scores: Make, tmp_path: Path) -> Any:
    """A study with two rates of one map, one of another, and one map that is not quantised."""
    made = make_study()
    run_id = add(made, scores(22), "vgg16:block1/pool=4/bits=1")
    add(made, scores(25), "vgg16:block1/pool=4/bits=2")
    add(made, scores(24), "vgg16:block1/pool=2/channels=pca:4/bits=8")
    add(made, scores(30), "vgg16:block1")
    log_jpeg(made, run_id, jpeg(), tmp_path)
    return made


def test_quantised_features_stand_beside_jpeg_at_the_same_rate(rated: Any) -> None:
    board = board_of(rated)
    rows = {row["encoder"]: row for row in rates(board, jpeg_line(connect(), board)).rows}
    assert {name: row["rate"] for name, row in rows.items()} == {
        "vgg16:block1/pool=4/bits=1": 1.0, "vgg16:block1/pool=4/bits=2": 2.0,
        "vgg16:block1/pool=2/channels=pca:4/bits=8": 2.0}
    one, two = rows["vgg16:block1/pool=4/bits=1"], rows["vgg16:block1/pool=4/bits=2"]
    assert (one["scan_psnr"], two["scan_psnr"]) == pytest.approx((26, 32))
    assert one["scan_gain"] == pytest.approx(22 - 26)
    assert two["file_psnr"] == pytest.approx(26)
    assert two["file_gain"] == pytest.approx(25 - 26)
    assert one["file_psnr"] is None  # no file is that small
    assert "| not reached |" in rates(board, jpeg_line(connect(), board)).markdown()


def test_between_two_qualities_jpeg_is_interpolated_over_the_logarithm_of_the_rate(rated: Any) -> None:
    line = jpeg_line(connect(), board_of(rated))
    assert line is not None
    assert line.scan_psnr(2**-0.5) == pytest.approx(23)
    assert (line.scan_psnr(0.4), line.scan_psnr(2.1)) == (None, None)


@pytest.mark.parametrize("damage", [
    lambda table: table[table["image"] != IMAGES[0]], lambda table: table.iloc[1:],
    lambda table: table.iloc[[0, *range(36)]],
    lambda table: table.drop(columns="psnr"), lambda table: table.assign(bits_per_pixel="many"),
    lambda table: table.assign(scan_bits_per_pixel=0.0), lambda table: table.assign(psnr=np.nan)])
def test_a_damaged_line_is_left_out_and_another_runs_is_taken(
        damage: Callable[[pd.DataFrame], pd.DataFrame], make_study: Make, scores: Make, tmp_path: Path) -> None:
    made = make_study()
    first, second = (add(made, scores(20 + bits), f"vgg16:block1/pool=4/bits={bits}") for bits in (1, 2))
    log_jpeg(made, first, damage(jpeg()), tmp_path)
    board = board_of(made)
    assert jpeg_line(connect(), board) is None
    log_jpeg(made, second, jpeg(offset=1.0), tmp_path)
    line = jpeg_line(connect(), board)
    assert line is not None
    np.testing.assert_allclose(line.psnr, [21, 27, 33])


def test_the_chart_has_a_line_for_each_way_to_reduce_and_two_for_jpeg(rated: Any) -> None:
    board = board_of(rated)
    figure = charts.rate(board, jpeg_line(connect(), board))
    lines = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert list(lines) == ["vgg16:block1/pool=4+transposed_conv",
                           "vgg16:block1/pool=2/channels=pca:4+transposed_conv", "JPEG, scan alone",
                           "JPEG, whole file"]
    assert lines["vgg16:block1/pool=4+transposed_conv"][0] == [1, 2]
    assert lines["vgg16:block1/pool=4+transposed_conv"][1] == pytest.approx([22, 25])
    assert lines["JPEG, whole file"][0] == [1.5, 2, 3]
    assert len(charts.rate(board, None).data) == 2


def test_the_page_has_table_and_chart_and_a_study_without_rates_has_neither(
        rated: Any, make_study: Make, scores: Make, tmp_path: Path) -> None:
    rated.finish()
    plain = make_study("plain")
    add(plain, scores(20), "vgg16:block1")
    add(plain, scores(19), "vgg16:block2")
    plain.finish()
    for name, there in (("made", True), ("plain", False)):
        assert run_command(cli, [name, "--output", str(tmp_path / name)]) == 0
        page = (tmp_path / name / "index.html").read_text()
        assert ("figure-rate" in page, "table-rates" in page, 'href="#rate-section"' in page) == (there,) * 3
        assert (tmp_path / name / "tables" / "rates.csv").exists() == there
        assert (tmp_path / name / "tables" / "resolution-or-values.csv").exists() is False


def fill(made: Any, scores: Make, seeds: tuple[int, ...] = (0,)) -> None:
    """At 64 pixels: 16,384 values at 32×32, 16×16 and 8×8, and 1,024 locations with 64, 16 and 4 channels."""
    means = {"vgg16:block1": 30, "vgg16:block1/pool=2": 24, "vgg16:block1/channels=16": 26, "vgg16:block3": 20,
             "vgg16:block1/channels=4": 26.001, "vgg16:block1/pool=2/bits=4": 23, "resnet34:layer1": 25}
    for encoder, mean in means.items():
        for seed in seeds:
            add(made, scores(mean, seed=seed), encoder, seed=seed)


def test_maps_with_equal_values_and_with_equal_resolution_are_compared_within_a_network(
        make_study: Make, scores: Make) -> None:
    made = make_study()
    fill(made, scores)
    table = resolution_or_values(board_of(made))
    short = [(row["equal"], row["first"].partition("+")[0], row["second"].partition("+")[0], row["layer"],
              round(row["difference"], 2), row["holds"]) for row in table.rows]
    assert short == [
        ("16,384 values", "vgg16:block1/channels=16", "vgg16:block1/pool=2", "same", 2.0, "yes"),
        ("16,384 values", "vgg16:block1/channels=16", "vgg16:block3", "other", 6.0, "yes"),
        ("16,384 values", "vgg16:block1/pool=2", "vgg16:block3", "other", 4.0, "yes"),
        ("1,024 locations", "vgg16:block1", "vgg16:block1/channels=16", "same", 4.0, "yes"),
        ("1,024 locations", "vgg16:block1", "vgg16:block1/channels=4", "same", 4.0, "yes")]
    assert table.note.startswith(
        "With equal numbers of values, the finer map is better in 1 of 1 comparisons within one layer, and worse in 0; "
        "0 are undecided. With equal resolution, the map with more values is better in 2 of 2 comparisons")


def test_with_one_seed_and_no_known_noise_all_is_undecided(make_study: Make, scores: Make) -> None:
    made = make_study()
    fill(made, scores)
    table = resolution_or_values(board_of(made, seed_sd=None))
    assert {row["holds"] for row in table.rows} == {"one seed"}
    assert [sentence.partition("one layer, ")[2] for sentence in answers(table.rows)] == [
        "and worse in 0; 1 is undecided.", "and worse in 0; 2 are undecided."]


def test_seeds_decide_it_and_the_rows_are_one_family(make_study: Make, scores: Make) -> None:
    made = make_study()
    fill(made, scores, seeds=(0, 1, 2))
    board = board_of(made, seed_sd=None)
    rows = resolution_or_values(board).rows
    assert {row["holds"] for row in rows} == {"yes"}
    first, second = (board.by_label[rows[0][side]] for side in ("first", "second"))
    assert rows[0]["p"] >= board.compare_alone(first, second).p


def test_the_plan_for_seeds_counts_the_comparisons_of_one_layer(make_study: Make, scores: Make) -> None:
    made = make_study()
    fill(made, scores)
    plan = plan_seeds(board_of(made, seed_sd=None))
    assert plan is not None
    # those three, and whether the best one is better than the second
    assert (plan.decides, plan.undecided) == (4, 4)
    assert {item.encoder for item in plan.configurations} == {
        "vgg16:block1", "vgg16:block1/channels=16", "vgg16:block1/channels=4", "vgg16:block1/pool=2"}


def test_a_deeper_layer_is_compared_under_the_same_modifiers(make_study: Make, scores: Make) -> None:
    made = make_study()
    for encoder, mean in (("vgg16:block1", 30), ("vgg16:block2", 25), ("vgg16:block1/bits=4", 29),
                          ("vgg16:block2/bits=4", 24), ("vgg16:block3/bits=2", 15)):
        add(made, scores(mean), encoder)
    rows = questions.depth(board_of(made)).rows
    assert {(row["encoder"], row["shallow"].partition("+")[0]) for row in rows} == {
        ("vgg16:block2", "vgg16:block1"), ("vgg16:block2/bits=4", "vgg16:block1/bits=4")}


def test_architectures_are_compared_as_they_are(make_study: Make, scores: Make) -> None:
    made = make_study()
    for encoder, mean in (("vgg16:block1/pool=2", 30), ("vgg16:block1", 25), ("resnet34:layer1", 24)):
        add(made, scores(mean), encoder)
    assert [row["encoder"] for row in questions.architectures(board_of(made)).rows] == ["vgg16:block1",
                                                                                      "resnet34:layer1"]
