"""How the tuned parameters of each configuration were chosen."""

from __future__ import annotations

import math

from inversion.report.data.board import Board
from inversion.report.data.tuning import Choice, Trial
from inversion.report.tables.rankings import RUN
from inversion.report.tables.table import ReportTable, Shown

NOTE = ("Every value was tried with one seed, and the one with the best validation PSNR was chosen; test scores were "
        "not looked at. Only runs of chosen values are ranked; that of this seed is among them, and as it was chosen, "
        "its score may be a little too good. If the chosen value is at the border of what was tried, there may be a "
        "better one beyond it.")


def tuning(board: Board) -> ReportTable:
    """Chosen values of every tuned configuration, and what else was tried."""
    rows = [{"configuration": item.label, "chosen": item.choice.text, "validation": item.choice.chosen.validation,
             "margin": _margin(item.choice), "border": ", ".join(item.choice.at_border) or "no",
             "tried": "; ".join(map(_described, item.choice.trials)),
             "left": item.choice.planned - len(item.choice.trials) or None}
            for item in board.configurations if item.choice]
    left = [Shown("not tried yet", "{left}")] if any(row["left"] for row in rows) else []
    shown = [RUN, Shown("chosen", "{chosen}"), Shown("validation PSNR (dB)", "{validation:.2f}"),
             Shown("ahead of the next (dB)", "{margin:+.2f}"), Shown("at the border", "{border}"),
             Shown("tried: validation PSNR (dB)", "{tried}"), *left]
    return ReportTable("tuning", "How was it tuned?", shown, rows, NOTE)


def _margin(choice: Choice) -> float | None:
    """How far the chosen value is ahead of the next best; None if no other was finished."""
    others = [trial.validation for trial in choice.trials
              if trial is not choice.chosen and not math.isnan(trial.validation)]
    return choice.chosen.validation - max(others) if others else None


def _described(trial: Trial) -> str:
    """``lr=0.001: 22.31``."""
    return f"{trial}: {'failed' if math.isnan(trial.validation) else f'{trial.validation:.2f}'}"
