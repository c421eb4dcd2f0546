"""What a sweep says of its photographs when it is queued."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from inversion.config.run_config import parse_config
from inversion.progress import no_progress
from inversion.sweeps.study.enqueue import Resolver


def test_what_was_taken_left_out_and_leaks_is_said_once(photo_folder: Path, workplace: Path,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    root = workplace / "coco"
    shutil.copytree(photo_folder / "train", root / "train2017")
    shutil.copytree(photo_folder / "test", root / "val2017")
    (root / "val2017" / "notes.txt").write_text("x")
    with Image.open(root / "train2017" / "train0.png") as image:
        image.convert("RGB").save(root / "val2017" / "again.jpg", quality=50)
    resolver = Resolver(no_progress, 1)
    for seed in range(2):
        for data in ("coco", str(root)):
            config = parse_config({"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off",
                                   "image_size": 32, "data": data, "seed": seed})
            resolver.photographs(resolver.plan(config))
    told = [record.getMessage() for record in caplog.records if record.name == "inversion.sweeps.study.enqueue"]
    assert [line.partition(" (")[0] for line in told] == [
        "data coco: train2017/ → train and val", "data coco: 1 file is left out: 1 .txt",
        f"data coco: data leakage: 1 photograph in test is a near-duplicate of photographs in "
        f"{'train' if 'in train' in told[2] else 'val'}"]
