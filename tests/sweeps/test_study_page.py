"""What a sweep leaves on the page of its study in MLflow, through a real tracking server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from inversion.sweeps.queue.storage import open_storage
from inversion.sweeps.study.standing import standings
from inversion.sweeps.study.study import open_study
from inversion.tracking.connection import connect
from inversion.tracking.grouping import GROUPING
from inversion.tracking.pages import VIEW
from inversion.tracking.registration import RegisteredName, register_model
from inversion.tracking.views import view_of

Sweep = Callable[..., Any]
NOTE = "mlflow.note.content"


@pytest.fixture
def server(workplace: Path, plain_server: int) -> str:
    """The address of the tracking server."""
    return f"http://127.0.0.1:{plain_server}"


def test_a_study_says_who_won_by_validation_and_its_winner_is_registered(
        lab: Any, sweep: Sweep, server: str) -> None:
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]\n    encoder: [\"vgg16:block1/pool=2\"]")
    where = ("--tracking-uri", server, "--experiment", "pages", "--storage", lab.folder / "queue.db")
    queued = sweep(spec, *where, "--workers", 0)
    assert queued.code == 0, queued.err
    client: Any = MlflowClient(server)
    experiment = client.get_experiment_by_name("pages")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"

    def parent() -> Any:
        run, = client.search_runs([experiment.experiment_id], "tags.`inversion.kind` = 'study'")
        return run

    assert parent().data.tags[NOTE].startswith("Runs: 0 finished, 0 failed, 2 queued, of 2. Compare them: [table")
    outcome = sweep(spec, *where, "--register", "decoder@champion")
    assert outcome.code == 0, outcome.err
    runs = {run.info.run_name: run for run in client.search_runs(
        [experiment.experiment_id], "tags.`inversion.kind` = 'run'")}
    winner, loser = sorted(runs.values(), key=lambda run: -run.data.metrics["best/val_psnr"])
    lead = winner.data.metrics["best/val_psnr"] - loser.data.metrics["best/val_psnr"]
    study = parent()
    said = study.data.tags[NOTE].replace("\\", "")
    value = winner.data.metrics["best/val_psnr"]
    assert said.startswith(f"**{winner.info.run_name}** is best by validation: `best/val_psnr` {value:.2f} dB, "
                           f"{lead:.2f} dB ahead of {loser.info.run_name}.")
    assert "Runs: 2 finished, 0 failed, 0 queued, of 2." in said
    assert "Report: `inversion-report tiny --output report` writes it" in said
    assert study.data.metrics == {
        "study/finished": 2, "study/failed": 0, "study/queued": 0,
        "study/winner_val_psnr": winner.data.metrics["best/val_psnr"],
        **{f"study/winner_test_{name}": winner.data.metrics[f"test/{name}"] for name in ("psnr", "ssim")}}
    data, = study.inputs.dataset_inputs
    assert data.dataset.digest == winner.inputs.dataset_inputs[0].dataset.digest
    for run in runs.values():
        assert [run.data.params[name] for name in ("encoder", "layer", *GROUPING)] == [
            "vgg16", "block1", "vgg16", "block1", "pool=2"]
        described = run.data.tags[NOTE].replace("\\", "")
        assert described.startswith(f"PSNR {run.data.metrics['test/psnr']:.2f} dB, SSIM ")
        assert "from the features of **vgg16:block1/pool=2 (64×8×8)**" in described
        assert f"/runs/{study.info.run_id}?" in described

    view = json.loads(client.get_experiment(experiment.experiment_id).tags[f"{VIEW}{view_of('tiny')}"])
    state = json.loads(view["state"])
    found = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=[
        f"{state['orderByKey']} DESC"])
    assert {run.info.run_id for run in found} == {run.info.run_id for run in runs.values()}
    shown = {column.partition(".")[2].strip("`") for column in state["selectedColumns"]}
    assert shown - winner.data.params.keys() - winner.data.metrics.keys() == {"test/lpips"}  # these have no LPIPS

    version = client.get_model_version_by_alias("decoder", "champion")
    assert version.run_id == winner.info.run_id
    assert version.source == f"models:/{winner.outputs.model_outputs[0].model_id}"
    assert f"(run {winner.info.run_id}), as version 1 of decoder: models:/decoder@champion" in outcome.out
    assert register_model(client, winner, RegisteredName("decoder", "best")) == 1  # it is there already

    # test scores that say otherwise change nothing
    client.log_metric(loser.info.run_id, "test/psnr", 99.0)
    opened = open_study(open_storage(f"sqlite:///{lab.folder}/queue.db"), "tiny")
    best, other = standings(opened, connect(server, "pages"), opened.queue.entries())
    assert ([run.info.run_id for run in best.runs], other.mean("test/psnr")) == ([winner.info.run_id], 99.0)


def test_a_wrong_name_for_the_winner_is_refused_before_anything_is_queued(lab: Any, sweep: Sweep) -> None:
    spec = lab.spec("grid:\n  - decoder: [wavelet]")
    outcome = sweep(spec, "--register", "a/b@champion")
    assert outcome.code == 2
    assert "--register 'a/b@champion' names no model" in outcome.err
    assert not Path("inversion-queue.db").exists()
    for words in (("--status",), ("--dry-run",), ("--workers", 0)):
        outcome = sweep(spec, "--register", "a@champion", *words)
        assert (outcome.code, "--register is for a study that is worked on" in outcome.err) == (2, True)
