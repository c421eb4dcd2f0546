"""A report put together: what is concluded, the tables, charts and pictures behind it, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inversion.report import conclusions
from inversion.report.conclusions import Advice
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import histories
from inversion.report.data.study_data import StudyData
from inversion.report.published.evidence import BoardEvidence
from inversion.report.published.findings import Judgement, judge_findings
from inversion.report.published.published_figures import published_table
from inversion.report.published.published_list import published_list
from inversion.report.render import charts
from inversion.report.render.pictures import Scene, scenes
from inversion.report.tables import rankings
from inversion.report.tables.costs import costs
from inversion.report.tables.differences import differences
from inversion.report.tables.made_with import parameters_of, versions_of
from inversion.report.tables.questions import questions
from inversion.report.tables.records import failures, missing
from inversion.report.tables.references import references
from inversion.report.tables.summary import standing, summary
from inversion.report.tables.table import ReportTable
from inversion.tracking.connection import Connection


@dataclass(frozen=True)
class Report:
    """Everything that the page shows. ``charts`` are plotly figures by the place they belong to."""

    data: StudyData
    boards: Sequence[Board]
    headline: Sequence[str]
    summary: Mapping[str, str]
    advice: Sequence[Advice] = ()
    judgements: Sequence[Judgement] = ()
    tables: Sequence[ReportTable] = ()
    records: Sequence[ReportTable] = ()
    scenes: Sequence[Scene] = ()
    charts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def board(self) -> Board | None:
        """The largest group of runs that can be compared."""
        return self.boards[0] if self.boards else None


def make_report(connection: Connection, data: StudyData, memory_budget_mb: float | None = None) -> Report:
    """Draws the conclusions of a study, however much of it is there."""
    boards = make_boards(data.runs)
    found = (references(connection, data, boards), failures(data), missing(data))
    records = [table for table in found if table.rows]
    numbers, versions, parameters = summary(data, boards), versions_of(data), parameters_of(data)
    if not boards:
        nothing = [f"No run of this study is finished yet: {numbers['attempted']} have begun."]
        return Report(data, boards, nothing, numbers, records=records, versions=versions, parameters=parameters)
    board = boards[0]
    return Report(
        data, boards, [*conclusions.headline(board), *standing(data, boards)], numbers,
        conclusions.recommendations(board, memory_budget_mb), judge_findings(BoardEvidence(board)),
        _tables(data, boards), records, scenes(connection, board), _charts(connection, board), versions, parameters,
    )


def _tables(data: StudyData, boards: Sequence[Board]) -> list[ReportTable]:
    board = boards[0]
    tables = [rankings.leaderboard(board), rankings.top_single(board), rankings.ensembles(board), *questions(board),
              costs(board), differences(board), published_table(board), published_list(data, board),
              *(rankings.leaderboard(other, number) for number, other in enumerate(boards[1:], start=1))]
    return [table for table in tables if table.rows]


def _charts(connection: Connection, board: Board) -> dict[str, Any]:
    run_ids = {item.label: next(iter(item.runs.values())).run_id for item in board.configurations[:charts.CURVES]}
    made = {
        "leaderboard": charts.ranking(board),
        "resolution": charts.against(board, "feature_locations", "feature locations"),
        "parameters": charts.against(board, "decoder_parameters", "trained parameters"),
        "time": charts.against(board, "train_seconds", "seconds of training"),
        "curves": charts.curves(board, histories(connection, run_ids, "val/psnr")),
    }
    made = {name: figure for name, figure in made.items() if any(trace.x for trace in figure.data)}
    return made | ({"differences": charts.matrix(board)} if len(board.configurations) > 1 else {})
