"""The digest of a plan: moved by what is scientific, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inversion.config import resolve as module
from inversion.config.resolve import NOT_SCIENTIFIC, Plan
from inversion.config.run_config import RunConfig
from tests.config.plans import STUDY, plan

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    path = tmp_path / "alex.pth"
    path.write_bytes(b"a trunk")
    return path


OTHERWISE: dict[str, Any] = {
    "encoder": "vgg16:block2", "layer": "block2", "decoder": "attention", "fusion": "concat", "protocol": "published",
    "image_size": 64, "epochs": 31, "batch_size": 5, "crops": "fixed:8", "lr": 2e-4, "schedule": "cosine",
    "clip_norm": 0.5, "lr_patience": 6, "lr_factor": 0.6, "min_lr": 1e-7,
    "patience": 16, "mse_weight": 0.6, "lpips_weight": 0.6, "train_limit": 5, "val_limit": 1, "test_limit": 1,
    "decoder_options": "wavelet=db2", "fusion_options": "design=published", "seed": 1, "precision": "bf16",
    "metrics": "own.py:metric", "loss": "own.py:other", "loss_weight": 0.1,
}
"""Another value for each scientific parameter."""

COMPANIONS: dict[str, dict[str, str]] = {
    "layer": {"encoder": "vgg16"}, "fusion": {"encoder": "ensemble"}, "decoder_options": {"decoder": "wavelet"},
    "fusion_options": {"encoder": "ensemble"}, "loss_weight": {"loss": "own.py:other"},
}
"""What some of them need beside them."""


def test_every_parameter_either_moves_the_digest_or_is_known_not_to_be_scientific() -> None:
    assert set(OTHERWISE) | NOT_SCIENTIFIC == set(RunConfig.model_fields)
    assert not set(OTHERWISE) & NOT_SCIENTIFIC


@pytest.mark.parametrize("name", sorted(OTHERWISE))
def test_each_scientific_parameter_moves_the_digest(name: str, trunk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trunk.parent)
    Path("own.py").write_text("def metric(images, targets): ...\n\ndef other(images, targets): ...\n")
    base = {"lpips_weights": str(trunk), "device": "cpu", "precision": "fp32"} | COMPANIONS.get(name, {})
    assert plan(**base).digest("d") != plan(**(base | {name: OTHERWISE[name]})).digest("d")


def test_device_folders_threads_and_strictness_leave_the_digest_alone(tmp_path: Path) -> None:
    base = plan(device="cpu").digest("d")
    assert base == plan(device="cpu", threads=1, data_dir=str(tmp_path / "elsewhere"), strict=True).digest("d")
    assert len(base) == 32
    on_cuda = plan(device="cpu")
    moved = Plan(on_cuda.config.model_copy(update={"device": "cuda:1"}), on_cuda.cuts, on_cuda.weights,
                 on_cuda.photos, on_cuda.data_dir, on_cuda.lpips)
    assert moved.digest("d") == base


def test_content_of_photographs_moves_the_digest_and_their_folder_does_not(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.new("RGB", (80, 80), (number, 0, 0)).save(tmp_path / folder / f"{number}.png")
    one, other = (plan(data=str(tmp_path / folder)) for folder in ("one", "other"))
    assert one.config.data != other.config.data
    assert one.digest("same content") == other.digest("same content")
    assert one.digest("same content") != one.digest("other content")


def test_content_of_weight_files_moves_the_digest_and_their_place_does_not(tmp_path: Path, trunk: Path) -> None:
    for name, content in {"a/x.pth": b"1", "b/y.pth": b"1", "c/x.pth": b"2"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    a, b, c = (plan(weights=str(tmp_path / name)).digest("d") for name in ("a/x.pth", "b/y.pth", "c/x.pth"))
    assert a == b != c
    moved, changed = tmp_path / "moved.pth", tmp_path / "changed.pth"
    moved.write_bytes(b"a trunk")
    changed.write_bytes(b"another trunk")
    first, second, third = (plan(lpips_weights=str(path)).digest("d") for path in (trunk, moved, changed))
    assert first == second != third
    assert first != plan().digest("d")


def test_random_weights_of_another_seed_move_the_digest() -> None:
    assert plan(weights="random:7").digest("d") != plan().digest("d")
    assert plan(weights="random:0").digest("d") == plan().digest("d")


def test_spelling_does_not_move_the_digest() -> None:
    assert plan(encoder="vgg16", layer="block1").digest("d") == plan(encoder="vgg16:block1").digest("d")
    assert plan(encoder="ensemble").digest("d") == plan(encoder="ensemble", fusion="weighted").digest("d")


def test_a_new_recipe_moves_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan().digest("d")
    monkeypatch.setattr(module, "RECIPE", module.RECIPE + 1)
    assert plan().digest("d") != before


def test_the_44_combinations_have_44_digests_and_names() -> None:
    plans = [plan(**values) for values in STUDY]
    assert len({each.digest("d") for each in plans}) == len({each.name for each in plans}) == 44


def test_a_part_of_a_file_of_weights_is_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.pth").write_bytes(b"weights")
    whole, student, teacher = (plan(weights=f"a,b.pth{part}") for part in ("", "#student", "#teacher"))
    assert len({each.digest("d") for each in (whole, student, teacher)}) == 3
    assert teacher.config.weights == str(tmp_path / "a,b.pth#teacher")
    again = plan(weights=teacher.config.weights)  # as a run that is resumed says it
    assert (again.weights, again.digest("d")) == (teacher.weights, teacher.digest("d"))
