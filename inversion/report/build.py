"""Builds a report: conclusions, tables, charts and pictures of a study, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inversion.report import conclusions, search_conclusions
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import histories
from inversion.report.data.convergence import still_rising
from inversion.report.data.rates import JpegLine, jpeg_line
from inversion.report.data.search_runs import search_of
from inversion.report.data.searching import Search
from inversion.report.data.study import StudyData
from inversion.report.methods import methods
from inversion.report.published import load_studies
from inversion.report.render import charts, search_charts
from inversion.report.render.pictures import scenes
from inversion.report.render.report import Report
from inversion.report.seed_plan import SeedPlan, describe_plan, plan_seeds
from inversion.report.tables import capacity, rankings
from inversion.report.tables.costs import costs
from inversion.report.tables.findings import BoardEvidence, judge_findings
from inversion.report.tables.floors import beside_thumbnails, floors
from inversion.report.tables.metrics import metrics
from inversion.report.tables.overview import failures, missing, parameters_of, standing, summary, versions_of
from inversion.report.tables.published import PublishedStudy, published_table, reproduced
from inversion.report.tables.questions import differences, questions
from inversion.report.tables.rates import rates
from inversion.report.tables.references import references
from inversion.report.tables.search import trials
from inversion.report.tables.table import ReportTable
from inversion.report.tables.test_sets import test_sets
from inversion.report.tables.tuning import tuning
from inversion.report.tables.values import answers, resolution_or_values
from inversion.tracking.connection import Connection


def make_report(connection: Connection, data: StudyData, memory_budget_mb: float | None = None,
                seed_sd: float | None = None) -> Report:
    """Builds the report of a study, complete or not.

    ``memory_budget_mb`` limits the recommended configuration. ``seed_sd`` is the standard deviation between trainings
    in dB; None to measure it.
    """
    if search := search_of(connection, data):
        return _search_report(connection, data, search)
    boards = make_boards(data.runs, seed_sd, data.tuned)
    optimised = references(connection, data, boards)
    records, numbers = _records(data, optimised), summary(data, boards)
    versions, parameters = versions_of(data), parameters_of(data)
    if not boards:
        nothing = [_why_none_is_ranked(data, numbers["attempted"])]
        return Report(data, boards, nothing, numbers, records=records, versions=versions, parameters=parameters)
    board, studies = boards[0], load_studies()
    curves = _curves(connection, board)
    rising, line = still_rising(curves), jpeg_line(connection, board)
    values = resolution_or_values(board)
    plan = plan_seeds(board, reproduced(studies, board))
    bounds = floors(board, optimised)
    next_step = [_next_step(plan, data.name, seed_sd)] if plan else []
    return Report(
        data, boards,
        [*conclusions.headline(board), *conclusions.fairness(board, curves), *answers(values.rows),
         *beside_thumbnails(bounds.rows), *standing(data, boards), *next_step], numbers,
        conclusions.recommendations(board, memory_budget_mb), studies,
        {study.key: judge_findings(study.findings, BoardEvidence(study.view(board)))
         for study in studies if study.findings},
        _tables(data, boards, studies, rising, [values, rates(board, line), bounds]), records,
        scenes(connection, board), _charts(board, curves, line, bounds), versions, parameters, methods(data, boards),
    )


def _why_none_is_ranked(data: StudyData, attempted: str) -> str:
    finished = data.having("FINISHED")
    problem = next((run.problem for run in finished if run.problem), None)
    if problem is None:
        return f"No run of this study is finished yet: {attempted} have started."
    total = attempted.rpartition(" of ")[2]
    return f"{len(finished)} of {total} are finished, but the results of none can be read: {problem}"


def boards_of(connection: Connection, data: StudyData, seed_sd: float | None = None) -> list[Board]:
    """The boards of a study; of a search, that of its best trial alone: test scores must not choose."""
    if search := search_of(connection, data):
        return _board_of_best(data, search)
    return make_boards(data.runs, seed_sd, data.tuned)


def _board_of_best(data: StudyData, search: Search) -> list[Board]:
    best = search.best
    return make_boards([run for run in data.runs if best and run.run_id == best.run_id])


def _search_report(connection: Connection, data: StudyData, search: Search) -> Report:
    """The report of a search. Of its trials, only the best one is on a board."""
    boards = _board_of_best(data, search)
    board = boards[0] if boards else None
    optimised = references(connection, data, boards)
    tables, figures = [trials(search)], {"search": search_charts.progress(search),
                                         "searched": search_charts.parameters(search)}
    said = search_conclusions.headline(search, board)
    if board is not None:
        curves = _curves(connection, board)
        line, bounds = jpeg_line(connection, board), floors(board, optimised)
        said += conclusions.fairness(board, curves)
        tables += [bounds, capacity.generalisation(board), *test_sets(data, board), rates(board, line)]
        figures |= {"rate": charts.rate(board, line), "curves": charts.curves(board, curves)}
        figures |= {"floors": charts.floors(board, bounds)} if bounds.rows else {}
    return Report(
        data, boards, [*said, *standing(data, boards)], summary(data, []) | search_conclusions.summary(search, board),
        search_conclusions.advice(search), tables=[table for table in tables if table.rows],
        records=_records(data, optimised), scenes=scenes(connection, board) if board else [],
        charts=_drawn(figures), versions=versions_of(data), parameters=parameters_of(data),
        methods=methods(data, boards, search), search=search)


def _records(data: StudyData, optimised: ReportTable) -> list[ReportTable]:
    """The tables of other runs that are not empty."""
    return [table for table in (optimised, failures(data), missing(data)) if table.rows]


def _drawn(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that have points."""
    return {name: figure for name, figure in figures.items() if any(trace.x for trace in figure.data)}


def _next_step(plan: SeedPlan, study: str, seed_sd: float | None) -> str:
    """What would decide what is open, with the command that queues it."""
    given = f" --seed-sd {seed_sd:g}" if seed_sd is not None else ""
    command = f": inversion-sweep --study {study} --seeds-for undecided{given}" if plan.configurations else "."
    return f"{describe_plan(plan)}{command}"


def _tables(data: StudyData, boards: Sequence[Board], studies: Sequence[PublishedStudy],
            rising: Mapping[str, float], more: Sequence[ReportTable]) -> list[ReportTable]:
    board = boards[0]
    tables = [rankings.leaderboard(board, studies, rising=rising), tuning(board), rankings.top_single(board, studies),
              rankings.ensembles(board, studies), *questions(board, studies), *more, capacity.equal_size(board),
              capacity.generalisation(board), *test_sets(data, board), metrics(board), costs(board, studies),
              differences(board)]
    for study in studies:
        tables.append(published_table(study, board))
        if study.figures:
            tables.append(study.figures(data, study.view(board)))
    tables += [rankings.leaderboard(other, studies, number) for number, other in enumerate(boards[1:], start=1)]
    return [table for table in tables if table.rows]


def _curves(connection: Connection, board: Board) -> dict[str, list[tuple[int, float]]]:
    """Validation PSNR by epoch of the first seed of the best configurations."""
    run_ids = {item.label: next(iter(item.runs.values())).run_id for item in board.configurations[:charts.CURVES]}
    return histories(connection, run_ids, "val/psnr")


def _charts(board: Board, curves: charts.Curves, line: JpegLine | None, bounds: ReportTable) -> dict[str, Any]:
    made = {
        "leaderboard": charts.ranking(board),
        "resolution": charts.against(board, "feature_locations", "feature locations"),
        "parameters": charts.against(board, "decoder_parameters", "trained parameters"),
        "compute": charts.against(board, "gflops_per_image", "GFLOPs per image, encoder and decoder"),
        "time": charts.against(board, "train_seconds", "seconds of training"),
        "rate": charts.rate(board, line),
        "tuning": charts.tuning(board),
        "curves": charts.curves(board, curves),
    } | ({"floors": charts.floors(board, bounds)} if bounds.rows else {})
    return _drawn(made) | ({"differences": charts.matrix(board)} if len(board.configurations) > 1 else {})
