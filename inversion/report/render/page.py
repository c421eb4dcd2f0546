"""The report as one self-contained HTML page, with styles, scripts, charts and pictures inline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from inversion.report.render import charts
from inversion.report.render.pictures import BRIGHTER, Scene
from inversion.report.render.report import FAMILIES, Report
from inversion.text import visible

RANKINGS = ("leaderboard", "tuning", "top-single", "ensembles")
QUESTIONS = ("decoders", "equal-size", "generalisation", "architectures", "depth", "ensembles-against-best-single",
             "resolution", "resolution-or-values", "baseline", "floors", "metrics")

RECORDS = {"references": "Without training", "failures": "Failures", "missing": "Not started"}


def render(report: Report) -> str:
    """The page of a report."""
    return render_template(
        "page.html.j2", report.charts, is_only=len(report.boards) < 2,
        report=report, tables=report.tables, rankings=RANKINGS, asked=_asked(report),
        opening=_opening(report.scenes), sections=_sections(report),
        captions=charts.captions(report.board) if report.board else {}, common=_common(report),
        grid={study.key for study in report.reproduced},
        families=FAMILIES,
        normalised=any(scene.target for scene in report.scenes), brighter=BRIGHTER,
    )


def render_template(name: str, figures: Mapping[str, Any], is_only: bool = False, **values: Any) -> str:
    """A page from its template, with styles, scripts and Plotly's figures inline.

    ``is_only`` leaves digests of files out of titles: no other group of runs has to be told apart.
    """
    environment = Environment(loader=PackageLoader("inversion.report.render", ""), autoescape=True, trim_blocks=True,
                              undefined=StrictUndefined, finalize=_legible)
    environment.filters["titled"] = lambda title: _titled(title, is_only)
    inline = {key: figure.to_json().replace("</", "<\\/") for key, figure in figures.items()}
    return environment.get_template(name).render(
        figures=inline, css=_file("page.css"), js=_file("page.js"), plotly=get_plotlyjs() if inline else "", **values)


def _legible(value: object) -> object:
    """Escapes control characters in the value of a template expression; our own markup is left alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(visible, value.split("\n")))
    return value


def _titled(title: str, is_only: bool) -> Markup:
    """The title of a board; the digest of a file is seen on hover where no other board is to be told apart."""
    text = str(escape(visible(title)))
    if not is_only:
        return Markup(text)
    return Markup(re.sub(r"([^\s,]+) ([0-9a-f]{8})(?=,|$)", r'<abbr title="digest \2">\1</abbr>', text))


def _common(report: Report) -> dict[str, str]:
    """What a note shares with others, by the key of the first table that has it."""
    first: dict[str, str] = {}
    for table in report.tables:
        first.setdefault(table.common, table.key)
    return {key: text for text, key in first.items() if text}


def _opening(scenes: Sequence[Scene]) -> str:
    """The role of the image that is shown first: the median if there is one."""
    roles = [scene.role for scene in scenes]
    return "median" if "median" in roles else roles[0] if roles else ""


def _sections(report: Report) -> dict[str, str]:
    """Titles of the sections that are not empty, by anchor."""
    keys = {table.key for table in report.tables}
    sections = {
        "pictures": ("Pictures", bool(report.scenes)), "advice": ("What to use", bool(report.advice)),
        "rankings": ("Trials" if report.search else "Who won", not keys.isdisjoint(RANKINGS)),
        "questions": ("Questions", bool(_asked(report))),
        "costs": ("Costs", "cost-per-db" in keys), "rate-section": ("Rate", "rates" in keys),
        "differences-section": ("Is it real?", "differences" in keys),
        "findings": ("Published findings", bool(report.judgements)), "curves": ("Curves", "curves" in report.charts),
        **{table.key: (RECORDS[table.key], True) for table in report.records},
        "apart": ("Other runs", any(key.startswith("leaderboard-") for key in keys)), "summary": ("In numbers", True),
    }
    return {key: title for key, (title, shown) in sections.items() if shown}


def _asked(report: Report) -> list[str]:
    """The keys of the question tables."""
    return [table.key for table in report.tables if table.key in QUESTIONS or table.key.startswith("baseline-")]


def _file(name: str) -> str:
    return files("inversion.report.render").joinpath(name).read_text(encoding="utf-8")
