"""The published figures of configurations beside ours."""

from __future__ import annotations

from typing import Any

from inversion.report.data.board import Board
from inversion.report.published.published import load
from inversion.report.tables.table import ReportTable, Shown

BESIDE = [Shown("published PSNR", "{published_psnr:.2f} ± {published_psnr_std:.2f}", "not published"),
          Shown("published SSIM", "{published_ssim:.3f} ± {published_ssim_std:.3f}", "not published")]


def beside_note(board: Board) -> str:
    """What published figures and ours were measured with, for every table that has both."""
    study = load()
    return (f"Published figures: protocol {study.protocol}, {study.data}, weights {study.weights}, image size "
            f"{study.image_size}; here: {board.title}. Side by side for reading, and not to be ranked together.")


def published_row(name: str) -> dict[str, Any]:
    """What the study says of a plain name, by ``published_…``; empty where it gives no figure."""
    mention = load().score(name)
    if mention is None:
        return {}
    row = mention.row
    return {"published_psnr": row.psnr, "published_psnr_std": row.psnr_std, "published_ssim": row.ssim,
            "published_ssim_std": row.ssim_std, "published_eval_minutes": row.eval_minutes,
            "published_degradation": published_degradation(name), "published_section": mention.section}


def published_degradation(name: str) -> float | None:
    """The loss of a deeper layer in percent, as section 4.3 has it."""
    rows = [mention.row for mention in load().mentions(name) if mention.section == "4.3"]
    return next((row.degradation_percent for row in rows if row.degradation_percent is not None), None)


def published_table(board: Board) -> ReportTable:
    """Every configuration that the study gives figures of, and what these runs say of it."""
    rows = []
    for name in load().configurations:
        ours = board.chosen.get(name)
        mine = {"psnr": ours.psnr.mean, "psnr_std": ours.std("psnr"), "ssim": ours.mean("ssim"),
                "ssim_std": ours.std("ssim"), "stands": ours.label} if ours else {}
        rows.append({"configuration": name, **published_row(name), **mine})
    shown = [Shown("configuration", "{configuration}"), Shown("section", "{published_section}"), *BESIDE,
             Shown("published evaluation (min)", "{published_eval_minutes:.2f}", "not published"),
             Shown("PSNR here (dB)", "{psnr:.2f} ± {psnr_std:.2f}", "not run"),
             Shown("SSIM here", "{ssim:.3f} ± {ssim_std:.3f}", "not run")]
    return ReportTable("published", "The published configurations", shown, rows,
                       f"{beside_note(board)} {board.choice}".strip())
