"""Studies from Python: what the functions return is what the commands log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import inversion as inv
from inversion.errors import RequestError, SeveralErrors, UnknownNameError

TINY: dict[str, Any] = {"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off", "image_size": 32,
                        "lr": 1e-3, "device": "cpu", "threads": 1, "epochs": 2}


@pytest.fixture(scope="module", autouse=True)
def place(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None]
) -> Iterator[None]:
    """One workplace for all of these tests, which leave the run and the study in it as they are."""
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(tmp_path_factory.mktemp("api"), patch)
        yield


@pytest.fixture(scope="module")
def run(place: None, photo_folder: Path) -> Any:
    return inv.train(decoder="wavelet", data=photo_folder, **TINY)


@pytest.fixture(scope="module")
def study(place: None, photo_folder: Path) -> Any:
    return inv.sweep({"study": "tiny", "base": {**TINY, "data": str(photo_folder)},
                      "grid": [{"decoder": ["wavelet", "transposed_conv"], "seed": [0, 1]}]}, workers=1)


def test_a_run_has_its_history_its_scores_and_its_model(run: Any, photo_folder: Path) -> None:
    assert (run.name.partition(" ")[0], run.status) == ("vgg16:block1+wavelet", "FINISHED")
    assert run.parameters["decoder"] == "wavelet"
    history = run.history()
    assert history.index.tolist() == [1, 2]
    assert {"train/loss", "val/psnr", "val/ssim", "lr"} <= set(history.columns)
    assert history.notna().all().all()
    images = run.images()
    assert images["psnr"].mean() == pytest.approx(run.metrics["test/psnr"])
    model = run.load()
    batch = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = model.encode(batch)
        assert [tuple(map_.shape) for map_ in features] == [(2, 64, 16, 16)]
        torch.testing.assert_close(model.decode(features), model(batch))
    assert torch.equal(inv.load(run.id).state_dict()["scales.0.scale"], model.state_dict()["scales.0.scale"])
    assert inv.find(run.id[:8]).id == run.id
    assert "PSNR (dB)" in run._repr_html_()


@pytest.mark.parametrize("size", ["fit", "tiles"])
def test_pictures_are_reconstructed_and_shown(size: Any, run: Any, photo_folder: Path) -> None:
    picture = next(path for path in sorted(photo_folder.rglob("*")) if path.suffix in (".png", ".jpg"))
    one, = run.reconstruct(picture, size)
    assert one.path == picture
    assert one.original.size == one.reconstruction.size
    assert (one.original.size == (32, 32)) == (size == "fit")
    difference = (np.asarray(one.original, float) - np.asarray(one.reconstruction, float)) / 255
    assert one.scores.psnr == pytest.approx(-10 * np.log10((difference**2).mean()), abs=0.05)
    assert one._repr_png_().startswith(b"\x89PNG")
    assert len(run.reconstruct([picture, picture.parent], size)) >= 2


def test_a_study_is_tables_of_runs_images_and_configurations(study: Any, tmp_path: Path) -> None:
    runs, images, leaderboard = study.runs(), study.images(), study.leaderboard()
    assert len(runs) == 4
    assert set(runs["status"]) == {"FINISHED"}
    assert runs["test/psnr"].notna().all()
    assert len(images) == 4 * images["image"].nunique()
    means = images.groupby(["encoder", "decoder"])["psnr"].mean()
    first, second = leaderboard["configuration"]
    assert leaderboard["psnr"].tolist() == pytest.approx(sorted(means, reverse=True))
    assert leaderboard["seeds"].tolist() == [2, 2]
    found = study.compare(first, second)
    pairs = images.pivot_table(index="image", columns="decoder", values="psnr")
    one, two = (label.rpartition("+")[2].partition(" ")[0] for label in (first, second))
    assert found.mean == pytest.approx((pairs[one] - pairs[two]).mean())
    assert found.low < found.mean < found.high
    assert study.compare(second, first).mean == -found.mean
    assert study.best().metrics["test/psnr"] == runs["test/psnr"].max()
    assert "4 runs" in study._repr_html_()
    page = study.report(tmp_path / "report")
    assert page.read_text().startswith("<!doctype html>")
    table = pd.read_csv(tmp_path / "report" / "tables" / "leaderboard.csv")
    assert table["configuration"].tolist() == [first, second]
    again = inv.study("tiny")
    pd.testing.assert_frame_equal(again.runs(), runs)


def test_wrong_requests_raise_what_the_commands_say(study: Any, photo_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'wavelet'"):
        inv.train(decoder="wavlet", data=photo_folder)
    with pytest.raises(UnknownNameError, match="Did you mean 'lr'"):
        inv.train(learning_rate=1e-3, data=photo_folder)
    with pytest.raises(RequestError, match="is not allowed"):
        inv.train(epochs=0, data=photo_folder)
    with pytest.raises(SeveralErrors):
        inv.sweep({"study": "wrong", "grid": [{"decoder": ["wavlet"]}]})
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        inv.study("tinny")
    with pytest.raises(UnknownNameError, match="has no configuration 'vgg16'"):
        study.compare("vgg16", "vgg16")


def test_the_import_is_fast_and_the_names_are_there() -> None:
    code = ("import sys, inversion as inv; names = dir(inv); "
            "assert {'train', 'sweep', 'study', 'find', 'load', 'Run', 'Study'} <= set(names); "
            "assert not {'torch', 'mlflow', 'pandas'} & set(sys.modules); "
            "assert not hasattr(inv, 'tarin')")
    subprocess.run([sys.executable, "-c", code], check=True)
