"""``methods.md`` and ``methods.bib``: what the ranked runs say of themselves, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.report.render.citations import ENTRIES


@pytest.fixture
def methods(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """The paragraphs of the methods section of the study ``made``, by their titles."""

    def read() -> dict[str, str]:
        assert run_command(cli, ["made", "--output", str(tmp_path / "r")]) == 0
        text = (tmp_path / "r" / "methods.md").read_text()
        return dict(re.findall(r"^\*\*(.+?)\.\*\* (.+)$", text, re.MULTILINE))

    return read


def test_it_says_what_was_run_and_cites_it(
    methods: Callable[[], dict[str, str]], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    for seed in (0, 1):
        for encoder, mean in (("vgg16:block1", 25), ("vgg16:block3", 20), ("ensemble", 26)):
            made.add(scores(mean, seed=seed), encoder=encoder, decoder="wavelet", seed=seed, lr=1e-3, clip_norm=1.0,
                     metrics={"epochs_run": 20.0 + seed, "decoder_parameters": 1000.0}, lpips=True, lpips_weight=0.25,
                     tags={"inversion.device": "NVIDIA A", "inversion.version.torch": "2.9.0"})
    made.finish()
    said = methods()
    assert said["Data"].startswith("The images are those of the data set made (12 test images). SHA-256")
    assert "vgg16 [@simonyan2015vgg], at block1 and block3: random weights (seed 0)." in said["Encoders"]
    assert "wavelet: 1,000 trained parameters, with those of the fusion." in said["Decoders"]
    assert "Several encoders were fused by weighted." in said["Decoders"]
    training = said["Training"]
    assert "The loss was 0.5 MSE + 0.25 LPIPS (AlexNet) [@zhang2018lpips], against the image in [0, 1]." in training
    assert "Adam [@kingma2015adam] with a learning rate of 0.001 and batches of 4 images." in training
    assert "multiplied by 0.5 after 5 epochs without a lower validation loss, down to 1e-06." in training
    assert "L2 norm of at most 1." in training
    assert "Epochs: at most 30 (20 and 21 were run); training stopped after 15 without" in training
    assert "Precision: fp32. Seeds: 0 and 1." in training
    assert said["Evaluation"] == ("Reported are means over 12 test images of PSNR, SSIM [@wang2004ssim] and LPIPS with "
                                  "AlexNet [@zhang2018lpips].")
    assert "all 3 pairs with Holm's method [@holm1979]" in said["Statistics"]
    assert "measured on 3 configurations" in said["Statistics"]
    assert "PyTorch 2.9.0 [@paszke2019pytorch]. Commit c0ffee. Hardware: NVIDIA A." in said["Software and hardware"]
    bibliography = (tmp_path / "r" / "methods.bib").read_text()
    cited = set(re.findall(r"@(\w+)", " ".join(said.values())))
    assert set(re.findall(r"@\w+\{(\w+),", bibliography)) == cited
    assert "optuna" not in bibliography
    assert "Methods, for a paper" in (tmp_path / "r" / "index.html").read_text()


def test_where_runs_differ_it_lists_and_what_no_run_says_is_left_out(
    methods: Callable[[], dict[str, str]], make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for number in range(10):
        made.add(scores(25 - number), lr=1e-4 * (number + 1), schedule=("plateau", "cosine")[number % 2],
                 identity={"recipe": 99})
    made.add(scores(25), image_size=96)  # another group
    made.finish()
    said = methods()
    assert "a learning rate of 0.0001 to 0.001 and batches" in said["Training"]
    assert "(schedule plateau)." in said["Training"]
    assert "along a cosine over all epochs (schedule cosine)." in said["Training"]
    assert "Adam" not in said["Training"]  # a later recipe may have another optimiser
    assert "flips" not in said["Data"]
    assert "The crops have 64 pixels a side." in said["Data"]
    assert "Hardware" not in said["Software and hardware"]
    assert "one seed" in said["Statistics"]
    assert said["Scope"].endswith("and not the 1 of other groups.")


def test_without_scores_there_is_no_methods_section(make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study()
    made.add(None, status="FAILED")
    made.finish()
    assert run_command(cli, ["made", "--output", str(tmp_path)]) == 0
    assert not (tmp_path / "methods.md").exists()


def test_every_entry_has_what_bibtex_needs() -> None:
    for entry in ENTRIES.values():
        assert re.match(r"@(article|inproceedings|misc)\{KEY,\n  title = ", entry)
        assert re.search(r"\n  author = \{.+\},\n  year = \{\d{4}\},\n", entry)
        assert entry.count("{") == entry.count("}")
