"""A board as the evidence that findings are judged by, and the verdicts as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from inversion.report.data.board import Board
from inversion.report.published.findings import Judgement
from inversion.report.stats.statistics import Comparison
from inversion.report.tables.table import ReportTable, Shown


@dataclass(frozen=True)
class BoardEvidence:
    """The configurations of one board by their plain names; variants of one are represented by the board's choice."""

    board: Board

    def configurations(self) -> Collection[str]:
        """Those with test scores."""
        return self.board.chosen

    def score(self, configuration: str) -> float | None:
        """Mean test PSNR in dB; None if it was not run."""
        item = self.board.chosen.get(configuration)
        return item.psnr.mean if item else None

    def compare(self, a: str, b: str) -> Comparison | None:
        """PSNR of ``a`` less that of ``b``, paired by image; None if one was not run."""
        first, second = self.board.chosen.get(a), self.board.chosen.get(b)
        return self.board.compare(first.label, second.label) if first and second else None

    def cost(self, configuration: str, metric: str) -> float | None:
        """A metric of the whole run; None if it is not known, as memory that is not the run's own."""
        item = self.board.chosen.get(configuration)
        return item.own_cost(metric) if item else None


def findings_table(judgements: Sequence[Judgement], note: str = "") -> ReportTable:
    """Each published finding with its verdict, what it rests on, and what would have been needed for it."""
    rows = [{"name": item.finding.name, "section": item.finding.section, "finding": item.finding.claim,
             "verdict": str(item.verdict), "evidence": item.evidence, "criterion": item.finding.criterion,
             "missing": " ".join(item.missing)} for item in judgements]
    shown = [Shown(name, f"{{{name}}}") for name in ("section", "finding", "verdict", "evidence", "criterion")]
    return ReportTable("findings", "The published study's findings, judged by these runs", shown, rows, note)
