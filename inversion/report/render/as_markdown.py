"""The report as one Markdown text, but for charts and pictures."""

from __future__ import annotations

from collections.abc import Mapping

from inversion.report.published.evidence import findings_table
from inversion.report.reports import Report
from inversion.report.tables.markdown import code, code_block, literal
from inversion.report.tables.table import ReportTable

LONGEST = 500
"""Rows of a table that stands in ``report.md``; longer ones are in ``tables/`` alone."""


def all_tables(report: Report) -> list[ReportTable]:
    """Every table of the report, the findings' too."""
    return [*report.tables, *report.records, *_findings(report)]


def as_markdown(report: Report) -> str:
    """The whole report but for charts and pictures."""
    parts = [f"# Study {literal(report.data.name)}", "", *([literal(report.board.title), ""] if report.board else []),
             *(f"{literal(sentence)}\n" for sentence in report.headline)]
    if report.advice:
        advice = [f"- **{each.title}.** {literal(each.text)}" for each in report.advice]
        parts += ["## What to use", "", *advice, ""]
    parts += [_shown(table) for table in (*report.tables, *_findings(report), *report.records)]
    parts += ["## The study in numbers", "", *_list(report.summary), "## Made with", "", *_list(report.versions)]
    if report.parameters:
        parts += ["## Parameters that all runs share", "", *_list(report.parameters)]
    if report.data.settings:
        commands = [code(f"inversion-sweep {said}") for said in report.data.settings]
        parts += ["## Asked for with", "", *(f"- {command}" for command in commands), ""]
    for name, text in report.data.spec.items():
        parts += [f"## {literal(name)}", "", code_block(text, "yaml"), ""]
    return "\n".join(parts)


def _findings(report: Report) -> list[ReportTable]:
    choice = report.board.choice if report.board else ""
    return [findings_table(report.judgements, choice)] if report.judgements else []


def _shown(table: ReportTable) -> str:
    if len(table.rows) <= LONGEST:
        return table.markdown()
    return f"## {table.title}\n\n{len(table.rows):,} rows, in `tables/{table.key}.csv`.\n"


def _list(values: Mapping[str, str]) -> list[str]:
    return [*(f"- {name}: {literal(value)}" for name, value in values.items()), ""]
