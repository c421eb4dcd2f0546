"""Whether configurations were compared at learning rates that suit each of them."""

from __future__ import annotations

from collections.abc import Sequence

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration


def rate_caveat(board: Board) -> str:
    """What to know of the order of a board whose learning rates were not tuned; empty for one, or if all were."""
    items = board.configurations
    untuned = [item for item in items if not _is_tuned(item)]
    if len(items) < 2 or not untuned:
        return ""
    rates = _rates(items)
    if len(untuned) < len(items):
        return (f"The learning rate was tuned for {len(items) - len(untuned)} of {len(items)} configurations alone: "
                "the others may be behind for want of it.")
    if len(rates) == 1:
        return (f"All configurations were trained with lr={rates[0]:g}. Another learning rate may change their order: "
                "a spec with tune finds the best for each.")
    return (f"The configurations were trained with learning rates from {rates[0]:g} to {rates[-1]:g}, which were not "
            "tuned for each: their order may be due to these. A spec with tune finds the best for each.")


def at_one_rate(items: Sequence[Configuration]) -> str:
    """`` with lr=0.001, which was not tuned``; empty if it was tuned for one, or they have several."""
    rates = _rates(items)
    return f" with lr={rates[0]:g}, which was not tuned" if len(rates) == 1 and not any(map(_is_tuned, items)) else ""


def _is_tuned(item: Configuration) -> bool:
    return item.choice is not None and "lr" in item.choice.names


def _rates(items: Sequence[Configuration]) -> list[float]:
    """The learning rates, by size."""
    return sorted({float(item.parameters["lr"]) for item in items})
