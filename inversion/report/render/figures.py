"""The charts of a report as files for a paper, drawn by kaleido in an installed Chrome or Chromium."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

from inversion.errors import RequestError
from inversion.text import one_line

WIDTH = 720
"""Pixels of 1/96 inch: 7.5 inches, two columns of a paper."""


def require_kaleido() -> None:
    """Raises a RequestError if kaleido, which draws Plotly's charts without a page, is not installed."""
    if find_spec("kaleido") is None:
        raise RequestError("--figures needs kaleido and an installed Chrome or Chromium: "
                           "pip install 'inversion[figures]'")


def draw(charts: Mapping[str, go.Figure], formats: Sequence[str]) -> dict[str, bytes]:
    """Each chart in each format (``svg``, ``pdf``), by file name, black on a transparent ground.

    Raises:
        RequestError: they cannot be drawn, as without a browser; the message says why.
    """
    wanted = {f"{name}.{form}": (figure, form) for name, figure in charts.items() for form in formats}
    if not wanted:
        return {}
    import plotly.io  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        try:
            plotly.io.write_images([_for_paper(figure) for figure, _ in wanted.values()],
                                   [Path(folder) / name for name in wanted], [form for _, form in wanted.values()])
        except Exception as error:  # of kaleido, choreographer or the browser: they share no class
            raise RequestError(f"--figures: the charts cannot be drawn: {one_line(str(error))}") from error
        return {name: (Path(folder) / name).read_bytes() for name in wanted}


def _for_paper(figure: go.Figure) -> Any:
    return go.Figure(figure).update_layout(width=WIDTH, font={"color": "black"})
