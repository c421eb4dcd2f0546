"""Artifacts that are gone, cut or of the wrong kind: one line that names them, the run and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file

from inversion.config.document import VERSION
from inversion.models.model import build_model
from inversion.models.packing import pack_model

Command = Callable[..., Any]
Damage = Callable[[Path], object]


@pytest.fixture
def damage(trained: Run) -> Iterator[Callable[[str, Damage], None]]:
    """``damage("metrics/test_per_image.parquet", change)``: changes an artifact until the test is over."""
    kept: list[tuple[Path, bytes]] = []
    artifacts = Path(trained.info.artifact_uri)
    models = (artifacts.parents[1] / "models").iterdir()  # other tests' runs have theirs here
    model, = (model for model in models if trained.info.run_id in (model / "artifacts" / "MLmodel").read_text())

    def make(name: str, change: Damage) -> None:
        packed, = (model / "artifacts" / "artifacts").iterdir()
        path = {"model": model / "artifacts", "packed": packed}.get(name.partition("/")[0], artifacts)
        path /= name.removeprefix("model/").removeprefix("packed/")
        kept.append((path, path.read_bytes()))
        change(path)

    yield make
    for path, content in kept:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def line(outcome: Any, run: Run) -> str:
    """The one line of a request that was refused; it names the run."""
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("\n") == 1
    assert run.info.run_id in outcome.err
    assert "Traceback" not in outcome.err
    return str(outcome.err)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def written(content: bytes | str) -> Damage:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def described(**changes: Any) -> Damage:
    """``model.json`` with these values; None leaves one out."""

    def change(path: Path) -> None:
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))

    return change


def learned(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def rewrite(path: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(tensors)
        save_file(tensors, path)

    return rewrite


def made_folder(path: Path) -> None:
    """Makes a folder in the file's place."""
    path.unlink()
    path.mkdir()


ENCODER = {"encoder": "vgg16", "layer": "block1", "file": "encoder0.safetensors",
           "normalisation": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]}
MODELS: dict[str, tuple[str, Damage, str]] = {
    "no MLmodel": ("MLmodel", Path.unlink, "has no artifact 'model' that inversion has logged"),
    "empty MLmodel": ("MLmodel", written(""), "MLmodel is damaged"),
    "MLmodel that is no YAML": ("MLmodel", written("a: [b\n- : }"), "MLmodel is damaged"),
    "MLmodel of bytes": ("MLmodel", written(b"\x00\xff\xfe\x80"), "MLmodel is damaged"),
    "MLmodel that is a folder": ("MLmodel", made_folder, "MLmodel is damaged"),
    "MLmodel that is a list": ("MLmodel", written("- a\n- b"), "MLmodel is damaged"),
    "MLmodel with a number for a path": (
        "MLmodel", written("flavors: {python_function: {artifacts: {packed: {path: 3}}}}"), "MLmodel is damaged"),
    "MLmodel with another path": (
        "MLmodel", written("flavors: {python_function: {artifacts: {packed: {path: gone}}}}"), "model/gone"),
    "no learned": ("learned.safetensors", Path.unlink, "learned.safetensors is missing"),
    "empty learned": ("learned.safetensors", written(""), "learned.safetensors is missing, damaged"),
    "cut learned": ("learned.safetensors", cut, "learned.safetensors is missing, damaged"),
    "learned without a tensor": (
        "learned.safetensors", learned(lambda tensors: tensors.popitem()), "learned.safetensors is missing, damaged"),
    "learned of another type": (
        "learned.safetensors", learned(lambda tensors: tensors.update({
            name: tensor.to(torch.int8) for name, tensor in tensors.items()})), "int8"),
    "learned of other shapes": (
        "learned.safetensors", learned(lambda tensors: tensors.update({
            name: tensor.flatten()[:1].clone() for name, tensor in tensors.items()})), "size mismatch"),
    "learned that is not finite": (
        "learned.safetensors", learned(lambda tensors: next(t for t in tensors.values() if t.ndim == 4).fill_(
            float("nan"))), "not finite"),
    "no encoder": ("encoder0.safetensors", Path.unlink, "encoder0.safetensors"),
    "cut encoder": ("encoder0.safetensors", cut, "encoder0.safetensors"),
    "no model.json": ("model.json", Path.unlink, "model.json is missing"),
    "empty model.json": ("model.json", written(""), "model.json is damaged"),
    "model.json that is a list": ("model.json", written("[]"), "model.json is damaged"),
    "model.json that is deep": ("model.json", written("[" * 100_000), "model.json is damaged"),
    "model.json of bytes": ("model.json", written(b"\xff\xfe{"), "model.json is damaged"),
    "model.json without encoders": ("model.json", described(encoders=...), "encoders: Field required"),
    "no encoders in it": ("model.json", described(encoders=[]), "model.json is damaged: encoders"),
    "a negative size": ("model.json", described(image_size=-32), "model.json is damaged: image_size"),
    "a huge size": ("model.json", described(image_size=2**40), "model.json is damaged: image_size"),
    "a size that is text": ("model.json", described(image_size="32"), "model.json is damaged: image_size"),
    "another size": ("model.json", described(image_size=64), "belongs to another run"),
    "an unknown decoder": ("model.json", described(decoder="gone"), "describes no model of this version: unknown"),
    "an unknown fusion": ("model.json", described(fusion=3), "model.json is damaged: fusion"),
    "an unknown option": ("model.json", described(options={"heads": "3"}), "describes no model of this version"),
    "options that are none": ("model.json", described(options=["a"]), "model.json is damaged: options"),
    "an unknown encoder": ("model.json", described(encoders=[ENCODER | {"encoder": "gone"}]), "describes no model"),
    "an unknown layer": ("model.json", described(encoders=[ENCODER | {"layer": "gone"}]), "describes no model"),
    "another layer": ("model.json", described(encoders=[ENCODER | {"layer": "block2"}]), "encoder0.safetensors"),
    "a file elsewhere": ("model.json", described(encoders=[ENCODER | {"file": "../../secret.safetensors"}]),
                         "model.json is damaged: encoders.0.file"),
    "two channels": ("model.json", described(encoders=[ENCODER | {"normalisation": [[0, 0], [1, 1]]}]),
                     "model.json is damaged: encoders.0.normalisation"),
    "no deviation": ("model.json", described(encoders=[ENCODER | {"normalisation": [[0.5] * 3, [0.0] * 3]}]),
                     "model.json is damaged: encoders.0.normalisation"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_loaded_is_refused_before_anything_is_scored(
    name: str, trained: Run, damage: Command, inversion: Command, all_runs: Command
) -> None:
    file, change, says = MODELS[name]
    damage(f"{'model' if file == 'MLmodel' else 'packed'}/{file}", change)
    error = line(inversion("evaluate", trained.info.run_id), trained)
    assert says in error
    assert len(all_runs()) == 1


def test_a_model_with_another_decoder_is_refused(
    trained: Run, damage: Command, inversion: Command, tmp_path: Path, frozen: Callable[..., Any]
) -> None:
    other = build_model([frozen("vgg16:block1", 32)], "linear", {}, None, 32, seed=0)
    pack_model(other, "linear", {}, None, 32, tmp_path)
    for file in ("model.json", "learned.safetensors"):
        damage(f"packed/{file}", written((tmp_path / file).read_bytes()))
    error = line(inversion("evaluate", trained.info.run_id), trained)
    assert "belongs to another run: its decoder has" in error
    assert "parameters, and that of the run, transposed_conv, has" in error


def test_reconstruct_says_the_same_and_makes_no_folder(
    trained: Run, damage: Command, inversion: Command, photo_folder: Path, workplace: Path
) -> None:
    damage("packed/learned.safetensors", cut)
    photo = photo_folder / "test" / "test0.png"
    outcome = inversion("reconstruct", trained.info.run_id, str(photo), "--output", "made")
    assert "learned.safetensors is missing, damaged" in line(outcome, trained)
    assert "train the run's configuration again" in outcome.err
    assert not (workplace / "made").exists()


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    return lambda path: change(pd.read_parquet(path)).to_parquet(path, index=False)


TABLES: dict[str, Damage] = {
    "missing": Path.unlink, "empty": written(b""), "cut": cut, "no table": written(b"PAR1 no table PAR1"),
    "without a column": table(lambda scores: scores.drop(columns="mse")),
    "with texts for numbers": table(lambda scores: scores.assign(psnr="high")),
    "with numbers for names": table(lambda scores: scores.assign(image=range(len(scores)))),
    "with an empty cell": table(lambda scores: scores.assign(ssim=scores["ssim"].mask(scores.index == 0))),
    "with an image twice": table(lambda scores: scores.assign(image="a")),
    "without rows": table(lambda scores: scores.iloc[:0]),
    "with a row too few": table(lambda scores: scores.iloc[:-1]),
    "of other images": table(lambda scores: scores.assign(image=[f"other {name}" for name in scores["image"]])),
}


@pytest.mark.parametrize("name", TABLES)
def test_logged_scores_that_cannot_be_compared_with_are_refused_before_anything_is_scored(
    name: str, trained: Run, damage: Command, inversion: Command, all_runs: Command
) -> None:
    damage("metrics/test_per_image.parquet", TABLES[name])
    assert "metrics/test_per_image.parquet" in line(inversion("evaluate", trained.info.run_id), trained)
    assert len(all_runs()) == 1


def change_document(run: Run, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(run.data.tags["inversion.config"])
    change(document)
    MlflowClient().set_tag(run.info.run_id, "inversion.config", json.dumps(document))


@pytest.mark.parametrize("tag", [None, "", '{"digest": "cut', "[]"], ids=["missing", "empty", "cut", "a list"])
def test_a_configuration_whose_tag_is_cut_comes_from_config_json(
    tag: str | None, trained: Run, damage: Command, inversion: Command
) -> None:
    if tag is None:
        MlflowClient().delete_tag(trained.info.run_id, "inversion.config")
    else:
        MlflowClient().set_tag(trained.info.run_id, "inversion.config", tag)
    outcome = inversion("evaluate", trained.info.run_id, "--test-limit", "1")
    assert outcome.code == 0, outcome.err
    damage("config.json", written('{"digest": "cut as well'))
    error = line(inversion("evaluate", trained.info.run_id), trained)
    assert "its tag inversion.config" in error
    assert "its artifact config.json is not JSON" in error


@pytest.mark.parametrize(("change", "says"), [
    (lambda document: document.update(version=VERSION + 1), "made by a newer version of inversion"),
    (lambda document: document["parameters"].update(gone=1), "does not know: gone"),
    (lambda document: document["parameters"].update(decoder="gone", precision="fp8"), "precision: 'fp8'"),
], ids=["newer", "unknown parameter", "value that is not allowed"])
@pytest.mark.parametrize("words", [["evaluate"], ["train", "--resume"]], ids=["evaluate", "resume"])
def test_a_run_of_another_version_is_refused_by_name(
    words: list[str], change: Callable[[dict[str, Any]], object], says: str, trained: Run, inversion: Command
) -> None:
    change_document(trained, change)
    if "--resume" in words:
        MlflowClient().set_terminated(trained.info.run_id, "FAILED")
    assert says in line(inversion(*words, trained.info.run_id), trained)


def test_the_loader_of_a_served_model_says_what_is_damaged(trained: Run, damage: Command) -> None:
    import mlflow

    damage("packed/model.json", written("[]"))
    with pytest.raises(Exception, match=r"^model\.json is damaged"):
        mlflow.pyfunc.load_model(f"runs:/{trained.info.run_id}/model")
