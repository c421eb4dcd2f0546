"""The report as one HTML page that needs no network: styles, scripts, charts and pictures stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from inversion.report.render import charts
from inversion.report.render.pictures import BRIGHTER, Scene
from inversion.report.reports import Report
from inversion.text import visible

RANKINGS = ("leaderboard", "top-single", "ensembles")
ASKED = ("decoders", "architectures", "depth", "ensembles-against-best-single", "resolution", "baseline")

RECORDS = {"references": "Without training", "failures": "Failures", "missing": "Not begun"}


def render(report: Report) -> str:
    """The page of a report."""
    environment = Environment(loader=PackageLoader("inversion.report.render", ""), autoescape=True, trim_blocks=True,
                              undefined=StrictUndefined, finalize=_legible)
    figures = {name: figure.to_json().replace("</", "<\\/") for name, figure in report.charts.items()}
    return environment.get_template("page.html.j2").render(
        report=report, tables=report.tables, figures=figures, rankings=RANKINGS, asked=ASKED,
        opening=_opening(report.scenes), sections=_sections(report),
        captions=charts.captions(report.board) if report.board else {},
        normalised=any(scene.target for scene in report.scenes),
        css=_file("page.css"), js=_file("page.js"), plotly=get_plotlyjs() if figures else "", brighter=BRIGHTER,
    )


def _legible(value: object) -> object:
    """What an expression of the template gives, with control characters as escapes; our own scripts are left alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(visible, value.split("\n")))
    return value


def _opening(scenes: Sequence[Scene]) -> str:
    """The role of the image that is shown first: the median tells most."""
    roles = [scene.role for scene in scenes]
    return "median" if "median" in roles else roles[0] if roles else ""


def _sections(report: Report) -> dict[str, str]:
    """The sections that have something to show, by the anchor that they stand at."""
    keys = {table.key for table in report.tables}
    sections = {
        "pictures": ("Pictures", bool(report.scenes)), "advice": ("What to use", bool(report.advice)),
        "rankings": ("Who won", not keys.isdisjoint(RANKINGS)), "questions": ("Questions", not keys.isdisjoint(ASKED)),
        "costs": ("Costs", "cost-per-db" in keys), "differences-section": ("Is it real?", "differences" in keys),
        "findings": ("Published findings", bool(report.judgements)), "curves": ("Curves", "curves" in report.charts),
        **{table.key: (RECORDS[table.key], True) for table in report.records},
        "apart": ("Other runs", any(key.startswith("leaderboard-") for key in keys)), "summary": ("In numbers", True),
    }
    return {key: title for key, (title, shown) in sections.items() if shown}


def _file(name: str) -> str:
    return files("inversion.report.render").joinpath(name).read_text(encoding="utf-8")
