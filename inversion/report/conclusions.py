"""Conclusions of a report: which configuration won and whether the lead holds up, what to use and what to avoid.

Every comparison with the winner takes its p from one family, the winner against all others (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence

from inversion.report.data.board import Board, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.render.report import Advice
from inversion.report.stats.comparisons import Comparison, holds_up

NOTABLE_DB = 0.5
"""Smaller differences are hardly visible."""

FAR_DB = 3.0
"""Twice the squared error."""

NOT_OWN = ("Not known: memory measured on a CPU is that of the whole process, which grows with every run, and memory "
           "of runs trained side by side is that of all of them.")


def headline(board: Board) -> list[str]:
    """Which configuration won, by how much, and whether the lead holds up; a sentence each."""
    winner = board.winner
    sentences = [f"{winner.label} won with {_score(winner)}."]
    if len(board.configurations) > 1:
        second = board.configurations[1]
        found = board.against_winner[second.label]
        sentences.append(f"It is {_beside(found)} ahead of the second, {second.label}: "
                         f"{_verdict(found, len(board.against_winner))}.")
        if tied := tied_with_winner(board):
            sentences.append(f"{_listed([item.label for item in tied])} cannot be distinguished from the "
                             "winner on these test images.")
    if winner.is_ensemble and board.single and board.single[0] is not board.configurations[1]:
        best = board.single[0]
        found = board.against_winner[best.label]
        sentences.append(f"The best single model, {best.label}, is {_beside(found)} below it: "
                         f"{_verdict(found, len(board.against_winner))}.")
    if len(winner.runs) == 1:
        sentences.append("Only one seed was run, so the variation between trainings is not known.")
    return sentences


def tied_with_winner(board: Board) -> list[Configuration]:
    """Configurations whose difference from the winner does not hold up, corrected for all comparisons with it."""
    return [board.by_label[label] for label, comparison in board.against_winner.items() if not holds_up(comparison)]


def recommendations(board: Board, memory_budget_mb: float | None) -> list[Advice]:
    """The best quality, the best within a memory budget, and what to avoid."""
    winner = board.winner
    advice = [Advice("For best quality", f"{winner.label}: {_score(winner)}.")]
    if winner.is_ensemble and board.single:
        best = board.single[0]
        advice.append(Advice("For best quality with one encoder", f"{best.label}: {_score(best)}."))
    advice.append(_least_memory(board) if memory_budget_mb is None else _within_budget(board, memory_budget_mb))
    avoid = [*_beaten_decoders(board), *_far_layers(board), *_small_gains(board)]
    return [*advice, Advice("What to avoid", " ".join(avoid) or "Nothing stands out on these test images.")]


def _least_memory(board: Board) -> Advice:
    used = {item: memory for item in board.configurations
            if (memory := item.own_cost("train_peak_memory_mb")) is not None}
    if not used:
        return Advice("For the least memory", NOT_OWN)
    least = min(used, key=lambda item: used[item])
    return Advice("For the least memory", f"{least.label}: {_score(least)} with {used[least]:,.0f} MB while training. "
                                          "(--memory-budget MB finds the best that fits.)")


def _within_budget(board: Board, budget_mb: float) -> Advice:
    title = f"Within {budget_mb:,.0f} MB"
    used = {item: memory for item in board.configurations
            if (memory := item.own_cost("train_peak_memory_mb")) is not None}
    if not used:
        return Advice(title, NOT_OWN)
    fitting = [item for item, memory in used.items() if memory <= budget_mb]
    if not fitting:
        return Advice(title, "No configuration trained within this budget.")
    best = fitting[0]
    return Advice(title, f"{best.label}: {_score(best)}, with {used[best]:,.0f} MB while training.")


def _beaten_decoders(board: Board) -> list[str]:
    """Decoders that are beaten at every layer with several decoders; all comparisons are corrected as one family."""
    groups = [items for items in group_by(board.single, lambda item: (item.encoder, item.settings)).values()
              if len({item.decoder for item in items}) > 1]
    found = board.family([(items[0], item) for items in groups for item in items])
    beaten = {label for (_, label), comparison in found.items() if holds_up(comparison)}
    if len({items[0].encoder for items in groups}) < 2:
        return []
    sentences = []
    by_decoder = group_by([item for items in groups for item in items], lambda item: item.decoder)
    for decoder, mine in sorted(by_decoder.items()):
        if len({item.encoder for item in mine}) > 1 and all(item.label in beaten for item in mine):
            sentences.append(f"The {decoder} decoder: at every layer another one is better, and that holds up.")
    return sentences


def _far_layers(board: Board) -> list[str]:
    """Layers whose best decoder is far behind the winner, if that holds up."""
    layers = [board.having(encoder=encoder)[0] for encoder in sorted({item.encoder for item in board.single})]
    behind = {item: board.against_winner[item.label] for item in layers if item is not board.winner}
    far = sorted((found.difference, item.encoder) for item, found in behind.items()
                 if found.difference > FAR_DB and holds_up(found))
    listed = ", ".join(f"{encoder} ({difference:.1f} dB)" for difference, encoder in far)
    return [f"Layers whose best decoder is more than {FAR_DB:g} dB below the winner: {listed}."] if far else []


def _small_gains(board: Board) -> list[str]:
    """Ensembles, if the best of them gains little over the best single model; one of the two is the winner."""
    if not (board.ensembles and board.single):
        return []
    ensemble, single = board.ensembles[0], board.single[0]
    gain = ensemble.psnr.mean - single.psnr.mean
    if gain >= NOTABLE_DB:
        return []
    found = board.against_winner[single.label if ensemble is board.winner else ensemble.label]
    return [f"Ensembles: the best gains {gain:+.2f} dB over the best single model for "
            f"{ensemble.cost('encoder_passes') or 0:.0f} encoder passes; {_verdict(found, len(board.against_winner))}."]


def _score(item: Configuration) -> str:
    interval = item.interval
    sure = f" (95 % interval {interval.low:.2f} to {interval.high:.2f})" if interval else ""
    ssim = item.mean("ssim")
    return f"{item.psnr.mean:.2f} dB PSNR{sure}" + (f", SSIM {ssim:.3f}" if ssim is not None else "")


def _beside(found: Comparison) -> str:
    interval = found.interval
    sure = f" ({interval.low:+.2f} to {interval.high:+.2f})" if interval else ""
    return f"{found.difference:.2f} dB{sure}"


def _verdict(found: Comparison, family: int) -> str:
    """Whether a difference holds up, with its corrected p and the number of comparisons."""
    if found.images == 1:
        return "one test image is not enough to tell"
    p = found.p if found.p_corrected is None else found.p_corrected
    corrected = f", corrected for {family} comparisons" if family > 1 else ""
    test = f"Wilcoxon p = {p:.2g}{corrected}, {found.images} test images"
    return f"the difference holds up ({test})" if holds_up(found) else f"that may be chance ({test})"


def _listed(labels: Sequence[str], most: int = 4) -> str:
    shown = list(labels[:most]) + ([f"{len(labels) - most} more"] if len(labels) > most else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
