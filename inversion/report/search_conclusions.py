"""Conclusions of a search: its best trial by the objective, how far that is ahead, and its test score."""

from __future__ import annotations

from inversion.report.conclusions import score_text
from inversion.report.data.board import Board
from inversion.report.data.searching import Search, Trial, shown_value
from inversion.report.render.report import Advice

LUCK = ("The lead of the best of several trials is partly luck, and each was trained once: to tell the first ones "
        "apart, run a grid of their values with several seeds.")


def headline(search: Search, board: Board | None) -> list[str]:
    """The best trial, its lead and its test score, and what makes them less than sure; a sentence each."""
    best = search.best
    if best is None:
        started = len(search.trials)
        return [f"No trial of this search is finished yet: {started} {'has' if started == 1 else 'have'} started."]
    sentences = [_best(search, best)]
    if board is not None:
        sentences.append(f"On the {len(board.winner.psnr.table)} test images, which the search did not see, it has "
                         f"{score_text(board, board.winner)}.")
    if border := search.at_border(best):
        ranges = ", ".join(f"{name} {shown_value(name, best.parameters[name])}, searched from "
                           f"{shown_value(name, search.ranges[name].low)} to "
                           f"{shown_value(name, search.ranges[name].high)}" for name in border)
        sentences.append(f"Its value is at the border of the range of {ranges}: a better one may be beyond it.")
    return [*sentences, LUCK] if len(search.ranked) > 1 else sentences


def _best(search: Search, best: Trial) -> str:
    objective = search.objective
    value = objective.text(best.value or 0.0)
    if len(search.ranked) == 1:
        return f"{_capital(best.described)} is the only one that is finished, with {objective.metric} {value}."
    second = search.ranked[1]
    lead = objective.text(objective.lead(best.value or 0.0, second.value or 0.0))
    return (f"{_capital(best.described)} is the best of {len(search.ranked)} finished trials {search.title}, with "
            f"{value}; it is {lead} ahead of the next, trial {second.number}.")


def advice(search: Search) -> list[Advice]:
    """The exact values of the best trial."""
    best = search.best
    if best is None or not best.parameters:
        return []
    values = ", ".join(f"{name}={value}" for name, value in best.parameters.items())
    return [Advice("The values of the best trial", f"{values}.")]


def summary(search: Search, board: Board | None) -> dict[str, str]:
    """The best trial in numbers."""
    best = search.best
    if best is None:
        return {}
    test = f"; test PSNR {board.winner.psnr.mean:.2f} dB" if board else ""
    return {"best trial": f"{best.described}: {search.objective.metric} "
                          f"{search.objective.text(best.value or 0.0)}{test}"}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
