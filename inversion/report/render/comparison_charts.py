"""The charts of a comparison of two studies, in the colours of the other charts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

from inversion.report.data.between import Between
from inversion.report.render.charts import INK, colours_of, error_bars, new_figure


def between(names: tuple[str, str], found: Between) -> go.Figure:
    """The difference of each configuration; where scores are not subtracted, its scores in the two studies."""
    return _differences(names, found) if found.comparisons else _scores(names, found)


def _differences(names: tuple[str, str], found: Between) -> go.Figure:
    """The difference of each configuration with its 95 % interval, coloured by decoder."""
    first, second = names
    figure = new_figure(height=140 + 24 * len(found.matches))
    for decoder, colour, numbers in _by_decoder(found):
        comparisons = [found.comparisons[number] for number in numbers]
        bars = error_bars([(comparison.interval, comparison.difference) for comparison in comparisons])
        figure.add_scatter(
            x=[comparison.difference for comparison in comparisons],
            y=[found.matches[number].name for number in numbers], mode="markers", name=decoder,
            marker={"color": colour, "size": 9}, error_x=bars | {"color": colour, "thickness": 1.5, "width": 3},
            hovertemplate="%{y}<br>%{x:+.2f} dB<extra></extra>")
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dash"})
    figure.update_yaxes(categoryorder="array", categoryarray=[match.name for match in found.matches][::-1])
    figure.update_xaxes(title=f"test PSNR, {second} minus {first} (dB)")
    return figure


def _scores(names: tuple[str, str], found: Between) -> go.Figure:
    """PSNR in the second study against PSNR in the first, coloured by decoder; the axes have their own ranges."""
    figure = new_figure(height=460)
    for decoder, colour, numbers in _by_decoder(found):
        matches = [found.matches[number] for number in numbers]
        figure.add_scatter(
            x=[match.first.item.psnr.mean for match in matches], y=[match.second.item.psnr.mean for match in matches],
            mode="markers", name=decoder, text=[match.name for match in matches],
            marker={"color": colour, "size": 10}, hovertemplate="%{text}<br>%{x:.2f} and %{y:.2f} dB<extra></extra>")
    figure.update_xaxes(title=f"test PSNR in {names[0]} (dB)")
    figure.update_yaxes(title=f"test PSNR in {names[1]} (dB)")
    return figure


def _by_decoder(found: Between) -> Iterator[tuple[str, Any, list[int]]]:
    """Each decoder with its colour and the numbers of its configurations."""
    items = [match.first.item for match in found.matches]
    for decoder, colour in colours_of(items).items():
        yield decoder, colour, [number for number, item in enumerate(items) if item.decoder == decoder]
