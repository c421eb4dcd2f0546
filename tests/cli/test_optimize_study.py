"""``inversion optimize --every-layer``: all encoder layers of a study at several numbers of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.report.build import make_report
from inversion.report.data.collect import collect
from inversion.tracking.connection import connect
from inversion.tracking.search import KIND
from inversion.tracking.study import STUDY

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


@pytest.fixture
def study(train: Command, all_runs: Runs) -> str:
    """A study of two runs at one layer, one at another, and one of both together."""
    for values in ({"encoder": "vgg16:block1"}, {"encoder": "vgg16:block1", "decoder": "linear"},
                   {"encoder": "vgg16:block2"}, {"encoder": "vgg16:block1+vgg16:block2"}):
        assert train(**values, seed=1).code == 0
    runs = all_runs()
    client = MlflowClient()
    parent = client.create_run(runs[0].info.experiment_id, tags={KIND: "study", STUDY: "layers"})
    client.set_terminated(parent.info.run_id)
    for run in runs:
        client.set_tag(run.info.run_id, STUDY, "layers")
    return "layers"


def optimised(runs: list[Run]) -> list[tuple[str, str]]:
    return sorted((f"{run.data.params['encoder']}:{run.data.params['layer']}", run.data.params["steps"]) for run in runs
                  if run.data.tags.get(KIND) == "optimize")


def test_every_layer_is_inverted_once_with_each_number_of_steps_and_the_report_has_it(
        study: str, inversion: Command, all_runs: Runs) -> None:
    words = ("optimize", "--study", study, "--every-layer", "--steps", "2,3")
    outcome = inversion(*words)
    assert outcome.code == 0, outcome.err
    expected = [("vgg16:block1", "2"), ("vgg16:block1", "3"), ("vgg16:block2", "2"), ("vgg16:block2", "3")]
    assert optimised(all_runs()) == expected
    done = next(run for run in all_runs() if run.data.tags.get(KIND) == "optimize")
    assert done.data.tags[STUDY] == study
    assert (done.data.params["image_size"], done.data.params["weights"]) == ("32", "random")
    again = inversion(*words)
    assert "every layer has been inverted with 2 and 3 steps" in again.out
    assert optimised(all_runs()) == expected
    report = make_report(connect(), collect(connect(), study))
    table = next(table for table in report.tables if table.key == "floors")
    rows = {row["features"]: row for row in table.rows}
    assert set(rows) == {"vgg16:block1", "vgg16:block2", "vgg16:block1+vgg16:block2 (weighted)"}
    first = rows["vgg16:block1"]
    assert first["training_colour"] <= first["mean_colour"] < first["bicubic"]
    assert {"linear", "optimised_2", "optimised_3", "over_linear", "over_bicubic"} <= {
        name for name, value in first.items() if value is not None}
    assert rows["vgg16:block2"]["linear"] is None
    assert "floors" in report.charts


def test_given_parameters_take_the_place_of_the_studys(study: str, inversion: Command, all_runs: Runs) -> None:
    outcome = inversion("optimize", "--study", study, "--every-layer", "--steps", "2", "--test-limit", "1",
                        "--seed", "3")
    assert outcome.code == 0, outcome.err
    done = [run for run in all_runs() if run.data.tags.get(KIND) == "optimize"]
    assert {run.data.params["test_limit"] for run in done} == {"1"}
    assert {run.data.params["seed"] for run in done} == {"3"}


@pytest.mark.parametrize(("words", "said"), [
    (("--every-layer",), "--every-layer takes its layers from a study: give --study NAME"),
    (("--every-layer", "--study", "x", "--encoder", "vgg16"), "leave out --encoder"),
    (("--steps", "200,many"), "steps: 'many' is not allowed"),
    (("--steps", "200,0"), "steps: '0' is not allowed"),
])
def test_what_makes_no_sense_is_refused(inversion: Command, workplace: object, words: tuple[str, ...], said: str
                                        ) -> None:
    outcome = inversion("optimize", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_several_numbers_of_steps_make_a_run_each_without_a_study_too(inversion: Command, all_runs: Runs,
                                                                      photo_folder: object) -> None:
    outcome = inversion("optimize", "--encoder", "vgg16:block1", "--data", str(photo_folder), "--weights", "random",
                        "--lpips-weights", "off", "--image-size", "32", "--steps", "2,3,2")
    assert outcome.code == 0, outcome.err
    assert optimised(all_runs()) == [("vgg16:block1", "2"), ("vgg16:block1", "3")]
