"""Conclusions of a report: which configuration won and whether the lead holds up, what to use and what to avoid.

The pairs are chosen by their scores, so every comparison is corrected for all pairs of the board (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inversion.report.data.board import Board, best_of, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.data.convergence import FEWEST, RISING_DB, History, still_rising, too_short
from inversion.report.data.learning_rates import at_one_rate, rate_caveat
from inversion.report.render.report import Advice
from inversion.report.stats.comparisons import (
    FEWEST_IMAGES,
    Comparison,
    holds_up,
    trainings_differ,
)
from inversion.text import first_of, number

NOTABLE_DB = 0.5
"""Smaller differences are hardly visible."""

FAR_DB = 3.0
"""Twice the squared error."""

NOT_OWN = ("Not known: memory measured on a CPU is that of the whole process, which grows with every run, and memory "
           "of runs trained side by side is that of all of them.")


def headline(board: Board) -> list[str]:
    """Which configuration won, by how much, and whether the lead holds up; a sentence each. One alone has not won."""
    winner = board.winner
    alone = len(board.configurations) == 1
    sentences = [f"{winner.label} {'has' if alone else 'is first with'} {score_text(board, winner)}."]
    if len(board.configurations) > 1:
        second = board.configurations[1]
        sentences.append(f"It is {_beside(board.against_winner[second.label])} ahead of the second, {second.label}.")
        sentences += [_of_images(board, second), _of_seeds(board, second)]
        tied = [item.label for item in tied_with_winner(board) if item is not second]
        if board.noise is not None and tied:
            lead = f"the winner's lead over {first_of(tied, 4)}"
            sentences.append(f"But {lead} is not established." if holds_up(board.against_winner[second.label]) else
                             f"Nor is {lead} established.")
        if (chosen := best_of(board.configurations)) is not winner:
            sentences.append(f"By PSNR on the validation images, on which to choose, {chosen.label} is first.")
    if winner.is_ensemble and board.single and board.single[0] is not board.configurations[1]:
        best = board.single[0]
        found = board.against_winner[best.label]
        sentences.append(f"The best single model, {best.label}, is {_beside(found)} below it: {_verdict(found)}.")
    return sentences


def _of_images(board: Board, other: Configuration) -> str:
    """On how many test images the winner is ahead, and whether that tells the trained networks apart."""
    winner = board.winner
    ahead = int((winner.psnr.scores - other.psnr.scores > 0).sum())
    alone = board.compare_trainings(winner, other)
    count = "all" if ahead == alone.images else f"{ahead} of"
    images = f"{alone.images} test image{'s' if alone.images > 1 else ''}"
    if alone.images < FEWEST_IMAGES:
        return f"Images: it is better on {count} {images}, which are too few to tell."
    agree = ("the trained networks differ on such images" if trainings_differ(alone)
             else "the images alone cannot tell the trained networks apart")
    return f"Images: it is better on {count} {images}: {agree}."


def _of_seeds(board: Board, other: Configuration) -> str:
    """Whether the lead is more than the noise between trainings, with the only p of the pair."""
    found = board.against_winner[other.label]
    if found.noise is None:
        return ("Seeds: every configuration was trained once. Another training could score higher or lower, so nothing "
                "is decided between configurations.")
    first, second = found.seeds
    seeds = f"{first} seed{'s' if first > 1 else ''} each" if first == second else f"{first} and {second} seeds"
    sd = f"{found.noise.sd:.2f} dB (standard deviation"
    noise = (f"trainings of one configuration differ by {sd})" if found.noise.configurations else
             f"trainings of one configuration are taken to differ by {sd}, given and not measured)")
    verdict = "the lead holds up" if holds_up(found) else "images and seeds together leave the lead open"
    few = f" {board.few_seeds}" if any(found.noise.has_few_seeds(item.psnr) for item in (board.winner, other)) else ""
    return f"Seeds: {noise}; with {seeds}, {verdict} ({_test(found)}).{few}"


def _test(found: Comparison) -> str:
    """The p of a comparison, and what it is corrected for."""
    return f"p = {found.p:.2g}" + (f", corrected for all {found.family:,} pairs" if found.family > 1 else "")


def fairness(board: Board, curves: Mapping[str, History]) -> list[str]:
    """What makes the comparison less than fair: training that had not converged, tuning at a border or none.

    ``curves`` has the validation PSNR of every epoch, of the best configurations by label.
    """
    sentences = _convergence(board, curves)
    count = len(board.configurations)
    if annealed := [item for item in board.configurations if item.parameters.get("schedule") == "cosine"]:
        of = "all" if len(annealed) == count else f"{len(annealed)} of {count}"
        sentences.append(f"In {of} configurations the learning rate fell to its minimum along a cosine "
                         "(schedule=cosine). Where scores levelled off, it may be for that reason: it does not show "
                         "that more epochs would not help.")
    if border := [item.label for item in board.configurations if item.choice and item.choice.at_border]:
        sentences.append(f"The tuned value of {first_of(border, 4)} is at the border of what was tried: a better one "
                         "may be beyond it.")
    return [*sentences, *filter(None, [rate_caveat(board)])]


def _convergence(board: Board, curves: Mapping[str, History]) -> list[str]:
    """Whether the training of the best configurations had converged: some still rose, none did, or it is not known."""
    rising, short, count = still_rising(curves), too_short(curves), len(board.configurations)
    sentences = []
    of = f"the best {len(curves)}" if len(curves) < count else f"{count}"
    if rising and count == 1:
        label, rate = next(iter(rising.items()))
        sentences.append(f"{label} had not converged when training ended (it still rose by {rate:.2f} dB per epoch): "
                         "with more epochs it would probably score higher.")
    elif rising:
        most = max(rising, key=lambda label: rising[label])
        sentences.append(f"{len(rising)} of {of} configurations had not converged when training ended ({most} still "
                         f"rose by {rising[most]:.2f} dB per epoch): with more epochs their order may change.")
    elif len(curves) > short:
        which = board.winner.label if count == 1 else f"{len(curves) - short} of {of} configurations"
        sentences.append(f"Training had levelled off in {which}: over the last fifth of the epochs, and at least the "
                         f"last {FEWEST}, validation PSNR rose by at most {RISING_DB} dB.")
    if short:
        which = f" for {short} of {of} configurations" if count > 1 else ""
        sentences.append(f"Whether training had converged is not known{which}: there were fewer than {FEWEST} epochs.")
    return sentences


def tied_with_winner(board: Board) -> list[Configuration]:
    """Configurations whose difference from the winner does not hold up."""
    return [board.by_label[label] for label, comparison in board.against_winner.items() if not holds_up(comparison)]


def recommendations(board: Board, memory_budget_mb: float | None) -> list[Advice]:
    """The best quality, the best within a memory budget, and what to avoid; nothing of a single configuration."""
    if len(board.configurations) == 1:
        return []
    winner = board.winner
    advice = [Advice("For best quality", _best_among(board, board.configurations))]
    if winner.is_ensemble and board.single:
        advice.append(Advice("For best quality with one encoder", _best_among(board, board.single)))
    advice.append(_least_memory(board) if memory_budget_mb is None else _within_budget(board, memory_budget_mb))
    avoid = [*_beaten_decoders(board), *_far_layers(board), *_small_gains(board)]
    return [*advice, Advice("What to avoid", " ".join(avoid) or "Nothing stands out on these test images.")]


def _best_among(board: Board, items: Sequence[Configuration]) -> str:
    """The best of some configurations, and how many of the others are not known to be worse."""
    best, *others = items
    tied = sum(not holds_up(board.compare(best, other)) for other in others)
    of = "all" if tied == len(others) else f"{tied} of the"
    behind = f"{of} {len(others)} others" if len(others) > 1 else "the other one"
    lead = f" Its lead over {behind} is not established." if tied else ""
    return f"{best.label}{at_one_rate(items)}: {score_text(board, best)}.{lead}"


def _least_memory(board: Board) -> Advice:
    used = {item: memory for item in board.configurations
            if (memory := item.own_cost("train_peak_memory_mb")) is not None}
    if not used:
        return Advice("For the least memory", NOT_OWN)
    least = min(used, key=lambda item: used[item])
    return Advice("For the least memory", f"{least.label}: {score_text(board, least)} with {used[least]:,.0f} MB while "
                                          "training. (--memory-budget MB finds the best that fits.)")


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
    return Advice(title, f"{best.label}: {score_text(board, best)}, with {used[best]:,.0f} MB while training.")


def _beaten_decoders(board: Board) -> list[str]:
    """Decoders that are beaten at every layer with several decoders, and the learning rate that they were run with."""
    groups = [items for items in group_by(board.single, lambda item: (item.encoder, item.settings)).values()
              if len({item.decoder for item in items}) > 1]
    beaten = {item.label for items in groups for item in items[1:] if holds_up(board.compare(items[0], item))}
    if len({items[0].encoder for items in groups}) < 2:
        return []
    sentences = []
    by_decoder = group_by([item for items in groups for item in items], lambda item: item.decoder)
    for decoder, mine in sorted(by_decoder.items()):
        if len({item.encoder for item in mine}) > 1 and all(item.label in beaten for item in mine):
            sentences.append(f"The {decoder} decoder{at_one_rate(mine)}: at every layer another one is better, and "
                             "that holds up.")
    return sentences


def _far_layers(board: Board) -> list[str]:
    """Layers whose best decoder is far behind the winner, if that holds up."""
    layers = [board.having(encoder=encoder)[0] for encoder in sorted({item.encoder for item in board.single})]
    behind = {item: board.against_winner[item.label] for item in layers if item is not board.winner}
    far = sorted((found.difference, item.encoder) for item, found in behind.items()
                 if found.difference > FAR_DB and holds_up(found))
    listed = ", ".join(f"{encoder} ({difference:.1f} dB)" for difference, encoder in far)
    at = at_one_rate([*behind, board.winner])
    return [f"Layers whose best decoder{at} is more than {FAR_DB:g} dB below the winner: {listed}."] if far else []


def _small_gains(board: Board) -> list[str]:
    """Ensembles, if even the best of them is known to gain little over the best single model; one of the two won."""
    if not (board.ensembles and board.single):
        return []
    ensemble, single = board.ensembles[0], board.single[0]
    gain = (board.against_winner[single.label] if ensemble is board.winner
            else board.against_winner[ensemble.label].reversed())
    sure = gain.simultaneous
    if sure is None or not gain.is_decidable or sure.high >= NOTABLE_DB:
        return []
    return [f"Ensembles{at_one_rate([ensemble, single])}: the best gains {number(gain.difference, '+.2f')} dB over the "
            f"best single model ({number(sure.low, '+.2f')} to {number(sure.high, '+.2f')}), for "
            f"{ensemble.cost('encoder_passes') or 0:.0f} encoder passes."]


def score_text(board: Board, item: Configuration) -> str:
    """The test scores of a configuration: ``23.90 dB PSNR (95 % interval 23.10 to 24.70), SSIM 0.812``."""
    interval = board.interval(item)
    sure = f" (95 % interval {number(interval.low, '.2f')} to {number(interval.high, '.2f')})" if interval else ""
    ssim = item.mean("ssim")
    return f"{number(item.psnr.mean, '.2f')} dB PSNR{sure}" + (f", SSIM {ssim:.3f}" if ssim is not None else "")


def _beside(found: Comparison) -> str:
    interval = found.interval
    sure = f" ({number(interval.low, '+.2f')} to {number(interval.high, '+.2f')})" if interval else ""
    return f"{number(found.difference, '.2f')} dB{sure}"


def _verdict(found: Comparison) -> str:
    """Whether a difference holds up: what the images say and what the seeds say."""
    if found.images < FEWEST_IMAGES:
        return f"{found.images} test image{'s are' if found.images > 1 else ' is'} not enough to tell"
    test = _test(found)
    if found.noise is None:
        if trainings_differ(found):
            return f"these two trained networks differ ({test}), and one seed each says nothing of other trainings"
        return f"these two trained networks cannot be told apart ({test})"
    return f"the difference holds up ({test})" if holds_up(found) else f"it is not established ({test})"
