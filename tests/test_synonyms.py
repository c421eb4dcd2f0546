"""Other tools' names: what is suggested for each of them exists, and none of them hides a name of ours."""

from __future__ import annotations

from collections.abc import Mapping

import click
import pytest
import timm

from inversion import synonyms
from inversion.cli import evaluate, optimize, reconstruct, report, sweep, train
from inversion.config.optimize_config import OptimizeSettings
from inversion.config.run_config import RunConfig
from inversion.data.datasets import NAMES
from inversion.models.decoders import decoders
from inversion.models.encoders import ENCODERS
from inversion.models.fusion import fusions
from inversion.objectives import OBJECTIVES
from inversion.sweeps.spec import documents, search_section
from inversion.sweeps.spec.search import PRUNERS, SAMPLERS
from inversion.synonyms import Meaning, meaning_of, plain

COMMANDS: list[click.Command] = [train.command, optimize.command, evaluate.command, reconstruct.command, sweep.cli,
                                 report.cli]
OPTIONS = {option.removeprefix("--").replace("-", "_") for command in COMMANDS for parameter in command.params
           for option in parameter.opts}
PLACES: dict[str, tuple[Mapping[str, Meaning], set[str]]] = {
    "parameters": (synonyms.PARAMETERS, {*RunConfig.model_fields, *OptimizeSettings.model_fields, *OPTIONS}),
    "keys": (synonyms.SPEC_KEYS, {*documents.KEYS, *search_section.KEYS, "name", "type", "low", "high", "log", "step",
                                  "choices", "run_time"}),
    "metrics": (synonyms.METRICS, set(OBJECTIVES)), "weights": (synonyms.WEIGHTS, {"imagenet", "random"}),
    "data": (synonyms.DATA, set(NAMES)), "decoder": (synonyms.PARTS["decoder"], set(decoders.names())),
    "fusion": (synonyms.PARTS["fusion"], set(fusions.names())), "sampler": (synonyms.PARTS["sampler"], set(SAMPLERS)),
    "pruner": (synonyms.PARTS["pruner"], set(PRUNERS)),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_suggestion_exists(place: str) -> None:
    table, known = PLACES[place]
    assert {name for meaning in table.values() for name in meaning.names} <= known
    assert all(meaning.names or meaning.instead for meaning in table.values())


def test_every_encoder_that_is_suggested_exists_with_its_weights() -> None:
    suggested = {name for meaning in synonyms.ENCODERS.values() for name in meaning.names}
    of_timm = {name.removeprefix("timm/") for name in suggested - set(ENCODERS)}
    tagged = {name for name in of_timm if "." in name}
    assert suggested - set(ENCODERS) == {f"timm/{name}" for name in of_timm}
    assert of_timm - tagged <= set(timm.list_models())
    assert of_timm <= set(timm.list_models(pretrained=True)) | {
        name.partition(".")[0] for name in timm.list_models(pretrained=True)}


def test_no_parameter_means_another_one() -> None:
    for name in RunConfig.model_fields:
        assert meaning_of(name, synonyms.PARAMETERS, RunConfig.model_fields).names == (name,)


@pytest.mark.parametrize("written", ["--batch-size", "batchSize", "BATCH_SIZE", "batch size"])
def test_case_and_punctuation_do_not_count(written: str) -> None:
    assert plain(written) == "batchsize"
    assert meaning_of(written, {}, ["lr", "batch_size"]).names == ("batch_size",)


def test_what_is_done_instead_is_said_only_where_none_of_our_names_is_allowed() -> None:
    meaning = synonyms.PARAMETERS["numworkers"]
    assert (meaning.among({"workers"}), meaning.remark({"workers"})) == ("workers", "")
    assert meaning.remark({"lr"}).startswith("there is none here; images are decoded once")
