"""The Plotly charts of the report, in colours that are legible on a light and a dark page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

from inversion.metrics import FLOORS
from inversion.report.data.board import Board, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.data.rates import RATE, JpegLine, rated
from inversion.report.stats.comparisons import holds_up
from inversion.report.stats.intervals import Interval
from inversion.report.tables.floors import LINEAR, features_of
from inversion.report.tables.table import ReportTable, is_missing

INK, LINES = "#808890", "rgba(128, 136, 144, 0.25)"
COLOURS = ("#3b82c4", "#e07b39", "#3f9e6e", "#c2528b", "#8a6fd1", "#b59a2d", "#4aa8b5", "#b5534a")
SYMBOLS = ("circle", "square", "diamond", "cross")
MATRIX = 24
"""Largest number of configurations in the matrix of differences."""

CURVES = 60
"""Largest number of learning curves."""

SHOWN_CURVES = 8
"""Curves of one panel that are visible at first; of more configurations, each encoder has a panel of its own."""

NAMED = 10
"""Points of a chart that are all named."""

GAIN_DB = 0.1
"""Smaller gains over a cheaper configuration give a point no name."""

EPOCH_TICKS = 8
"""Largest number of ticks on an axis of epochs, which are whole numbers."""

PANELS = 3
"""Panels beside each other."""

_QUANTISER = re.compile(r"/bits=\d+")

Curves = Mapping[str, Sequence[tuple[int, float]]]


def ranking(board: Board) -> go.Figure:
    """PSNR of every configuration with its 95 % interval, coloured by decoder."""
    figure = new_figure(height=120 + 20 * len(board.configurations))
    for decoder, colour in colours_of(board.configurations).items():
        items = [item for item in board.configurations if item.decoder == decoder]
        figure.add_scatter(
            x=[item.psnr.mean for item in items], y=[item.label for item in items], mode="markers", name=decoder,
            marker={"color": colour, "size": 9},
            error_x=_intervals(board, items) | {"color": colour, "thickness": 1.5, "width": 3},
            hovertemplate="%{y}<br>%{x:.2f} dB<extra></extra>")
    labels = [item.label for item in reversed(board.configurations)]
    figure.update_yaxes(categoryorder="array", categoryarray=labels, automargin=True)
    figure.update_xaxes(title="test PSNR (dB)")
    return figure


def _intervals(board: Board, items: Sequence[Configuration]) -> dict[str, Any]:
    """Plotly's error bars for the intervals of the mean PSNR."""
    return error_bars([(board.interval(item), item.psnr.mean) for item in items])


def error_bars(pairs: Sequence[tuple[Interval | None, float]]) -> dict[str, Any]:
    """Plotly's error bars for intervals around means."""
    return {"array": [interval.high - mean if interval else 0 for interval, mean in pairs],
            "arrayminus": [mean - interval.low if interval else 0 for interval, mean in pairs]}


def against(board: Board, metric: str, title: str) -> go.Figure:
    """PSNR against a metric such as training time, on a logarithmic axis.

    A line joins the sizes of one decoder (``decoder_options`` width or depth) at the same layer.
    """
    figure = new_figure(height=420)
    named = _named(board, metric)
    for decoder, colour in colours_of(board.configurations).items():
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
    for item in named:
        figure.add_annotation(x=math.log10(item.cost(metric) or 1), y=item.psnr.mean, text=item.label, showarrow=False,
                              yshift=12, font={"size": 10})
    _log_axis(figure, [item.cost(metric) or 0 for item in board.configurations])
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="test PSNR (dB)")
    return figure


def _named(board: Board, metric: str) -> list[Configuration]:
    """The configurations whose points are named: all of few, else those that gain over all cheaper ones."""
    known = sorted((item for item in board.configurations if (item.cost(metric) or 0) > 0),
                   key=lambda item: (item.cost(metric) or 0, -item.psnr.mean))
    frontier: list[Configuration] = []
    for item in known:
        if not frontier or item.psnr.mean > frontier[-1].psnr.mean + GAIN_DB:
            frontier.append(item)
    if len(known) <= NAMED and len({item.cost(metric) for item in known}) == len(known):
        return known
    return frontier


def _log_axis(figure: go.Figure, values: Sequence[float]) -> None:
    """A logarithmic axis around positive values, with ticks at 1, 2 and 5 times powers of ten."""
    positive = [value for value in values if value > 0]
    if not positive:
        return
    low, high = math.log10(min(positive)), math.log10(max(positive))
    margin = max(0.08 * (high - low), 0.15)
    low, high = low - margin, high + margin
    steps: tuple[float, ...] = (1, 2, 5) if high - low > 1.1 else (1, 1.5, 2, 3, 4, 5, 7)
    steps = (1,) if high - low > 4 else steps
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high)) for step in steps]
    ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
    figure.update_xaxes(type="log", range=[low, high], tickvals=ticks, ticktext=[_short(tick) for tick in ticks])


def _short(value: float) -> str:
    """``0.5``, ``20``, ``15k``, ``2M``."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def floors(board: Board, table: ReportTable) -> go.Figure:
    """PSNR of every decoder at each cut, between the floors and the images found by optimisation."""
    figure = new_figure(height=160 + 34 * len(table.rows))
    names = [str(row["features"]) for row in table.rows]
    marks = {"training_colour": "line-ns-open", "mean_colour": "x-thin-open", "bicubic": "square-open"}
    for name, title in FLOORS.items():
        _mark(figure, table, name, title, {"symbol": marks[name], "color": INK, "size": 11, "line": {"width": 2}})
    for decoder, colour in colours_of(board.configurations).items():
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
    figure = new_figure(height=480)
    families = group_by(rated(board), lambda item: _QUANTISER.sub("", item.label))
    for number, (name, items) in enumerate(families.items()):
        figure.add_scatter(
            x=[item.cost(RATE) for item in items], y=[item.psnr.mean for item in items], name=name,
            mode="lines+markers", text=[item.label for item in items],
            line={"color": COLOURS[number % len(COLOURS)], "width": 2},
            marker={"size": 9, "symbol": SYMBOLS[number // len(COLOURS) % len(SYMBOLS)]},
            error_y=_intervals(board, items) | {"thickness": 1, "width": 2},
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
    """Validation PSNR by epoch, each curve named at its end; of many configurations, a panel for each encoder."""
    shown = [item for item in board.configurations[:CURVES] if histories.get(item.label)]
    last = max((step for item in shown for step, _ in histories[item.label]), default=1)
    ticks = {"dtick": max(1, math.ceil(last / EPOCH_TICKS)), "tick0": 0}
    if len(shown) > SHOWN_CURVES:
        return _panels(board, shown, histories, ticks)
    figure = new_figure(height=460)
    heights = _apart({item.label: histories[item.label][-1][1] for item in shown}) if shown else {}
    for number, item in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        figure.add_scatter(name=item.label, **_curve(histories[item.label], colour))
        figure.add_annotation(x=histories[item.label][-1][0], y=heights[item.label], text=item.label,
                              showarrow=False, xanchor="left", xshift=8, font={"color": colour, "size": 11})
    longest = max((len(item.label) for item in shown), default=0)
    figure.update_layout(showlegend=False, margin={"r": 20 + 6 * longest})
    figure.update_xaxes(title="epoch", **ticks)
    figure.update_yaxes(title="validation PSNR (dB)")
    return figure


def _panels(board: Board, shown: Sequence[Configuration], histories: Curves, ticks: Mapping[str, int]) -> go.Figure:
    """A panel for each encoder, with the colours of the decoders; the axes are shared."""
    groups = group_by(shown, lambda item: item.encoder if not item.is_ensemble else "ensembles")
    columns = min(PANELS, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure = make_subplots(rows, columns, subplot_titles=list(groups), shared_xaxes="all", shared_yaxes="all",
                           horizontal_spacing=0.03, vertical_spacing=0.25 / rows)
    style(figure, height=120 + 220 * rows)
    named: set[str] = set()
    colours = colours_of(board.configurations)
    for number, items in enumerate(groups.values()):
        for item in items:
            figure.add_scatter(name=item.decoder, legendgroup=item.decoder, showlegend=item.decoder not in named,
                               row=number // columns + 1, col=number % columns + 1,
                               **_curve(histories[item.label], colours[item.decoder], item.label))
            named.add(item.decoder)
    figure.update_annotations(font={"size": 11})
    figure.update_xaxes(**ticks)
    figure.update_xaxes(title="epoch", row=rows)
    figure.update_yaxes(title="validation PSNR (dB)", col=1)
    figure.update_layout(legend={"y": 1.0 + 40 / (220 * rows)})
    return figure


def _curve(points: Sequence[tuple[int, float]], colour: str, label: str = "%{fullData.name}") -> dict[str, Any]:
    """One learning curve as a trace; the page lets it stand out under the pointer."""
    return {"x": [step for step, _ in points], "y": [value for _, value in points],
            "mode": "lines+markers" if len(points) < 40 else "lines", "line": {"color": colour, "width": 2},
            "meta": {"line": True}, "hovertemplate": f"epoch %{{x}}: %{{y:.2f}} dB<extra>{label}</extra>"}


def _apart(ends: Mapping[str, float], share: float = 0.05) -> dict[str, float]:
    """Heights of labels beside the ends of curves, moved up where they would lie on each other."""
    gap = share * ((max(ends.values()) - min(ends.values())) or 1.0)
    placed: dict[str, float] = {}
    height = -math.inf
    for label, value in sorted(ends.items(), key=lambda pair: pair[1]):
        height = placed[label] = max(value, height + gap)
    return placed


def tuning(board: Board) -> go.Figure:
    """Validation PSNR against the tuned parameter, if one number was tuned; a star marks the chosen value."""
    figure = new_figure(height=420)
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
    """Differences between the best configurations; an asterisk marks one that holds up."""
    labels = [item.label for item in board.configurations[:MATRIX]]
    values, marks = [], []
    for row in labels:
        found = [board.comparisons.get((row, column)) or
                 ((turned := board.comparisons.get((column, row))) and turned.reversed()) for column in labels]
        values.append([None if one is None else one.difference for one in found])
        marks.append(["*" if one is not None and holds_up(one) else "" for one in found])
    largest = max((abs(value) for row in values for value in row if value is not None), default=1.0) or 1.0
    figure = new_figure(height=260 + 22 * len(labels))
    figure.add_heatmap(z=values, x=labels, y=labels, text=marks, texttemplate="%{text}", textfont={"size": 16},
                       colorscale="RdBu", zmid=0, zmin=-largest, zmax=largest, colorbar={"title": "dB"},
                       hovertemplate="%{y}<br>minus %{x}<br>%{z:+.2f} dB%{text}<extra></extra>")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    figure.update_xaxes(tickangle=-50, automargin=True, showgrid=False)
    return figure


def captions(board: Board) -> dict[str, str]:
    """Captions of charts that leave configurations out."""
    count = len(board.configurations)
    limits = {"differences": MATRIX, "curves": CURVES}
    return {name: f"The best {most} of {count} configurations." for name, most in limits.items() if count > most}


def new_figure(height: int) -> go.Figure:
    """An empty figure of this height in pixels."""
    return style(go.Figure(), height)


def style(figure: go.Figure, height: int) -> go.Figure:
    """Gives a figure its height in pixels, and the colours and margins of all charts."""
    figure.update_layout(
        height=height, margin={"l": 10, "r": 10, "t": 30, "b": 10}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"color": INK, "family": "system-ui, sans-serif", "size": 12},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0}, hovermode="closest", showlegend=True)
    figure.update_xaxes(gridcolor=LINES, zerolinecolor=LINES, automargin=True)
    figure.update_yaxes(gridcolor=LINES, zerolinecolor=LINES, automargin=True)
    return figure


def colours_of(items: Sequence[Configuration]) -> dict[str, str]:
    """A colour for each decoder."""
    decoders = sorted({item.decoder for item in items})
    return {decoder: COLOURS[number % len(COLOURS)] for number, decoder in enumerate(decoders)}
