"""The Plotly charts of the report, in colours that are legible on a light and a dark page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go  # type: ignore[import-untyped]

from inversion.report.data.board import Board, group_by
from inversion.report.data.rates import RATE, JpegLine, rated
from inversion.report.stats.comparisons import holds_up
from inversion.report.tables.floors import FLOORS, LINEAR, features_of
from inversion.report.tables.table import ReportTable, is_missing

INK, LINES = "#808890", "rgba(128, 136, 144, 0.25)"
COLOURS = ("#3b82c4", "#e07b39", "#3f9e6e", "#c2528b", "#8a6fd1", "#b59a2d", "#4aa8b5", "#b5534a")
SYMBOLS = ("circle", "square", "diamond", "cross")
MATRIX = 24
"""Largest number of configurations in the matrix of differences."""

CURVES = 60
"""Largest number of learning curves."""

SHOWN_CURVES = 8
"""Curves that are visible at first."""

_QUANTISER = re.compile(r"/bits=\d+")

Curves = Mapping[str, Sequence[tuple[int, float]]]


def ranking(board: Board) -> go.Figure:
    """PSNR of every configuration with its 95 % interval, coloured by decoder."""
    figure = _figure(height=120 + 20 * len(board.configurations))
    for decoder, colour in _colours(board).items():
        items = [item for item in board.configurations if item.decoder == decoder]
        intervals = [board.interval(item) for item in items]
        means = [item.psnr.mean for item in items]
        figure.add_scatter(
            x=means, y=[item.label for item in items], mode="markers", name=decoder,
            marker={"color": colour, "size": 9},
            error_x={"array": [i.high - m if i else 0 for i, m in zip(intervals, means, strict=True)],
                     "arrayminus": [m - i.low if i else 0 for i, m in zip(intervals, means, strict=True)],
                     "color": colour, "thickness": 1.5, "width": 3},
            hovertemplate="%{y}<br>%{x:.2f} dB<extra></extra>")
    labels = [item.label for item in reversed(board.configurations)]
    figure.update_yaxes(categoryorder="array", categoryarray=labels, automargin=True)
    figure.update_xaxes(title="test PSNR (dB), mean and 95 % interval")
    return figure


def against(board: Board, metric: str, title: str) -> go.Figure:
    """PSNR against a metric such as training time, on a logarithmic axis.

    A line joins the sizes of one decoder (``decoder_options`` width or depth) at the same layer.
    """
    figure = _figure(height=420)
    for decoder, colour in _colours(board).items():
        items = [item for item in board.configurations if item.decoder == decoder and (item.cost(metric) or 0) > 0]
        for family in group_by(items, lambda item: (item.encoder, item.fusion, item.design, item.settings)).values():
            joined = sorted(family, key=lambda item: item.cost(metric) or 0)
            if len(joined) > 1:
                figure.add_scatter(x=[item.cost(metric) for item in joined], y=[item.psnr.mean for item in joined],
                                   mode="lines", line={"color": colour, "width": 1}, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=[item.cost(metric) for item in items], y=[item.psnr.mean for item in items], mode="markers",
            name=decoder, text=[item.label for item in items],
            marker={"color": colour, "size": 10,
                    "symbol": ["diamond" if item.is_ensemble else "circle" for item in items]},
            hovertemplate="%{text}<br>%{x:,.4g}, %{y:.2f} dB<extra></extra>")
    figure.update_xaxes(title=title, type="log")
    figure.update_yaxes(title="test PSNR (dB)")
    return figure


def floors(board: Board, table: ReportTable) -> go.Figure:
    """PSNR of every decoder at each cut, between the floors and the images found by optimisation."""
    figure = _figure(height=160 + 34 * len(table.rows))
    names = [str(row["features"]) for row in table.rows]
    marks = {"training_colour": "line-ns-open", "mean_colour": "x-thin-open", "bicubic": "square-open"}
    for name, title in FLOORS.items():
        _mark(figure, table, name, title, {"symbol": marks[name], "color": INK, "size": 11, "line": {"width": 2}})
    for decoder, colour in _colours(board).items():
        items = [item for plain, item in board.chosen.items() if item.decoder == decoder and features_of(item) in names]
        figure.add_scatter(x=[item.psnr.mean for item in items], y=[features_of(item) for item in items],
                           mode="markers", name=decoder, text=[item.label for item in items],
                           marker={"color": colour, "size": 10, "symbol": "triangle-right" if decoder == LINEAR else
                                   "circle"}, hovertemplate="%{text}<br>%{x:.2f} dB<extra></extra>")
    steps = sorted({int(key.partition("_")[2]) for row in table.rows for key in row if key.startswith("optimised_")})
    for number, count in enumerate(steps):
        _mark(figure, table, f"optimised_{count}", f"optimised, {count:,} steps",
              {"symbol": "star" if number else "star-open", "color": INK, "size": 11})
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    figure.update_xaxes(title="test PSNR (dB)")
    return figure


def _mark(figure: go.Figure, table: ReportTable, column: str, title: str, marker: Mapping[str, object]) -> None:
    """Adds a trace of one column of the table of floors, if it has values."""
    points = [(row[column], row["features"]) for row in table.rows if not is_missing(row.get(column))]
    if points:
        figure.add_scatter(x=[value for value, _ in points], y=[name for _, name in points], mode="markers",
                           name=title, marker=marker, hovertemplate=f"%{{y}}<br>{title}: %{{x:.2f}} dB<extra></extra>")


def rate(board: Board, line: JpegLine | None) -> go.Figure:
    """PSNR against the rate of quantised features, a line for each way to reduce them, with JPEG; empty without any."""
    figure = _figure(height=480)
    families = group_by(rated(board), lambda item: _QUANTISER.sub("", item.label))
    for number, (name, items) in enumerate(families.items()):
        intervals, means = [board.interval(item) for item in items], [item.psnr.mean for item in items]
        figure.add_scatter(
            x=[item.cost(RATE) for item in items], y=means, name=name, mode="lines+markers",
            text=[item.label for item in items], line={"color": COLOURS[number % len(COLOURS)], "width": 2},
            marker={"size": 9, "symbol": SYMBOLS[number // len(COLOURS) % len(SYMBOLS)]},
            error_y={"array": [i.high - m if i else 0 for i, m in zip(intervals, means, strict=True)],
                     "arrayminus": [m - i.low if i else 0 for i, m in zip(intervals, means, strict=True)],
                     "thickness": 1, "width": 2},
            hovertemplate="%{text}<br>%{x:.3g} bits per pixel, %{y:.2f} dB<extra></extra>")
    if line is not None and families:
        for name, rates, dash in (("JPEG, scan alone", line.scans, "solid"), ("JPEG, whole file", line.files, "dash")):
            figure.add_scatter(
                x=list(rates), y=list(line.psnr), name=name, mode="lines",
                line={"color": INK, "width": 2, "dash": dash},
                hovertemplate=f"{name}<br>%{{x:.3g}} bits per pixel, %{{y:.2f}} dB<extra></extra>")
    ticks = [2.0**power for power in range(-8, 9)]
    figure.update_xaxes(title="bits per pixel", type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_yaxes(title="test PSNR (dB), mean and 95 % interval")
    return figure


def curves(board: Board, histories: Curves) -> go.Figure:
    """Validation PSNR by epoch; only the best configurations are visible until others are switched on in the legend."""
    figure = _figure(height=460)
    for number, item in enumerate(board.configurations[:CURVES]):
        points = histories.get(item.label, ())
        if points:
            figure.add_scatter(
                x=[step for step, _ in points], y=[value for _, value in points], name=item.label,
                mode="lines+markers" if len(points) < 40 else "lines",
                line={"color": COLOURS[number % len(COLOURS)], "width": 2},
                visible=True if number < SHOWN_CURVES else "legendonly",
                hovertemplate="epoch %{x}: %{y:.2f} dB<extra>%{fullData.name}</extra>")
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="validation PSNR (dB)")
    return figure


def tuning(board: Board) -> go.Figure:
    """Validation PSNR against the tuned parameter, if one number was tuned; a star marks the chosen value."""
    figure = _figure(height=420)
    for number, item in enumerate(board.configurations[:CURVES]):
        choice = item.choice
        if choice is None or len(choice.names) != 1:
            continue
        name, = choice.names
        points = [(trial.parameters[name], trial.validation) for trial in choice.trials]
        if not all(isinstance(value, int | float) for value, _ in points):
            continue
        figure.add_scatter(
            x=[value for value, _ in points], y=[None if math.isnan(psnr) else psnr for _, psnr in points],
            name=item.label, mode="lines+markers", line={"color": COLOURS[number % len(COLOURS)], "width": 2},
            marker={"size": 9, "symbol": ["star" if trial is choice.chosen else "circle" for trial in choice.trials]},
            visible=True if number < SHOWN_CURVES else "legendonly",
            hovertemplate=f"{name}=%{{x:g}}: %{{y:.2f}} dB<extra>%{{fullData.name}}</extra>")
        figure.update_xaxes(title=name, type="log" if all(value > 0 for value, _ in points) else "linear")
    figure.update_yaxes(title="validation PSNR (dB)")
    return figure


def matrix(board: Board) -> go.Figure:
    """Differences between the best configurations; a dot marks one that does not hold up."""
    labels = [item.label for item in board.configurations[:MATRIX]]
    values, marks = [], []
    for row in labels:
        found = [board.comparisons.get((row, column)) or
                 ((turned := board.comparisons.get((column, row))) and turned.reversed()) for column in labels]
        values.append([None if one is None else one.difference for one in found])
        marks.append(["" if one is None or holds_up(one) else "·" for one in found])
    largest = max((abs(value) for row in values for value in row if value is not None), default=1.0) or 1.0
    figure = _figure(height=260 + 22 * len(labels))
    figure.add_heatmap(z=values, x=labels, y=labels, text=marks, texttemplate="%{text}", textfont={"size": 18},
                       colorscale="RdBu", zmid=0, zmin=-largest, zmax=largest, colorbar={"title": "dB"},
                       hovertemplate="%{y}<br>minus %{x}<br>%{z:+.2f} dB %{text}<extra></extra>")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    figure.update_xaxes(tickangle=-50, automargin=True, showgrid=False)
    return figure


def captions(board: Board) -> dict[str, str]:
    """Captions of charts that leave configurations out."""
    count = len(board.configurations)
    limits = {"differences": MATRIX, "curves": CURVES}
    return {name: f"The best {most} of {count} configurations." for name, most in limits.items() if count > most}


def _figure(height: int) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=height, margin={"l": 10, "r": 10, "t": 30, "b": 10}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"color": INK, "family": "system-ui, sans-serif", "size": 12},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0}, hovermode="closest", showlegend=True)
    figure.update_xaxes(gridcolor=LINES, zerolinecolor=LINES, automargin=True)
    figure.update_yaxes(gridcolor=LINES, zerolinecolor=LINES, automargin=True)
    return figure


def _colours(board: Board) -> dict[str, str]:
    decoders = sorted({item.decoder for item in board.configurations})
    return {decoder: COLOURS[number % len(COLOURS)] for number, decoder in enumerate(decoders)}
