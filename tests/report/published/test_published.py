"""Every published figure is in the data, under its section, and nothing else is: compared with the study's own text."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import inversion
from inversion.config.resolve import run_name
from inversion.report.published._figures import Figures
from inversion.report.published.feature_inversion import figures
from inversion.sweeps.spec.spec import load_spec

PATH = Path(inversion.__file__).parent / "report" / "published" / "feature_inversion.yaml"
STUDY = Path(inversion.__file__).parents[2] / "shared" / "published-study.md"
"""The study itself lies beside the project, and is no part of it."""

needs_study = pytest.mark.skipif(not STUDY.is_file(), reason=f"the text of the published study is not at {STUDY}")

NAMES = {"vgg16": "vgg16", "resnet34": "resnet34", "vit-small": "vit_small", "pvt-v2-b2": "pvt_v2_b2",
         "transposedconv": "transposed_conv", "frequency-aware": "frequency_aware", "attention": "attention",
         "wavelet": "wavelet", "weighted": "weighted", "concat": "concat"}
NOT_FIGURES = {"4.3": {2.0}}
"""A halving of the resolution, as the study writes it."""


def sections() -> dict[str, str]:
    """The study's text by the number of its section, without diagrams and formulas."""
    text = re.sub(r"```mermaid.*?```", "", STUDY.read_text("utf-8"), flags=re.DOTALL)
    text = text.partition("## References")[0]
    parts = re.split(r"^#{2,3} (\d+(?:\.\d+)?)\.? .*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of a section: a dict for each row, without emphasis and medals."""
    found: list[list[dict[str, str]]] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([re.sub(r"[*🥇🥈🥉]", "", cell).strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
            rows = []
    return found


def numbers(text: str) -> list[float]:
    """Every number of a text: ``12,544`` and ``-27.7%`` and ``17.43 ± 1.72``."""
    return [float(number.replace(",", "")) for number in
            re.findall(r"(?<![\w.])[+-]?\d{1,3}(?:,\d{3})+|(?<![\w.])[+-]?\d+(?:\.\d+)?", text)]


def expected(row: dict[str, str]) -> dict[str, float]:
    """What a row of the study's results says, under our names."""
    found: dict[str, float] = {}
    for column, cell in row.items():
        values = numbers(cell.replace("~", "").replace("×", " "))
        if not values:
            continue
        if column.startswith(("PSNR", "SSIM")):
            name = column[:4].lower()
            found |= dict(zip((name, f"{name}_std"), values, strict=False))
        elif column.startswith(("Eval Time", "Time")):
            found["eval_minutes"] = values[0]
        elif column in {"Resolution", "Locations", "Rank"}:
            found[column.lower()] = values[0]
        elif column == "Degradation":
            found["degradation_percent"] = values[0]
        elif column.startswith("Δ"):
            found["gain_db"] = values[0]
    return found


def described(row: dict[str, str]) -> list[str]:
    """The parts of a configuration's name that a row gives: encoder, layer, decoder, fusion."""
    cells = [cell for column, cell in row.items() if column in
             {"Architecture", "Layer", "Decoder", "Fusion Strategy", "Best Example"}]
    return [NAMES.get(word.lower(), word.lower()) for cell in cells for word in cell.split()]


@needs_study
@pytest.mark.parametrize("section", ["4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "5.1"])
def test_every_row_of_the_results_is_as_published(section: str) -> None:
    published = [table for table in tables(sections()[section]) if "Model Type" not in table[0]]
    ours = [table for table in figures().in_section(section) if table.title != "cost and benefit"]
    assert len(published) == len(ours) > 0
    for theirs, table in zip(published, ours, strict=True):
        assert len(theirs) == len(table.rows)
        for row, our_row in zip(theirs, table.rows, strict=True):
            found = our_row.model_dump(exclude_none=True)
            configuration = found.pop("configuration")
            assert found == expected(row), configuration
            for part in described(row):
                assert part in re.split(r"[:+]", configuration), (part, configuration)


@needs_study
def test_the_first_baseline_and_the_winner_are_as_published() -> None:
    baseline, winner = figures().in_section("3.2")[0].rows[0], figures().in_section("6.1")[0].rows[0]
    told = {row["Metric"]: numbers(row["Value"]) for row in tables(sections()["3.2"])[0]}
    assert told == {"PSNR": [baseline.psnr, baseline.psnr_std], "SSIM": [baseline.ssim, baseline.ssim_std],
                    "Training Time": [baseline.train_minutes],
                    "Spatial Resolution": [baseline.resolution, baseline.resolution, baseline.locations]}
    assert baseline.configuration == "resnet34:layer1+attention"
    told = {row["Metric"]: numbers(row["Value"].replace("~", "")) for row in tables(sections()["6.1"])[0]}
    assert told == {"PSNR": [winner.psnr, winner.psnr_std], "SSIM": [winner.ssim, winner.ssim_std],
                    "Eval Time": [winner.eval_minutes], "Memory": [winner.memory_gb]}
    ranks = {row["Metric"]: row["Rank"] for row in tables(sections()["6.1"])[0]}
    assert ranks["PSNR"] == f"{winner.rank}st / {winner.ranked}"
    assert ranks["SSIM"] == f"{winner.ssim_rank}rd / {winner.ranked}"


@needs_study
def test_the_costs_are_as_published() -> None:
    _, ours = figures().in_section("4.6")
    theirs = tables(sections()["4.6"])[1]
    for row, our_row in zip(theirs, ours.rows, strict=True):
        cells = [numbers(row[column].replace("×", " "))[0] for column in list(row)[1:]]
        assert cells == [our_row.encoder_passes, our_row.memory_gb, our_row.psnr, our_row.cost_per_db]


@needs_study
def test_differences_improvements_and_summary_are_as_published() -> None:
    published = figures()
    theirs = tables(sections()["5.3"])[0]
    assert [(numbers(row["PSNR Δ"])[0], "Yes" in row["Significant?"]) for row in theirs] == [
        (item.difference, item.significant) for item in published.comparisons]
    theirs = tables(sections()["6.3"])[0]
    assert [[numbers(cell)[0] for cell in list(row.values())[1:]] for row in theirs] == [
        [item.initial, item.final, item.percent] for item in published.improvements]
    summary = [numbers(row["Value"].replace("~", ""))[0] for row in tables(sections()["9"])[0]]
    ours = published.summary
    assert ours is not None
    assert summary == [ours.configurations, ours.successful, ours.out_of_memory, ours.best_psnr,
                       ours.best_single_psnr, ours.psnr_range, ours.gpu_hours]


def ours_in(section: str) -> list[float]:
    """Every number that the data has under a section."""
    def collect(node: Any, inside: bool) -> list[float]:
        if isinstance(node, dict):
            here = node["section"] == section if "section" in node else inside
            values = [value for value in node.values() if isinstance(value, (int, float)) and here]
            return [float(value) for value in values if not isinstance(value, bool)] + [
                number for value in node.values() for number in collect(value, here)]
        return [number for value in node for number in collect(value, inside)] if isinstance(node, list) else []
    return collect(yaml.safe_load(PATH.read_text("utf-8")), False)


@needs_study
@pytest.mark.parametrize("section", ["1", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "5.1", "5.3", "7", "8", "9", "10"])
def test_no_figure_of_a_section_is_left_out(section: str) -> None:
    text = re.sub(r"^\s*\d+\. ", "", sections()[section].replace("~", ""), flags=re.MULTILINE)  # numbered lists
    text = re.sub(r"(?i)\b(vgg|resnet|block|layer|stage)\s?\d+", "", text).replace("PVT-v2-B2", "")
    told = {abs(number) for number in numbers(re.sub("[×–-]", " ", text))}
    assert told - {abs(number) for number in ours_in(section)} <= NOT_FIGURES.get(section, set())


@needs_study
def test_figures_from_sentences_stand_in_their_sections() -> None:
    text = STUDY.read_text("utf-8")
    parts = re.split(r"^#{2,3} (\d+(?:\.\d+)?)\.? .*$", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))  # diagrams included
    for figure in figures().figures:
        told = [abs(number) for number in numbers(re.sub(r"[×→/=~–-]|1e-4", " ", found[figure.section]))]
        assert figure.value in [*told, 0.0001 if "1e-4" in found[figure.section] else 0.0], figure
    advised = {(item.configuration, item.psnr, item.ssim, item.memory_gb) for item in figures().recommendations}
    for _, psnr, ssim, memory in advised:
        assert {psnr, ssim, memory} - {None} <= set(numbers(found["8"].replace("~", "")))


def test_configurations_are_those_of_the_grid() -> None:
    known = {run_name(item.config, []) for item in load_spec("grid.yaml").configurations}
    assert set(figures().configurations) <= known
    assert len(figures().configurations) == 20


def test_no_configuration_has_two_values_but_the_baseline() -> None:
    published = figures()
    several = {name for name in published.configurations
               if len({mention.row.psnr for mention in published.mentions(name)}) > 1}
    assert several == {"resnet34:layer1+attention"}
    later = published.score("resnet34:layer1+attention")
    assert later is not None
    assert (later.row.psnr, later.section) == (15.46, "4.5")


def test_a_configuration_is_looked_up() -> None:
    published = figures()
    winner = published.score("vgg16:block1+transposed_conv")
    assert winner is not None
    assert (winner.row.psnr, winner.row.eval_minutes, winner.row.rank) == (17.43, 0.85, 1)
    deep = published.score("resnet34:layer2+transposed_conv")
    assert deep is not None
    assert (deep.row.psnr, deep.section) == (12.94, "4.3")
    assert published.score("vgg16:block1+attention") is None
    assert published.mentions("vgg16:block1+attention") == ()
    assert Counter(mention.section for mention in published.mentions("vgg16:block1+transposed_conv")) == {
        "4.1": 1, "4.2": 1, "4.3": 1, "4.4": 1, "4.5": 1, "4.6": 1, "5.1": 1, "6.1": 1}


def test_a_misspelt_field_is_refused() -> None:
    document = yaml.safe_load(PATH.read_text("utf-8"))
    document["tables"][0]["rows"][0]["pnsr"] = 1.0
    with pytest.raises(ValidationError, match="pnsr"):
        Figures.model_validate(document)


def test_the_contradictions_that_the_documentation_lists_are_there() -> None:
    published = figures()
    summary = published.summary
    assert summary is not None
    scores = {name: mention.row for name in published.configurations if (mention := published.score(name))}
    psnr = {name: row.psnr for name, row in scores.items()}
    single = {name: value for name, value in psnr.items() if not name.startswith("ensemble")}
    assert max(psnr.values()) - min(psnr.values()) == pytest.approx(5.05)
    assert max(single.values()) - min(single.values()) == pytest.approx(summary.psnr_range)
    assert len(load_spec("grid.yaml").configurations) == 44 == summary.configurations + 1
    assert summary.gpu_hours == 40 * 12.75 / 60
    coarse = {name: value for name, value in psnr.items() if name.startswith(("resnet34:layer1", "pvt_v2_b2:stage1"))}
    shown = next(row for row in published.in_section("5.1")[0].rows if row.resolution == 56)
    assert (len(coarse), min(coarse, key=coarse.__getitem__)) == (8, shown.configuration)
    assert max(coarse.values()) == 16.28
    assert round(100 * (1 - 16.28 / 17.43), 1) == 6.6
    for layer, best, lead in (("resnet34:layer1", "wavelet", 0.65), ("pvt_v2_b2:stage1", "attention", 0.63)):
        assert psnr[f"{layer}+{best}"] - psnr[f"{layer}+transposed_conv"] == pytest.approx(lead)
    baseline = published.improvements[2]
    assert baseline.initial == published.in_section("3.2")[0].rows[0].train_minutes
    assert scores["resnet34:layer1+attention"].eval_minutes == 0.81
    single_cost, ensemble_cost = published.in_section("4.6")[1].rows
    assert (single_cost.memory_gb, ensemble_cost.memory_gb) == (16, 20)


def test_the_percentages_that_the_documentation_calls_right_are_right() -> None:
    published = figures()
    for table in published.tables:
        for row in table.rows:
            if row.degradation_percent is not None:
                lost = 100 * (row.psnr / table.rows[0].psnr - 1)
                assert row.degradation_percent == pytest.approx(lost, abs=0.05), row
            if row.gain_db is not None:
                assert row.gain_db == pytest.approx(row.psnr - 17.43)
            if row.locations is not None and row.resolution is not None:
                assert row.locations == row.resolution**2
    for item in published.improvements:
        assert item.percent == pytest.approx(100 * (item.final / item.initial - 1), abs=0.05)
    scores = {name: mention.row.psnr for name in published.configurations if (mention := published.score(name))}
    for pair in published.comparisons:
        assert pair.difference == pytest.approx(scores[pair.a] - scores[pair.b])
        assert pair.significant == (pair.difference > 0.5)
    ranking = [row.psnr for row in published.in_section("4.5")[0].rows]
    assert ranking == sorted((value for name, value in scores.items() if not name.startswith("ensemble")),
                             reverse=True)[:10]
