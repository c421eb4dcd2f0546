"""What is ranked together is so by content, and a label stands for one configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from inversion.report import leaderboard
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.data.comparable import distinguished, groups_of
from inversion.report.data.study import StudyData
from inversion.report.published.feature_inversion import study as paper
from inversion.report.tables import costs, questions, rankings
from inversion.report.tables.findings import BoardEvidence
from inversion.report.tables.published import published_table
from inversion.tracking.connection import connect


def read(made: Any) -> tuple[StudyData, list[Board]]:
    data = collect(connect(), made.finish())
    return data, make_boards(data.runs, seed_sd=0.01)


def document(weights: str, content: dict[str, str], **identity: Any) -> dict[str, Any]:
    """What a run says of itself, as far as it matters here."""
    parameters = {"protocol": "image", "image_size": 64, "test_limit": 0}
    return {"parameters": {"weights": weights}, "data": {"name": "made"},
            "identity": {"parameters": parameters, "data": "d" * 64, "weights": content, "lpips": None, "recipe": 1,
                         **identity}}


def test_two_random_weights_are_never_ranked_together_and_no_label_stands_for_two_configurations(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for number, weights in enumerate(("random", "random:7")):
        for encoder in ("vgg16:block1", "resnet34:layer1", "ensemble"):
            made.add(scores(25 + 5 * number), encoder=encoder, weights=weights)
    data, boards = read(made)
    assert [len(board.configurations) for board in boards] == [3, 3]
    for board in boards:
        assert len({run.parameters["weights"] for item in board.configurations for run in item.runs.values()}) == 1
        assert all(len(item.runs) == 1 for item in board.configurations)
        assert len(board.by_label) == len(board.configurations)
    assert {board.title.partition("weights ")[2].partition(",")[0] for board in boards} == {"random", "random:7"}
    ranks = [(row.group[2], row.rank) for row in leaderboard.leaderboard([run.run for run in data.runs])]
    assert sorted(ranks) == [(weights, rank) for weights in ("random", "random:7") for rank in (1, 2, 3)]


def test_a_weights_file_counts_by_its_content_and_not_by_its_place() -> None:
    same = groups_of([document("/a/vgg16.pth", {"vgg16": "sha256:1"}), document("/b/copy.pth", {"vgg16": "sha256:1"})])
    assert same[0] == same[1]
    changed = groups_of([document("/a/net.pth", {"vgg16": "sha256:1"}), document("/a/net.pth", {"vgg16": "sha256:2"})])
    assert changed[0] != changed[1]


def test_a_folder_of_weights_is_one_for_all_its_encoders() -> None:
    one, two, three = "sha256:1", "sha256:2", "sha256:3"
    groups = groups_of([document("/a", {"vgg16": one}), document("/a", {"resnet34": two}),
                        document("/copy", {"vgg16": one, "resnet34": two}), document("/other", {"resnet34": three})])
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_photographs_count_by_their_digest_and_not_by_the_folder_s_name(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), data="here")
    made.add(scores(24), data="there", decoder="wavelet")
    made.add(scores(23), data="here", decoder="attention", identity={"data": "e" * 64})
    _, boards = read(made)
    assert [[item.decoder for item in board.configurations] for board in boards] == [
        ["transposed_conv", "wavelet"], ["attention"]]
    assert "data here dddddddd" in boards[0].title


def test_the_precision_parts_nothing_and_is_shown_where_it_differs(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet", precision="bf16")
    made.add(scores(24), decoder="attention", precision="fp32")
    _, (board,) = read(made)
    table = rankings.leaderboard(board)
    assert [row["precision"] for row in table.rows] == ["bf16", "fp32"]
    assert "precision" in [column.title for column in table.shown]
    assert "Runs of different precision are ranked together" in table.note
    assert [row["holds"] for row in questions.decoders(board).rows[1:]] == ["yes"]


def test_the_same_run_in_two_precisions_has_two_labels(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), precision="bf16")
    made.add(scores(24), precision="fp32")
    data, (board,) = read(made)
    rows = leaderboard.leaderboard([run.run for run in data.runs])
    assert [row.values["run"] for row in rows] == list(board.by_label)
    assert list(board.by_label) == ["vgg16:block1+transposed_conv precision=bf16",
                                    "vgg16:block1+transposed_conv precision=fp32"]


def test_what_no_parameter_tells_apart_gets_digits_of_its_own() -> None:
    one, two = document("random", {"vgg16": "x"}), document("random", {"vgg16": "y"})
    labels = distinguished(["same", "same", "other"], [one, two, one])
    assert labels[2] == "other"
    assert len(set(labels)) == 3
    assert all(re.fullmatch("same #[0-9a-f]{6}", label) for label in labels[:2])
    with pytest.raises(AssertionError):
        distinguished(["same", "same"], [one, one])


@pytest.fixture
def grown(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Board:
    """A study that was grown with more epochs; by validation 60 are better, by the test 30."""
    made = make_study()
    for epochs, gain, validation in ((30, 0.2, 20.0), (60, 0.0, 21.0)):
        for encoder, mean in (("vgg16:block1", 25), ("vgg16:block3", 20), ("resnet34:layer1", 22), ("ensemble", 26)):
            for decoder in ("transposed_conv", "attention"):
                made.add(scores(mean + gain - (decoder == "attention")), encoder=encoder, decoder=decoder,
                         epochs=epochs, metrics={"best/val_psnr": validation})
    _, (board,) = read(made)
    return board


def test_the_best_by_validation_stands_for_its_variants_in_findings_and_published_figures(grown: Board) -> None:
    name = "vgg16:block1+transposed_conv"
    assert grown.chosen[name].label == f"{name} epochs=60"
    assert name in BoardEvidence(grown).configurations()
    assert BoardEvidence(grown).score(name) == pytest.approx(25.0)
    row, = (row for row in published_table(paper(), grown).rows if row["configuration"] == name)
    assert (row["psnr"], row["published_psnr"]) == (pytest.approx(25.0), 17.43)
    assert f"{name} epochs=60" in grown.choice
    assert grown.choice in published_table(paper(), grown).note
    assert {row["published_psnr"] for row in rankings.leaderboard(grown, [paper()]).rows
            if row["configuration"].startswith(name)} == {17.43}
    assert questions.baseline(grown, paper()).shown[1].title == "resnet34:layer1+attention epochs=60"


def test_without_validation_the_best_by_the_test_stands_for_its_variants(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), epochs=30)
    made.add(scores(24), epochs=60, metrics={"best/val_psnr": 30.0})
    _, (board,) = read(made)
    assert board.chosen["vgg16:block1+transposed_conv"].label.endswith("epochs=30")


def test_only_configurations_with_equal_other_parameters_are_set_beside_each_other(grown: Board) -> None:
    for table, beside in ((questions.depth(grown), "shallow"), (questions.ensembles(grown), "beside"),
                          (questions.decoders(grown), "beside"), (questions.architectures(grown), "beside"),
                          (questions.resolution(grown), "beside")):
        assert table.rows
        assert {row["configuration"].rpartition(" ")[2] for row in table.rows} == {"epochs=30", "epochs=60"}
        for row in table.rows:
            assert row["configuration"].rpartition(" ")[2] == row[beside].rpartition(" ")[2], table.key
    row, = (row for row in costs.costs(grown).rows if row["configuration"] == "ensemble+weighted+attention epochs=60")
    assert (row["reference_gain"], row["best_gain"]) == (pytest.approx(1.0), pytest.approx(0.0))
