"""The contents of a comparison of studies; as a self-contained page, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inversion.report.render.page import render_template
from inversion.report.render.report import shown_in_markdown
from inversion.report.tables.table import ReportTable, literal


@dataclass(frozen=True)
class StudyComparison:
    """Everything that the page of a comparison shows.

    Attributes:
        names: The studies; the first is what the others are compared with.
        headline: The conclusions, a sentence each.
        tables: What the studies are, what distinguishes them, and their leaderboards beside each other.
        differences: The tables of the configurations in both of two studies.
        leaderboards: The whole leaderboard of each study's largest group.
        charts: Plotly figures by the key of the table that they belong to.
    """

    names: Sequence[str]
    headline: Sequence[str]
    tables: Sequence[ReportTable]
    differences: Sequence[ReportTable] = ()
    leaderboards: Sequence[ReportTable] = ()
    charts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """``one and two``, ``one, two and three``."""
        return " and ".join(filter(None, (", ".join(self.names[:-1]), self.names[-1])))

    @property
    def all_tables(self) -> list[ReportTable]:
        return [*self.tables, *self.differences, *self.leaderboards]


def comparison_page(comparison: StudyComparison) -> str:
    """The page of a comparison."""
    return render_template("comparison.html.j2", comparison.charts, comparison=comparison, common={}, captions={})


def comparison_markdown(comparison: StudyComparison) -> str:
    """The whole comparison without charts."""
    return "\n".join([f"# Studies {literal(comparison.title)}", "",
                      *(f"{literal(sentence)}\n" for sentence in comparison.headline),
                      *map(shown_in_markdown, (*comparison.differences, *comparison.tables, *comparison.leaderboards))])
