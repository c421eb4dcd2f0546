"""The questions of the study, one table each: decoders, architectures, depth, ensembles, resolution, the baseline.

Only configurations whose other parameters are equal are set beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inversion.errors import InversionError
from inversion.models.encoders.catalog import parse_encoders
from inversion.report.data.board import Board, together
from inversion.report.data.configuration import Configuration
from inversion.report.published.published_figures import BESIDE, beside_note, published_row
from inversion.report.stats.statistics import Comparison, holds_up
from inversion.report.tables.rankings import EVALUATION, PSNR, RUN, SSIM, row_of
from inversion.report.tables.table import ReportTable, Shown

BASELINE = "resnet34:layer1+attention"
USUAL_DECODER = "transposed_conv"

DIFFERENCE = [Shown("difference (dB)", "{difference:+.2f}", "(reference)"),
              Shown("95 % interval", "{low:+.2f} to {high:+.2f}"),
              Shown("p (Holm)", "{p:.2g}"), Shown("holds up", "{holds}")]
SEEDS = Shown("seeds", "{seeds_a} and {seeds_b}")
LOCATIONS = Shown("feature locations", "{locations:,.0f}")

HOLM = ("Differences are paired by test image, with their 95 % bootstrap interval and Wilcoxon's signed-rank test, "
        "corrected for the number of comparisons in this table (Holm). The parameters that are not named are equal on "
        "both sides.")

Pairs = list[tuple[Configuration, Configuration]]


def questions(board: Board) -> list[ReportTable]:
    """Every table that the board has the runs for."""
    tables = [decoders(board), architectures(board), depth(board), ensembles(board), resolution(board),
              baseline(board)]
    return [table for table in tables if table.rows]


def decoders(board: Board) -> ReportTable:
    """Each decoder at each layer, beside the best decoder of that layer."""
    layers = sorted({item.encoder for item in board.single})
    pairs = [pair for layer in layers
             for items in together(board.having(encoder=layer), lambda item: item.settings).values()
             for pair in _beside_first(items)]
    rows = _compared(board, pairs)
    shown = [Shown("layer", "{encoder}"), Shown("decoder", "{decoder}"), *_variant(rows), PSNR, SSIM,
             *difference_columns(rows), *BESIDE]
    return ReportTable("decoders", "Which decoder?", shown, rows,
                       f"Each layer's decoders, the best first, and their difference from it. {HOLM} "
                       f"{beside_note(board)}")


def architectures(board: Board) -> ReportTable:
    """Every architecture at the shallowest of its layers, all with one decoder."""
    decoder = _usual_decoder(board)
    pairs: Pairs = []
    for items in together(board.having(decoder=decoder), lambda item: item.same_decoder).values():
        shallowest: dict[str, Configuration] = {}
        for item in items:
            family, index = _cut(item)
            if family not in shallowest or index < _cut(shallowest[family])[1]:
                shallowest[family] = item
        pairs += _beside_first([item for item in items if item in shallowest.values()])
    rows = _compared(board, pairs)
    shown = [RUN, LOCATIONS, PSNR, SSIM, EVALUATION, *difference_columns(rows), *BESIDE]
    return ReportTable("architectures", "Which architecture?", shown, rows,
                       f"Each architecture at its shallowest layer, with {decoder}, beside the best. {HOLM} "
                       f"{beside_note(board)}")


def depth(board: Board) -> ReportTable:
    """Every deeper layer beside the shallowest one of the same encoder, with the same decoder."""
    pairs: Pairs = []
    for items in together(board.single, lambda item: (item.same_decoder, _cut(item)[0])).values():
        shallowest = min(items, key=lambda item: _cut(item)[1])
        pairs += [(item, shallowest) for item in items if _cut(item)[1] > _cut(shallowest)[1]]
    pairs.sort(key=lambda pair: (pair[0].encoder, -pair[0].psnr.mean))
    rows = [{**row, "shallow": other.label, "degradation": 100 * (item.psnr.mean / other.psnr.mean - 1)}
            for row, (item, other) in zip(_compared(board, pairs), pairs, strict=True)]
    shown = [RUN, Shown("beside", "{shallow}"), LOCATIONS, PSNR, Shown("degradation", "{degradation:+.1f} %"),
             *difference_columns(rows), Shown("published degradation", "{published_degradation:+.1f} %",
                                              "not published")]
    return ReportTable("depth", "What does depth cost?", shown, rows,
                       f"Degradation is the change of PSNR in percent, as the published study has it. {HOLM} "
                       f"{beside_note(board)}")


def ensembles(board: Board) -> ReportTable:
    """All ensembles beside the best single model."""
    single = together(board.single, lambda item: item.settings)
    pairs = [(item, single[item.settings][0]) for item in board.ensembles if item.settings in single]
    rows = _compared(board, pairs)
    best = list(dict.fromkeys(other.label for _, other in pairs))
    beside = [Shown("beside", "{beside}")] if len(best) > 1 else []
    shown = [RUN, Shown("fusion", "{fusion}"), *beside, PSNR, SSIM, EVALUATION, *difference_columns(rows), *BESIDE]
    return ReportTable("ensembles-against-best-single", "Are ensembles worth it?", shown, rows,
                       f"Each ensemble's difference from the best single model"
                       f"{f', {best[0]}' if len(best) == 1 else ''}. {HOLM} {beside_note(board)}")


def resolution(board: Board) -> ReportTable:
    """The best single model at each number of feature locations."""
    pairs: Pairs = []
    for items in together(board.single, lambda item: item.settings).values():
        best: dict[float, Configuration] = {}
        for item in items:
            best.setdefault(item.cost("feature_locations") or 0.0, item)
        pairs += _beside_first([best[locations] for locations in sorted(best, reverse=True)])
    rows = [{**row, "degradation": 100 * (item.psnr.mean / other.psnr.mean - 1)}
            for row, (item, other) in zip(_compared(board, pairs), pairs, strict=True)]
    shown = [LOCATIONS, Shown("best configuration", "{configuration}"), PSNR,
             Shown("degradation", "{degradation:+.1f} %"), *difference_columns(rows), *BESIDE]
    return ReportTable("resolution", "Does resolution decide?", shown, rows,
                       f"The best single model at each number of feature locations, beside the finest. {HOLM} "
                       f"{beside_note(board)}")


def baseline(board: Board) -> ReportTable:
    """The published study's first baseline beside the winner of these runs."""
    start, winner = board.chosen.get(BASELINE), board.winner
    if start is None or start is winner:
        return ReportTable("baseline", "Baseline against winner", [], [])
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
    return ReportTable("baseline", "Baseline against winner", shown, rows,
                       "The published study sets the baseline's training time (12.75 min) beside the winner's "
                       f"evaluation time (0.85 min); here each is beside its own kind.{unequal}")


def difference_fields(comparison: Comparison) -> dict[str, Any]:
    """What tables show of a comparison."""
    p = comparison.p if comparison.p_corrected is None else comparison.p_corrected
    interval = comparison.interval
    return {"difference": comparison.difference, "low": interval and interval.low, "high": interval and interval.high,
            "p": p, "effect": comparison.effect, "holds": "yes" if holds_up(comparison) else "no",
            "seeds_a": comparison.seeds[0], "seeds_b": comparison.seeds[1]}


def difference_columns(rows: Iterable[Mapping[str, Any]]) -> list[Shown]:
    """The columns of a difference; with the numbers of seeds on both sides where one of them is above 1."""
    several = any(row.get("seeds_a", 1) > 1 or row.get("seeds_b", 1) > 1 for row in rows)
    return [*DIFFERENCE, SEEDS] if several else DIFFERENCE


def _beside_first(items: Sequence[Configuration]) -> Pairs:
    """Each beside the first, the first beside itself; none where it is alone."""
    return [(item, items[0]) for item in items] if len(items) > 1 else []


def _compared(board: Board, pairs: Pairs) -> list[dict[str, Any]]:
    """A row for each first of a pair, with its difference from the second; corrected as one family."""
    found = board.family(pairs)
    return [{**row_of(item), **published_row(item.plain), "beside": other.label,
             **(difference_fields(found[item.label, other.label]) if item is not other else {})}
            for item, other in pairs]


def _variant(rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """The whole name, where layer and decoder do not tell the rows apart."""
    return [RUN] if len({(row["encoder"], row["decoder"]) for row in rows}) < len(rows) else []


def _usual_decoder(board: Board) -> str:
    """The decoder of the published comparison, or the one that most layers have."""
    counts = {item.decoder: len(board.having(decoder=item.decoder)) for item in board.single}
    return USUAL_DECODER if USUAL_DECODER in counts or not counts else max(counts, key=lambda name: counts[name])


def _cut(item: Configuration) -> tuple[str, int]:
    """Encoder and index of the layer, 0 the shallowest."""
    try:
        cut, = parse_encoders(item.encoder)
    except InversionError:  # of another version of inversion or of timm: nothing is known of how deep it is
        return item.encoder, 0
    layers = list(cut.spec.layers)
    return cut.encoder, layers.index(cut.layer)
