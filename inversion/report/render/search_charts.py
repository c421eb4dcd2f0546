"""The charts of a search: its objective by trial and against each searched parameter. Test scores are on none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

from inversion.report.data.searching import Search, Trial
from inversion.report.render.charts import COLOURS, PANELS, new_figure, style

PANEL_HEIGHT = 240
FEW = 6
"""Whole numbers of so few different values are shown as categories."""

TRIAL, BEST = COLOURS[0], COLOURS[1]


def progress(search: Search) -> go.Figure:
    """The objective of each finished trial by its number, and the best so far as steps."""
    figure = new_figure(height=380)
    steps = search.best_so_far()
    figure.add_scatter(x=[number for number, _ in steps], y=[value for _, value in steps], mode="lines",
                       name="best so far", line={"color": BEST, "width": 2, "shape": "hv"}, hoverinfo="skip")
    _add_trials(figure, search, lambda trial: trial.number)
    last = max((trial.number for trial in search.ranked), default=1)
    figure.update_xaxes(title="trial", range=[-0.02 * last - 0.3, 1.02 * last + 0.3], tickformat="d")
    figure.update_yaxes(title=_axis(search))
    return figure


def parameters(search: Search) -> go.Figure:
    """The objective against each searched parameter, a panel each; the axes of the objective are shared."""
    names = [name for name in search.names if any(name in trial.parameters for trial in search.ranked)]
    if not names:
        return new_figure(PANEL_HEIGHT)
    columns = min(PANELS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = make_subplots(rows, columns, shared_yaxes="all", horizontal_spacing=0.04, vertical_spacing=0.3 / rows)
    style(figure, height=90 + PANEL_HEIGHT * rows)
    for number, name in enumerate(names):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        _add_trials(figure, search, partial(_parameter, name), first=number == 0, **place)
        figure.update_xaxes(title=name, **_scale(search, name), **place)
    figure.update_yaxes(title=_axis(search), col=1)
    return figure


def _add_trials(figure: go.Figure, search: Search, place: Callable[[Trial], Any], first: bool = True, **panel: int,
                ) -> None:
    """The finished trials as points, the best of them as a star."""
    best = search.best
    for name, trials, marker in (
            ("finished trial", [trial for trial in search.ranked if trial is not best],
             {"color": TRIAL, "size": 8, "opacity": 0.75}),
            ("best trial", [best] if best else [], {"color": BEST, "size": 14, "symbol": "star"})):
        figure.add_scatter(
            x=[place(trial) for trial in trials], y=[trial.value for trial in trials], mode="markers", name=name,
            legendgroup=name, showlegend=first, marker=marker, text=[_words(search, trial) for trial in trials],
            hovertemplate="%{text}<extra></extra>", **panel)


def _words(search: Search, trial: Trial) -> str:
    return f"{trial.described}<br>{search.objective.text(trial.value or 0.0)}"


def _parameter(name: str, trial: Trial) -> Any:
    return _at(trial.parameters.get(name))


def _at(value: Any) -> Any:
    """A number as it is, anything else as a category."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _scale(search: Search, name: str) -> Mapping[str, Any]:
    """A logarithmic axis where the range is, with powers of ten; categories of texts and of a few whole numbers."""
    values = [_at(trial.parameters.get(name)) for trial in search.ranked]
    if len(set(values)) <= FEW and not any(isinstance(value, float) for value in values):
        values = [str(value) for value in values]
    if not all(isinstance(value, int | float) for value in values):
        order = sorted({_at(trial.parameters.get(name)) for trial in search.ranked})
        return {"type": "category", "categoryorder": "array", "categoryarray": [str(value) for value in order],
                "tickfont": {"size": 10}}
    if name in search.ranges and search.ranges[name].log:
        return {"type": "log", "dtick": 1 if _decades(values) > 1 else None, "exponentformat": "power"}
    return {"type": "linear"}


def _decades(values: Sequence[float]) -> float:
    positive = [value for value in values if value > 0]
    return math.log10(max(positive) / min(positive)) if positive else 0.0


def _axis(search: Search) -> str:
    return f"{search.objective.metric}{' (dB)' if search.objective.is_psnr else ''}"
