"""Whether other metrics than PSNR name the same winner."""

from __future__ import annotations

from typing import Any

from inversion.metrics import METRICS
from inversion.report.data.board import Board
from inversion.report.stats.comparisons import AllPairs, rank_correlation
from inversion.report.stats.seed_noise import measure_seed_noise
from inversion.report.tables.questions import difference_fields
from inversion.report.tables.table import ReportTable, Shown

NOTE = ("The configurations with each metric, ranked by it. Rank correlation: Spearman's, of this ranking with that "
        "by PSNR; 1 if they agree. Difference: the winner by PSNR minus the best by this metric, paired by test "
        "image, with p corrected for all pairs (Holm){noise}. Feature scores of different encoders or "
        "layers are those of different features: compare them at one layer.")
IN_LOSS = " Training minimises LPIPS with AlexNet, unless lpips_weight=0: it is no independent judge."


def metrics(board: Board) -> ReportTable:
    """Every metric that several configurations of a board have, beside PSNR."""
    rows = [row for name in board.metrics if name != "psnr" and (row := _row(board, name))]
    shown = [Shown("metric", "{metric}"), Shown("better", "{better}"), Shown("best configuration", "{best}"),
             Shown("its value", "{value:.3f}"), Shown("winner by PSNR", "{winner_value:.3f}"),
             Shown("difference", "{difference:+.3f}", "the same"),
             Shown("95 % interval", "{low:+.3f} to {high:+.3f}"), Shown("p (Holm)", "{p:.2g}"),
             Shown("holds up", "{holds}"), Shown("rank correlation", "{agreement:+.2f}"),
             Shown("configurations", "{configurations}")]
    noise = " and the seed noise of this metric" if any(len(item.runs) > 1 for item in board.configurations) else ""
    note = NOTE.format(noise=noise) + (IN_LOSS if any(row["metric"] == METRICS["lpips"].label for row in rows) else "")
    return ReportTable("metrics", "Do other metrics agree?", shown, rows, note)


def _row(board: Board, name: str) -> dict[str, Any] | None:
    """The row of one metric; None if the winner or all others lack it."""
    pools = {item.label: pool for item in board.configurations if (pool := item.pool(name))}
    winner = board.winner
    if winner.label not in pools or len(pools) < 2:
        return None
    metric = board.metrics[name]
    sign = 1 if metric.better == "higher" else -1
    best = max(pools, key=lambda label: sign * pools[label].mean)
    row = {"metric": metric.label, "better": metric.better, "best": best, "value": pools[best].mean,
           "winner": winner.label, "winner_value": pools[winner.label].mean, "configurations": len(pools),
           "agreement": rank_correlation([board.by_label[label].psnr.mean for label in pools],
                                         [sign * pool.mean for pool in pools.values()])}
    if best == winner.label:
        return row
    pairs = AllPairs(pools, measure_seed_noise(pools.values()))
    return row | difference_fields(pairs.get(winner.label, best))
