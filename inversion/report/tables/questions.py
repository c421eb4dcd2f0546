"""The questions of a study, one table each: decoders, architectures, depth, ensembles, resolution, baseline, all pairs.

Only configurations whose other parameters are equal are compared, except in the last two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inversion.errors import InversionError
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.catalog import parse_encoders
from inversion.report.data.board import COMPARED, Board, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.stats.comparisons import Comparison, outcome
from inversion.report.tables.published import (
    PublishedStudy,
    degradation_columns,
    published_columns,
    published_fields,
    reference_of,
)
from inversion.report.tables.rankings import EVALUATION, PSNR, RUN, SSIM, options_column, row_of
from inversion.report.tables.table import ReportTable, Shown

DIFFERENCE = [Shown("difference (dB)", "{difference:+.2f}", "(reference)"),
              Shown("95 % interval", "{low:+.2f} to {high:+.2f}"),
              Shown("p (Holm)", "{p:.2g}"), Shown("holds up", "{holds}")]
SEEDS = Shown("seeds", "{seeds_a} and {seeds_b}")
LOCATIONS = Shown("feature locations", "{locations:,.0f}")

PAIRED = ("Differences are paired by test image, with their 95 % interval and the p of a paired t test{noise}, "
          "corrected for all pairs of the leaderboard (Holm).")
ONE_SEED = ("Every configuration has one seed: the intervals and p hold for the trained networks, \"one seed\" marks "
            "those that differ, and nothing is known of other trainings of the same configurations.")
EQUAL = "All other parameters{but} are equal on both sides."
NOT_TUNED = " The learning rate was not tuned for each configuration: at another one, the order may differ."

Pairs = list[tuple[Configuration, Configuration]]
Studies = Sequence[PublishedStudy]


def questions(board: Board, studies: Studies = ()) -> list[ReportTable]:
    """Every question that the board has runs for."""
    tables = [*(ask(board, studies) for ask in (decoders, architectures, depth, ensembles, resolution)),
              *(baseline(board, study, number, named=len(studies) > 1) for number, study in enumerate(studies))]
    return [table for table in tables if table.rows]


def decoders(board: Board, studies: Studies = ()) -> ReportTable:
    """Each decoder at each layer, against the best decoder of that layer."""
    layers = sorted({item.encoder for item in board.single})
    pairs = [pair for layer in layers
             for items in group_by(board.having(encoder=layer), lambda item: item.settings).values()
             for pair in _beside_first(items)]
    rows = _compared(board, pairs, studies)
    shown = [Shown("layer", "{encoder}"), Shown("decoder", "{decoder}"), *_variant(rows), *options_column(rows), PSNR,
             SSIM, *difference_columns(rows)]
    return ReportTable("decoders", "Which decoder?", shown, rows,
                       "The decoders of each layer, best first, with their difference from the best. " + _equal(pairs),
                       more=published_columns(studies, rows), common=_how(board))


def architectures(board: Board, studies: Studies = ()) -> ReportTable:
    """Every architecture at its shallowest layer, all with one decoder."""
    decoder = _usual_decoder(board, studies)
    pairs: Pairs = []
    for items in group_by(board.having(decoder=decoder), lambda item: item.same_decoder).values():
        shallowest: dict[str, Configuration] = {}
        for item in items:
            family, index = _cut(item)
            if split_request(item.encoder).modifiers:
                continue  # with modifiers: not the architecture as it is
            if family not in shallowest or index < _cut(shallowest[family])[1]:
                shallowest[family] = item
        pairs += _beside_first([item for item in items if item in shallowest.values()])
    rows = _compared(board, pairs, studies)
    shown = [RUN, LOCATIONS, PSNR, SSIM, *difference_columns(rows)]
    return ReportTable("architectures", "Which architecture?", shown, rows,
                       f"Each architecture at its shallowest layer, with {decoder}, against the best. {_equal(pairs)}",
                       more=[EVALUATION, *published_columns(studies, rows)], common=_how(board))


def depth(board: Board, studies: Studies = ()) -> ReportTable:
    """Every deeper layer against the shallowest of the same encoder, with the same decoder."""
    pairs: Pairs = []
    for items in group_by(board.single, lambda item: (item.same_decoder, _cut(item)[0])).values():
        shallowest = min(items, key=lambda item: _cut(item)[1])
        pairs += [(item, shallowest) for item in items if _cut(item)[1] > _cut(shallowest)[1]]
    pairs.sort(key=lambda pair: (pair[0].encoder, -pair[0].psnr.mean))
    rows = [{**row, "shallow": other.label, "degradation": 100 * (item.psnr.mean / other.psnr.mean - 1)}
            for row, (item, other) in zip(_compared(board, pairs, studies), pairs, strict=True)]
    shown = [RUN, Shown("compared with", "{shallow}"), LOCATIONS, PSNR, Shown("degradation", "{degradation:+.1f} %"),
             *difference_columns(rows)]
    return ReportTable("depth", "What does depth cost?", shown, rows,
                       f"Degradation is the change of PSNR in percent. {_equal(pairs)}",
                       more=degradation_columns(studies, rows), common=_how(board))


def ensembles(board: Board, studies: Studies = ()) -> ReportTable:
    """All ensembles against the best single model."""
    pairs = [(item, other) for item in board.ensembles if (other := board.best_singles.get(item.settings))]
    rows = _compared(board, pairs, studies)
    best = list(dict.fromkeys(other.label for _, other in pairs))
    beside = [Shown("compared with", "{beside}")] if len(best) > 1 else []
    shown = [RUN, Shown("fusion", "{fusion}"), *beside, PSNR, SSIM, *difference_columns(rows)]
    return ReportTable("ensembles-against-best-single", "Are ensembles worth it?", shown, rows,
                       f"Each ensemble's difference from the best single model"
                       f"{f', {best[0]}' if len(best) == 1 else ''}, chosen by validation PSNR. {_equal(pairs)}",
                       more=[EVALUATION, *published_columns(studies, rows)], common=_how(board))


def resolution(board: Board, studies: Studies = ()) -> ReportTable:
    """The best single model at each number of feature locations."""
    pairs: Pairs = []
    for items in group_by(board.single, lambda item: item.settings).values():
        best: dict[float, Configuration] = {}
        for item in items:
            best.setdefault(item.cost("feature_locations") or 0.0, item)
        pairs += _beside_first([best[locations] for locations in sorted(best, reverse=True)])
    rows = [{**row, "degradation": 100 * (item.psnr.mean / other.psnr.mean - 1)}
            for row, (item, other) in zip(_compared(board, pairs, studies), pairs, strict=True)]
    shown = [LOCATIONS, Shown("best configuration", "{configuration}"), PSNR,
             Shown("degradation", "{degradation:+.1f} %"), *difference_columns(rows)]
    return ReportTable("resolution", "Does resolution decide?", shown, rows,
                       "The best single model at each number of feature locations, against the finest. Layers differ "
                       "in more than resolution: in depth, number of values, and often network. Pooled and projected "
                       f"maps of one layer tell these apart (resolution.yaml). {_equal(pairs)}",
                       more=published_columns(studies, rows), common=_how(board))


def baseline(board: Board, study: PublishedStudy, number: int = 0, named: bool = False) -> ReportTable:
    """The baseline of a published study against the winner of our runs.

    ``number`` counts the studies from 0; ``named`` puts the study into the title.
    """
    key = f"baseline-{number + 1}" if number else "baseline"
    title = f"Baseline of {study.key} against winner" if named else "Baseline against winner"
    start, winner = study.view(board).chosen.get(study.baseline), board.winner
    if start is None or start is winner:
        return ReportTable(key, title, [], [])
    rows = []
    for what, before, after in (("PSNR (dB)", start.mean("psnr"), winner.mean("psnr")),
                                ("SSIM", start.mean("ssim"), winner.mean("ssim")),
                                ("LPIPS", start.mean("lpips"), winner.mean("lpips")),
                                ("training (s)", start.cost("train_seconds"), winner.cost("train_seconds")),
                                ("evaluation (s)", start.cost("eval_seconds"), winner.cost("eval_seconds"))):
        if before and after is not None:
            rows.append({"what": what, "baseline": before, "winner": after, "change": 100 * (after / before - 1)})
    shown = [Shown("", "{what}"), Shown(start.label, "{baseline:.3f}"), Shown(winner.label, "{winner:.3f}"),
             Shown("change", "{change:+.1f} %")]
    unequal = "" if start.settings == winner.settings else " They differ in other parameters too, as their names say."
    return ReportTable(key, title, shown, rows, f"{study.caveats.baseline}{unequal}".strip())


def differences(board: Board) -> ReportTable:
    """Every pair of the best configurations, corrected over all pairs."""
    rows = [{"a": a, "b": b, "images": found.images, **difference_fields(found)}
            for (a, b), found in board.comparisons.items()]
    holding = sum(row["holds"] == "yes" for row in rows)
    why = "p, corrected for all pairs (Holm), is below 0.05" if board.noise else "without seeds, none can"
    note = (f"{holding} of {len(rows)} differences hold up: {why}. {paired(board)} Effect is the rank-biserial "
            "correlation: 1 if the first is better on every image.")
    if len(board.configurations) > COMPARED:
        note += f" Only the differences of the best {COMPARED} configurations are listed."
    shown = [Shown("first", "{a}"), Shown("second", "{b}"), *difference_columns(rows), Shown("effect", "{effect:+.2f}")]
    return ReportTable("differences", "Which differences hold up?", shown, rows, note)


def paired(board: Board) -> str:
    """How the differences of a board are tested, and what is not known of other trainings."""
    if board.noise is None:
        return f"{PAIRED.format(noise='')} {ONE_SEED}"
    return PAIRED.format(noise=f" that includes the {'' if board.noise.configurations else 'given '}seed noise")


def difference_fields(comparison: Comparison) -> dict[str, Any]:
    """The raw values of a comparison."""
    interval = comparison.interval
    return {"difference": comparison.difference, "low": interval and interval.low, "high": interval and interval.high,
            "p": comparison.p, "effect": comparison.effect, "holds": outcome(comparison),
            "seeds_a": comparison.seeds[0], "seeds_b": comparison.seeds[1]}


def difference_columns(rows: Iterable[Mapping[str, Any]]) -> list[Shown]:
    """The columns of a difference, with the numbers of seeds if one of them is above 1."""
    several = any(row.get("seeds_a", 1) > 1 or row.get("seeds_b", 1) > 1 for row in rows)
    return [*DIFFERENCE, SEEDS] if several else DIFFERENCE


def _how(board: Board) -> str:
    """How the differences of a table are judged."""
    return f"{paired(board)}{'' if board.is_tuned('lr') else NOT_TUNED}"


def _equal(pairs: Pairs) -> str:
    """What is equal within the pairs of a table, beside what the table varies."""
    unequal = ["the tuned ones"] if any(item.choice or other.choice for item, other in pairs) else []
    unequal += ["the options of decoders and fusions"] if any(
        item.options != other.options for item, other in pairs) else []
    return EQUAL.format(but=f", except {' and '.join(unequal)}," if unequal else "")


def _beside_first(items: Sequence[Configuration]) -> Pairs:
    """Pairs of each configuration with the first, itself included; none for a single configuration."""
    return [(item, items[0]) for item in items] if len(items) > 1 else []


def _compared(board: Board, pairs: Pairs, studies: Studies) -> list[dict[str, Any]]:
    """A row for the first of each pair, with its difference from the second."""
    return [{**row_of(board, item), **published_fields(studies, item), "beside": other.label,
             **(difference_fields(board.compare(item, other)) if item is not other else {})}
            for item, other in pairs]


def _variant(rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """A column with the full name, if layer and decoder do not identify the rows."""
    return [RUN] if len({(row["encoder"], row["decoder"]) for row in rows}) < len(rows) else []


def _usual_decoder(board: Board, studies: Studies) -> str:
    """The decoder of the reference, or the one that was run at most layers."""
    _, usual = reference_of(studies, board)
    counts = {item.decoder: len(board.having(decoder=item.decoder)) for item in board.single}
    return usual if usual in counts or not counts else max(counts, key=lambda name: counts[name])


def _cut(item: Configuration) -> tuple[str, tuple[int, ...]]:
    """Encoder with what its cuts have in common (modifiers, variant), and depth of the layer, the shallowest first."""
    try:
        cut, = parse_encoders(item.encoder)
    except InversionError:  # from another version of inversion or timm: its depth is unknown
        return item.encoder, (0,)
    ending, depth = cut.spec.depth(cut.layer)
    return "/".join([cut.encoder + ending, *map(str, cut.modifiers)]), depth
