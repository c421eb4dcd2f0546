"""The contents of a report, and the report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inversion.report.data.board import Board
from inversion.report.data.searching import Search
from inversion.report.data.study import StudyData
from inversion.report.render.pictures import Scene
from inversion.report.tables.findings import Judgement, findings_table
from inversion.report.tables.published import PublishedStudy, reproduced
from inversion.report.tables.table import ReportTable, code, code_block, literal

LONGEST = 500
"""Tables with more rows are left out of ``report.md``, and are in ``tables/`` only."""

FAMILIES = ("Here p is corrected (Holm) for the pairs of a finding, and elsewhere for all pairs of the leaderboard, so "
            "that one pair can have two.")


@dataclass(frozen=True)
class Advice:
    """A recommendation, with the numbers behind it."""

    title: str
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of the methods section; ``[@key]`` is a citation."""

    title: str
    text: str

    @property
    def citations(self) -> list[str]:
        """The keys that it cites."""
        return re.findall(r"(?<=[\[ ]@)\w+(?=[];])", self.text)


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        data: The study.
        boards: Groups of comparable runs, largest first.
        headline: The conclusions, a sentence each.
        summary: The study in numbers.
        advice: What to use and what to avoid.
        studies: The published studies beside ours.
        judgements: The verdicts on their findings, by the key of the published study.
        tables: Tables of the boards.
        records: Tables of other runs: references, failures, missing runs.
        scenes: Test images with their reconstructions.
        charts: Plotly figures by name.
        versions: Versions and commits of the runs.
        parameters: Parameters that all runs share.
        methods: How the ranked runs were made, for a paper.
        search: The trials, if the study is a search; then only the best of them is on a board.
    """

    data: StudyData
    boards: Sequence[Board]
    headline: Sequence[str]
    summary: Mapping[str, str]
    advice: Sequence[Advice] = ()
    studies: Sequence[PublishedStudy] = ()
    judgements: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)
    tables: Sequence[ReportTable] = ()
    records: Sequence[ReportTable] = ()
    scenes: Sequence[Scene] = ()
    charts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    methods: Sequence[Paragraph] = ()
    search: Search | None = None

    @property
    def board(self) -> Board | None:
        """The largest group of comparable runs; None if no run has scores."""
        return self.boards[0] if self.boards else None

    @property
    def reproduced(self) -> list[PublishedStudy]:
        """The published studies whose grid the runs are; what is said of others is folded away."""
        return reproduced(self.studies, self.board) if self.board else []


def all_tables(report: Report) -> list[ReportTable]:
    """Every table of the report, including the findings."""
    return [*report.tables, *report.records, *_findings(report)]


def as_markdown(report: Report) -> str:
    """The whole report without charts and pictures."""
    parts = [f"# Study {literal(report.data.name)}", "", *([literal(report.board.title), ""] if report.board else []),
             *(f"{literal(sentence)}\n" for sentence in report.headline)]
    if report.advice:
        advice = [f"- **{each.title}.** {literal(each.text)}" for each in report.advice]
        parts += ["## What to use", "", *advice, ""]
    parts += _tables(report)
    parts += ["## The study in numbers", "", *_list(report.summary), "## Made with", "", *_list(report.versions)]
    if report.parameters:
        parts += ["## Parameters shared by all runs", "", *_list(report.parameters)]
    if report.data.settings:
        commands = [code(f"inversion-sweep {options}") for options in report.data.settings]
        parts += ["## Queued with", "", *(f"- {command}" for command in commands), ""]
    for name, text in report.data.spec.items():
        parts += [f"## {literal(name)}", "", code_block(text, "yaml"), ""]
    return "\n".join(parts)


def methods_markdown(report: Report) -> str:
    """The methods section as Markdown, with citations for pandoc."""
    parts = [f"**{each.title}.** {literal(each.text)}\n" for each in report.methods]
    return "\n".join(["# Methods", "", *parts])


def _findings(report: Report) -> list[ReportTable]:
    if not report.judgements or report.board is None:
        return []
    notes = [study.about_findings(report.board) for study in report.studies if study.findings]
    return [findings_table(report.judgements, " ".join([*notes, FAMILIES]))]


def _tables(report: Report) -> list[str]:
    """Every table, what several notes share once; published studies of another grid last and folded."""
    others = [study for study in report.studies if study not in report.reproduced]
    aside = {name for study in others for name in (study.key, f"{study.key}-figures")}
    aside |= {"findings"} if others and not report.reproduced else set()
    tables = [*report.tables, *_findings(report), *report.records]
    said: set[str] = set()
    parts, folded = [], []
    for table in tables:
        shown = shown_in_markdown(table, with_common=table.common not in said)
        said.add(table.common)
        if table.key in aside:
            folded.append(f"<details><summary>{literal(table.title)}</summary>\n\n{shown}\n</details>\n")
        else:
            parts.append(shown)
    return parts + (["## Beside published studies", "", *folded] if folded else [])


def shown_in_markdown(table: ReportTable, with_common: bool = True) -> str:
    """A table, or where it is if it is long."""
    if len(table.rows) <= LONGEST:
        return table.markdown(with_common)
    return f"## {table.title}\n\n{len(table.rows):,} rows, in `tables/{table.key}.csv`.\n"


def _list(values: Mapping[str, str]) -> list[str]:
    return [*(f"- {name}: {literal(value)}" for name, value in values.items()), ""]
