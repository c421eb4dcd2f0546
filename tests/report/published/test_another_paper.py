"""A paper is a pair of files: a second one beside the first, and a report without any."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import inversion
from inversion.models.decoders import decoders
from inversion.models.encoders.catalog import ENCODERS
from inversion.models.fusion import fusions
from inversion.report.build import make_report
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.published import Figures, load_studies, published_study, studies
from inversion.report.published._figures import section_order
from inversion.report.render.page import render
from inversion.report.render.report import Report, all_tables, as_markdown
from inversion.report.seed_plan import ASSUMED_SD, plan_seeds
from inversion.report.tables.table import ReportTable
from inversion.tracking.connection import connect

ROOT = Path(inversion.__file__).parent
GUIDE = (ROOT.parent / "docs" / "extending.md").read_text("utf-8").split("## A published study")[1].split("\n## ")[0]
FIRST = "CNN Feature Inversion: Methodology and Results"
SECOND = "Smith et al. (2024): A deep layer is hard to invert"

MORE = """
baseline: vgg16:block3+wavelet
winner: vgg16:block1+wavelet
baseline_caveat: Smith et al. train the two for different times.
improvements:
  - {section: "2.10", metric: psnr, initial: 21.75, final: 26.25, percent: 20.7}
  - {section: "2.2", metric: train_minutes, initial: 60, final: 30, percent: -50}
figures: [{section: "A.1", what: steps, value: 7}]
"""
"""Figures that the guide leaves out."""


def block(language: str) -> str:
    """The only block of a language in the section of the guide."""
    text, = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(text)


@pytest.fixture
def smith(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """``smith(more)`` adds the paper of ``docs/extending.md``, with more lines in its file of figures."""

    def add(more: str = "") -> None:
        (tmp_path / "smith2024.py").write_text(block("python"))
        (tmp_path / "smith2024.yaml").write_text(block("yaml") + more)
        spec = importlib.util.spec_from_file_location("smith2024", tmp_path / "smith2024.py")
        assert spec
        assert spec.loader
        module = sys.modules["smith2024"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

    yield add
    studies.forget("smith2024")
    del sys.modules["smith2024"]


@pytest.fixture
def report(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Callable[[], Report]:
    """``report()``: two layers with one decoder, and the first paper's baseline and winner; three seeds each."""

    def make() -> Report:
        made = make_study()
        for seed in range(3):
            for encoder, decoder, mean in (("vgg16:block1", "wavelet", 25.0), ("vgg16:block3", "wavelet", 21.0),
                                           ("vgg16:block1", "transposed_conv", 24.0),
                                           ("resnet34:layer1", "attention", 23.0)):
                made.add(scores(mean + 0.01 * seed), encoder=encoder, decoder=decoder, seed=seed,
                         metrics={"train_seconds": 120.0 if encoder == "vgg16:block3" else 60.0})
        connection = connect()
        return make_report(connection, collect(connection, made.finish()))

    return make


def shown(made: Report) -> list[str]:
    """The report as Markdown, and the text of its page."""
    page = render(made)
    return [as_markdown(made), unescape(page[page.index("<body>"):page.index("<script>")])]


def by_key(made: Report) -> dict[str, ReportTable]:
    return {table.key: table for table in all_tables(made)}


def rows_of(table: ReportTable, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in table.rows]


def test_the_guide_is_enough_for_a_second_paper(smith: Callable[..., None], report: Callable[[], Report]) -> None:
    smith()
    assert [(study.key, study.citation) for study in load_studies()] == [("published", FIRST), ("smith2024", SECOND)]
    made = report()
    tables = by_key(made)
    heading = "| published PSNR ‡ | published SSIM ‡ | smith2024 PSNR ‡ | smith2024 SSIM ‡ |"
    assert heading in tables["leaderboard"].markdown()
    assert "| smith2024 degradation ‡ |" in tables["depth"].markdown()
    scores, = (row for row in tables["leaderboard"].rows if row["configuration"] == "vgg16:block1+wavelet")
    assert (scores["published_psnr"], scores["smith2024_psnr"]) == (17.29, 26.25)
    assert rows_of(tables["smith2024"], "configuration", "smith2024_psnr", "psnr") == [
        ("vgg16:block1+wavelet", 26.25, pytest.approx(25.01)), ("vgg16:block3+wavelet", 21.75, pytest.approx(21.01))]
    assert rows_of(tables["smith2024-figures"], "section", "what", "published", "here")[::5] == [
        ("2.1", "layers: vgg16:block1+wavelet: PSNR", 26.25, pytest.approx(25.01)),
        ("2.1", "layers: vgg16:block3+wavelet: PSNR, standard deviation", 2.0, pytest.approx(2.0, abs=1))]
    assert len(tables["published-figures"].rows) > 100
    assert {row["smith2024_ssim"] for row in tables["smith2024"].rows} == {0.8, None}


def test_each_paper_has_its_titles_citation_and_caveats(smith: Callable[..., None], report: Callable[[], Report],
                                                        ) -> None:
    smith(MORE)
    made = report()
    tables = by_key(made)
    for key, citation, protocol in (("published", FIRST, "published, DIV2K"), ("smith2024", SECOND, "image, COCO")):
        assert tables[key].title == f"The {key} configurations"
        assert tables[key].note.startswith(f"{citation}. {key.capitalize()} figures: protocol {protocol}, ")
        assert tables[f"{key}-figures"].title == f"Every {key} figure"
    assert [(tables[key].title, tables[key].note) for key in ("baseline", "baseline-2")] == [
        ("Baseline of published against winner", make_note("The published study compares")),
        ("Baseline of smith2024 against winner", "Smith et al. train the two for different times.")]
    for text in shown(made):
        plain = text.replace("\\", "")
        assert f"Published ({FIRST}): DIV2K, ImageNet weights, 224 px, the released code's target." in plain
        assert f"Smith2024 ({SECOND}): protocol image, COCO, weights imagenet, image size 224." in plain
        assert f"{SECOND}. Smith2024 figures: protocol image, COCO" in plain
        assert "Baseline of smith2024 against winner" in plain
        assert "every smith2024 figure" in plain.lower()


def make_note(start: str) -> str:
    """The first paper's caveat about its baseline, which begins like that."""
    caveat = next(study.caveats.baseline for study in load_studies() if study.key == "published")
    assert caveat.startswith(start)
    return caveat


def test_findings_of_both_papers_are_judged(smith: Callable[..., None], report: Callable[[], Report]) -> None:
    smith()
    made = report()
    verdicts = {key: {item.finding.name: str(item.verdict) for item in items} for key, items in made.judgements.items()}
    assert verdicts["smith2024"] == {"depth": "supported"}
    assert len(verdicts["published"]) == 13
    rows = by_key(made)["findings"].rows
    assert [(row["study"], row["section"], row["finding"], row["verdict"]) for row in rows][-1] == (
        "smith2024", "3", "Deeper is worse.", "supported")
    assert {row["study"] for row in rows[:-1]} == {"published"}
    markdown, page = shown(made)
    assert "| smith2024 | 3 | Deeper is worse. | supported |" in markdown
    assert 'Deeper is worse. <span class="quiet">(smith2024, section 3)</span>' in page
    assert "(published, section 5.1, 7)" in page


def test_figures_of_every_kind_stand_in_the_order_of_their_sections(
    smith: Callable[..., None], report: Callable[[], Report]
) -> None:
    smith(MORE)
    rows = by_key(report())["smith2024-figures"].rows
    assert list(dict.fromkeys(row["section"] for row in rows)) == ["2.1", "2.2", "2.10", "A.1"]
    training = [(row["what"], row["published"], row["here"]) for row in rows if row["section"] == "2.2"]
    assert training == [("training, vgg16:block3+wavelet", 60, pytest.approx(2.0)),
                        ("training, vgg16:block1+wavelet", 30, pytest.approx(1.0)),
                        ("training, change", -50, pytest.approx(-50))]
    assert (rows[-1]["what"], rows[-1]["published"], rows[-1]["why"]) == ("in the text: steps", 7, "no counterpart")
    assert sorted(["Table 2", "4.10", "A.1", "4.2", "10"], key=section_order) == [
        "4.2", "4.10", "10", "A.1", "Table 2"]


def test_without_a_paper_nothing_is_said_of_one(
    report: Callable[[], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inversion.report.build.load_studies", list)
    made = report()
    assert made.judgements == {}
    tables = by_key(made)
    assert {"leaderboard", "decoders", "depth", "cost-per-db", "differences"} <= set(tables)
    assert not {"findings", "baseline"} & set(tables)
    assert rows_of(tables["depth"], "configuration", "shallow") == [("vgg16:block3+wavelet", "vgg16:block1+wavelet")]
    assert "over vgg16:block1" in tables["cost-per-db"].markdown()
    for text in shown(made):
        assert "ublished" not in text
        assert FIRST not in text


def test_two_papers_cannot_have_one_key() -> None:
    figures = Figures.model_validate(yaml.safe_load(block("yaml")))
    studies.register("second")(lambda: published_study("published", figures))
    try:
        with pytest.raises(ValueError, match="'second' has the key 'published', which another one has"):
            load_studies()
    finally:
        studies.forget("second")


@pytest.mark.parametrize("key", ["", "Smith et al.", "../smith", "smith{2024}"])
def test_a_key_can_be_a_file_name(key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"key {key!r} of a published study: only letters, digits")):
        published_study(key, Figures.model_validate(yaml.safe_load(block("yaml"))))


def test_five_keys_of_a_file_of_figures_are_required() -> None:
    document = yaml.safe_load(block("yaml"))
    required = dict(list(document.items())[:5])
    assert "only the first five keys are required" in GUIDE
    assert Figures.model_validate(required).scores() == {}
    for name in required:
        with pytest.raises(ValidationError, match=name):
            Figures.model_validate({key: value for key, value in document.items() if key != name})


@pytest.mark.parametrize(("changes", "said"), [
    ({"citation": ""}, "citation"), ({"protocol": None}, "protocol"),
    ({"improvements": [{"section": "1", "metric": "psnr", "initial": 1, "final": 2, "percent": 100}]}, "improvements"),
])
def test_a_file_of_figures_is_checked(changes: dict[str, Any], said: str) -> None:
    document = yaml.safe_load(block("yaml"))
    Figures.model_validate(document)
    with pytest.raises(ValidationError, match=said):
        Figures.model_validate(document | changes)


@pytest.mark.parametrize(("seed_sd", "assumed"), [(0.3, 0.3), (None, ASSUMED_SD)])
def test_a_plan_assumes_the_seed_noise_of_the_paper(
    seed_sd: float | None, assumed: float, make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet")
    made.add(scores(23), decoder="attention")
    board, = make_boards(collect(connect(), made.finish()).runs)
    paper = published_study("smith2024", Figures.model_validate(yaml.safe_load(block("yaml")) | {"seed_sd": seed_sd}))
    plan = plan_seeds(board, [paper])
    assert plan is not None
    assert plan.noise.sd == assumed


def strings(path: Path) -> list[str]:
    """The strings of a module or template; of a module, without those that are documentation."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return [text]
    nodes = list(ast.walk(ast.parse(text)))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [node.value for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation]


def test_the_core_names_no_part_of_a_paper() -> None:
    papers = {f"{name}.py" for name in studies.names()}
    files = [path for path in (ROOT / "report").rglob("*")
             if path.suffix in (".py", ".j2", ".js") and path.name not in papers]
    assert len(files) > 30
    names = {*ENCODERS, *decoders.names(), *fusions.names()} - {"linear"}  # a floor of the report, in no paper
    told = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))}|DIV2K|[Tt]he published study)\b")
    found = {(path.name, match[0]) for path in files for text in strings(path) if (match := told.search(text))}
    assert found == set()
    assert any(told.search(text) for text in strings(ROOT / "report" / "published" / "feature_inversion.py"))
