"""``inversion reconstruct``: one's own pictures, of any size and mode, through one run or several."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from mlflow.entities import Run
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from inversion.reconstruct.sources import read_picture

Command = Callable[..., Any]


def psnr_of(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """From 8-bit files, whose rounding costs little where the reconstruction is far from perfect."""
    return float(peak_signal_noise_ratio(one, other, data_range=255))  # type: ignore[no-untyped-call]


@pytest.fixture
def larger(picture: Callable[..., Path]) -> Path:
    """A folder of photographs that images of 64 pixels can be cut from."""
    for number in range(4):
        path = picture(f"photos/{number}.png", 80 + number, 70)
    return path.parent


def test_test_images_score_as_they_did_after_training(trained: Run, reconstruct: Callable[..., Any],
                                                      photo_folder: Path) -> None:
    """A folder is given; alone in a batch and not with others, an image may differ in the last bits."""
    made = reconstruct(photo_folder / "test")
    assert made.outcome.code == 0, made.outcome.err
    logged = pq.read_table(Path(trained.info.artifact_uri) / "metrics" / "test_per_image.parquet").to_pylist()
    assert [Path(row["picture"]).name for row in made.rows] == [Path(row["image"]).name for row in logged]
    for row, before in zip(made.rows, logged, strict=True):
        for name in ("psnr", "ssim", "lpips", "mse"):
            assert float(row[name]) == pytest.approx(before[name], abs=1e-4)
    assert "scaled and cropped to the run's image size" in " ".join(made.outcome.out.split())
    assert "48×44 → 32×32" in made.outcome.out
    assert "mean" in made.outcome.out


def test_files_are_the_original_the_reconstruction_and_their_difference(
        reconstruct: Callable[..., Any], picture: Callable[..., Path]) -> None:
    made = reconstruct(picture("my cat.png"))
    assert made.names() == {"my-cat_original.png", "my-cat_reconstruction.png", "my-cat_difference.png",
                            "contact-sheet.png", "scores.csv"}
    original, reconstruction, difference = (
        made.pixels(f"my-cat_{what}.png") for what in ("original", "reconstruction", "difference"))
    assert original.shape == (32, 32, 3)
    assert np.abs(np.abs(original - reconstruction) - difference).max() <= 1, "each is rounded to 8 bits"
    row, = made.rows
    assert float(row["psnr"]) == pytest.approx(psnr_of(original, reconstruction), abs=0.05)
    assert (row["width"], row["height"], row["size"]) == ("32", "32", "fit")
    assert made.names() >= {row["original"], row["reconstruction"], row["difference"]}


@pytest.mark.parametrize(("width", "height"), [(80, 50), (33, 100), (32, 32)])
def test_tiles_keep_the_picture_as_it_is(width: int, height: int, reconstruct: Callable[..., Any],
                                         picture: Callable[..., Path]) -> None:
    path = picture("cat.png", width, height)
    made = reconstruct(path, "--size", "tiles")
    assert made.outcome.code == 0, made.outcome.err
    with Image.open(path) as image:
        assert (made.pixels("cat_original.png") == np.asarray(image)).all()
    assert made.pixels("cat_reconstruction.png").shape == (height, width, 3)
    assert "in blended tiles" in " ".join(made.outcome.out.split())
    row, = made.rows
    assert (int(row["width"]), int(row["height"])) == (width, height)
    psnr = psnr_of(made.pixels("cat_original.png"), made.pixels("cat_reconstruction.png"))
    assert float(row["psnr"]) == pytest.approx(psnr, abs=0.05)
    assert row["ssim"]
    assert row["lpips"]


def test_a_picture_of_the_runs_size_is_one_tile__the_model_itself(
        trained: Run, reconstruct: Callable[..., Any], picture: Callable[..., Path]) -> None:
    import mlflow

    path = picture("cat.png", 32, 32)
    made = reconstruct(path, "--size", "tiles")
    with Image.open(path) as image:
        pixels = np.asarray(image, np.float32) / 255
    model = mlflow.pyfunc.load_model(f"runs:/{trained.info.run_id}/model")
    expected = model.predict(pixels.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    assert np.abs(made.pixels("cat_reconstruction.png") - 255 * expected).max() <= 0.501


def upright(workplace: Path) -> Image.Image:
    with Image.open(workplace / "upright.png") as image:
        return image.copy()


def save_rotated(image: Image.Image, folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90° clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.png", exif=exif)


def test_every_mode_of_picture_is_shown_rightly(reconstruct: Callable[..., Any], picture: Callable[..., Path],
                                                workplace: Path) -> None:
    picture("upright.png", 60, 40)
    image = upright(workplace)
    save_rotated(image, workplace)
    grey = np.asarray(image.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(workplace / "deep.png")
    Image.fromarray(grey).save(workplace / "grey.png")
    transparent = image.convert("RGBA")
    transparent.putalpha(0)
    transparent.save(workplace / "clear.png")
    image.convert("CMYK").save(workplace / "cmyk.jpg")
    made = reconstruct("--size", "tiles", *sorted(workplace.glob("*.png")), workplace / "cmyk.jpg")
    assert made.outcome.code == 0, made.outcome.err
    assert len(made.rows) == 6
    assert (made.pixels("rotated_original.png") == np.asarray(image)).all()
    for name in ("deep", "grey"):
        assert (made.pixels(f"{name}_original.png") == grey[:, :, None]).all()
    assert (made.pixels("clear_original.png") == 255).all()


def test_a_small_picture_is_enlarged_and_said_to_be(
        trained: Run, train: Command, inversion: Command, picture: Callable[..., Path], larger: Path) -> None:
    assert train(data=larger, image_size=64, decoder="wavelet").code == 0
    path = picture("small.png", 40, 36)
    outcome = inversion("reconstruct", "vgg16:block1+wavelet", str(path), "--output", "out")
    assert outcome.code == 0, outcome.err
    assert "40×36 → 64×64 (enlarged)" in " ".join(outcome.out.split())


def test_runs_side_by_side(reconstruct: Callable[..., Any], train: Command, picture: Callable[..., Path],
                           larger: Path) -> None:
    """Of different image sizes, so that each has an original of its own."""
    assert train(data=larger, image_size=64, decoder="wavelet").code == 0
    made = reconstruct(picture("cat.png"), picture("dog.png", 70, 90), "--compare", "vgg16:block1+wavelet")
    assert made.outcome.code == 0, made.outcome.err
    runs = {32: "vgg16-block1+transposed_conv", 64: "vgg16-block1+wavelet"}
    assert made.names() == {"contact-sheet.png", "scores.csv"} | {
        f"{name}_{rest}.png" for name in ("cat", "dog") for size, run in runs.items()
        for rest in (f"original_{size}px", f"{run}_reconstruction", f"{run}_difference")}
    for size, run in runs.items():
        assert made.pixels(f"dog_{run}_difference.png").shape == (size, size, 3)
    assert [(Path(row["picture"]).stem, row["run"]) for row in made.rows] == [
        (name, f"vgg16:block1+{decoder}") for name in ("cat", "dog") for decoder in ("transposed_conv", "wavelet")]
    assert made.pixels("contact-sheet.png").shape[1] == 10 + 3 * 250
    for row in made.rows:
        assert f"{float(row['psnr']):.2f}" in made.outcome.out


def test_a_run_is_not_compared_with_itself(trained: Run, reconstruct: Callable[..., Any],
                                           picture: Callable[..., Path]) -> None:
    made = reconstruct(picture("cat.png"), "--compare", trained.info.run_id[:6])
    assert made.outcome.code == 2
    assert "is given twice" in made.outcome.err


def test_a_pattern_that_the_shell_left_alone_is_expanded(reconstruct: Callable[..., Any],
                                                         picture: Callable[..., Path]) -> None:
    for name in ("a1.png", "a2.png", "b1.png"):
        picture(name)
    (Path("a3.txt")).write_text("no picture")
    assert [row["picture"] for row in reconstruct("a*").rows] == ["a1.png", "a2.png"]
    assert "no picture's name matches this pattern" in reconstruct("x*.png").outcome.err


def test_pictures_that_cannot_be_used_are_named_before_anything_is_computed(
        reconstruct: Callable[..., Any], picture: Callable[..., Path], workplace: Path) -> None:
    cut = picture("cut.png")
    cut.write_bytes(cut.read_bytes()[:400])
    (workplace / "words.png").write_text("hello")
    made = reconstruct(picture("good.png"), cut, workplace / "words.png", workplace / "absent.png",
                       picture("tiny.png", 20, 31))
    assert made.outcome.code == 2
    assert made.outcome.err.count("\n") == 1
    assert "4 of 5 pictures cannot be used" in made.outcome.err
    for name in ("cut.png", "words.png", "absent.png", "tiny.png"):
        assert name in made.outcome.err
    assert "good.png" not in made.outcome.err
    assert not made.folder.exists()


def test_a_folder_without_pictures_is_refused(reconstruct: Callable[..., Any], workplace: Path) -> None:
    (workplace / "empty").mkdir()
    made = reconstruct(workplace / "empty")
    assert (made.outcome.code, made.folder.exists()) == (2, False)
    assert "no pictures in this folder" in made.outcome.err


def test_the_published_protocol_is_said_and_scored_against_its_own_target(
        reconstruct: Callable[..., Any], train: Command, inversion: Command, photo_folder: Path,
        all_runs: Any) -> None:
    assert train(protocol="published", decoder="wavelet").code == 0
    run = next(run for run in all_runs() if run.data.tags["inversion.protocol"] == "published")
    outcome = inversion("reconstruct", run.info.run_id, str(photo_folder / "test"), "--output", "out")
    assert "published protocol" in outcome.out
    with open("out/scores.csv", newline="", encoding="utf-8") as file:
        mean = np.mean([float(row["psnr"]) for row in csv.DictReader(file)])
    assert mean == pytest.approx(run.data.metrics["test/psnr"], abs=1e-4)


def test_what_is_no_regular_file_is_no_picture(reconstruct: Callable[..., Any], workplace: Path) -> None:
    os.mkfifo(workplace / "fifo.png")
    (workplace / "link.png").symlink_to(workplace / "fifo.png")
    for name in ("fifo.png", "link.png", "/dev/zero"):
        made = reconstruct(name)
        assert (made.outcome.code, made.folder.exists()) == (2, False)
        assert "not a regular file" in made.outcome.err
    assert "no pictures in this folder" in reconstruct(".").outcome.err


def test_a_picture_that_vanishes_ends_the_command_and_leaves_those_before_it(
        reconstruct: Callable[..., Any], picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = picture("a.png"), picture("b.png")

    def vanishing(source: Any) -> Any:
        second.unlink(missing_ok=True)
        return read_picture(source)

    monkeypatch.setattr("inversion.reconstruct.side_by_side.read_picture", vanishing)
    made = reconstruct(first, second)
    assert made.outcome.code == 1, "it ran and failed"
    assert "b.png: No such file or directory" in made.outcome.err
    assert [row["original"] for row in made.rows] == ["a_original.png"]
    assert made.pixels("contact-sheet.png").shape[1] == 10 + 3 * 250
