"""A paper is a pair of files: a second one beside the first, and a report without any."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import inversion
from inversion.report.build import make_report
from inversion.report.data.collect import collect
from inversion.report.published import load_studies, studies
from inversion.report.render.page import render
from inversion.report.render.report import Report, as_markdown
from inversion.tracking.connection import connect

DOCS = Path(inversion.__file__).parents[1] / "docs" / "extending.md"

FIGURES = """
protocol: image
data: COCO
weights: imagenet
image_size: 224
results: "2"
baseline: vgg16:block3+wavelet
winner: vgg16:block1+wavelet
tables:
  - section: "2.1"
    title: decoders
    rows:
      - {configuration: "vgg16:block1+wavelet", psnr: 26.25, psnr_std: 2.0, ssim: 0.8, ssim_std: 0.05}
      - {configuration: "vgg16:block3+wavelet", psnr: 21.75, psnr_std: 2.0, ssim: 0.6, ssim_std: 0.05}
comparisons: []
improvements: []
findings: [{section: "3", name: depth, text: Deeper is worse.}]
recommendations: []
summary: {section: "4", configurations: 2, successful: 2, out_of_memory: 0, best_psnr: 26.25, best_single_psnr: 26.25,
          psnr_range: 4.5, gpu_hours: 1}
figures: []
"""


@pytest.fixture
def smith(tmp_path: Path) -> Iterator[None]:
    """The paper of ``docs/extending.md``, with figures."""
    found = re.search(r"```python\n(\"\"\"Smith et al.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert found
    (tmp_path / "smith2024.py").write_text(found[1])
    (tmp_path / "smith2024.yaml").write_text(FIGURES)
    spec = importlib.util.spec_from_file_location("smith2024", tmp_path / "smith2024.py")
    assert spec
    assert spec.loader
    module = sys.modules["smith2024"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield
    studies.forget("smith2024")
    del sys.modules["smith2024"]


def report(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Report:
    """Of two layers with one decoder, three seeds each."""
    made = make_study()
    for seed in range(3):
        made.add(scores(25 + 0.01 * seed), encoder="vgg16:block1", decoder="wavelet", seed=seed)
        made.add(scores(21 + 0.01 * seed), encoder="vgg16:block3", decoder="wavelet", seed=seed)
    connection = connect()
    return make_report(connection, collect(connection, made.finish()))


@pytest.mark.usefixtures("smith")
def test_a_second_paper_stands_beside_the_first(make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    assert [study.label for study in load_studies()] == ["published", "smith2024"]
    made = report(make_study, scores)
    assert {label: {item.finding.name: str(item.verdict) for item in items}
            for label, items in made.judgements.items()}["smith2024"] == {"depth": "supported"}
    tables = {table.key: table for table in made.tables}
    text = tables["leaderboard"].markdown()
    assert "| published PSNR | published SSIM | smith2024 PSNR | smith2024 SSIM |" in text
    assert "26.25 ± 2.00" in text
    assert "Smith2024 figures: protocol image, COCO, weights imagenet, image size 224; here: protocol image" in text
    theirs = [row["configuration"] for row in tables["smith2024"].rows]
    assert theirs == ["vgg16:block1+wavelet", "vgg16:block3+wavelet"]
    assert "published" in tables
    page, markdown = render(made), as_markdown(made)
    for shown in (page, markdown):
        assert "Deeper is worse." in shown
        assert "Published findings, judged by these runs" in shown
    assert "Smith2024: COCO, ImageNet weights, 224 px." in page


def test_without_a_paper_nothing_is_said_of_one(
    make_study: Callable[..., Any], scores: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inversion.report.build.load_studies", list)
    made = report(make_study, scores)
    assert made.judgements == {}
    assert any(table.key == "depth" and table.rows for table in made.tables)  # with the decoder that was run
    costs, = (table for table in made.tables if table.key == "cost-per-db")
    assert "over vgg16:block1" in costs.markdown()
    page = render(made)
    body = page[page.index("<body>"):page.index("<script>")]
    for text in (as_markdown(made), body):
        assert "ublished" not in text
