"""What the report knows of a paper: its scores, beside ours in the tables, and its findings.

Papers are plug-ins in ``inversion.report.published``; every table takes those that it shows as ``studies``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inversion.report.data.board import Board
from inversion.report.data.study import StudyData
from inversion.report.tables.findings import Finding
from inversion.report.tables.table import ReportTable, Shown


@dataclass(frozen=True)
class PublishedScore:
    """Published scores of one configuration, and the section of the paper; None where the paper gives no figure."""

    section: str
    psnr: float
    psnr_std: float | None = None
    ssim: float | None = None
    ssim_std: float | None = None
    eval_minutes: float | None = None
    degradation: float | None = None


@dataclass(frozen=True)
class PublishedStudy:
    """A paper whose figures and findings the report sets beside our runs.

    Attributes:
        label: Prefix of its raw columns, and of the names of its tables: ``published``.
        conditions: Protocol, data, weights and image size that its scores hold for.
        source: The same in a few words, for the section of its findings.
        scores: Its scores by configuration (``vgg16:block1+wavelet``), in the order of the paper.
        findings: Its findings, with the rules that judge them.
        baseline: The configuration that it starts from, set beside our winner; empty for none.
        reference: The single model that it recommends (``vgg16:block1+wavelet``). Architectures and depths are compared
            with its decoder, and costs with its layer; empty for none.
        baseline_note: What to know of the paper when reading that table.
        list_figures: Makes a table of every figure of the paper beside ours; None for no such table.
    """

    label: str
    conditions: str
    source: str
    scores: Mapping[str, PublishedScore]
    findings: Sequence[Finding] = ()
    baseline: str = ""
    baseline_note: str = ""
    reference: str = ""
    list_figures: Callable[[StudyData, Board], ReportTable] | None = None


def reference_of(studies: Sequence[PublishedStudy], board: Board) -> tuple[str, str]:
    """Layer and decoder of the first paper's reference; without one, of the best single model by validation PSNR."""
    for study in studies:
        if study.reference:
            layer, _, decoder = study.reference.rpartition("+")
            return layer, decoder
    best = board.best_single(board.configurations)
    return (best.encoder, best.decoder) if best else ("", "")


def published_columns(studies: Sequence[PublishedStudy]) -> list[Shown]:
    """PSNR and SSIM of each paper."""
    return [Shown(f"{study.label} {title}",
                  f"{{{study.label}_{metric}:{form}}} ± {{{study.label}_{metric}_std:{form}}}", "not published")
            for study in studies for metric, title, form in (("psnr", "PSNR", ".2f"), ("ssim", "SSIM", ".3f"))]


def degradation_columns(studies: Sequence[PublishedStudy]) -> list[Shown]:
    """The loss of a deeper layer according to each paper."""
    return [Shown(f"{study.label} degradation", f"{{{study.label}_degradation:+.1f}} %", "not published")
            for study in studies]


def published_fields(studies: Sequence[PublishedStudy], name: str) -> dict[str, Any]:
    """The raw values of each paper for a plain name (``vgg16:block1+wavelet``); empty if there are none."""
    return {f"{study.label}_{field}": getattr(score, field) for study in studies if (score := study.scores.get(name))
            for field in ("psnr", "psnr_std", "ssim", "ssim_std", "eval_minutes", "degradation", "section")}


def published_notes(studies: Sequence[PublishedStudy], board: Board) -> str:
    """The conditions of each paper's scores and of ours, for tables that show both."""
    return " ".join(published_note(study.label, study.conditions, board) for study in studies)


def published_note(label: str, conditions: str, board: Board) -> str:
    """The conditions of one paper's scores and of ours."""
    return (f"{label.capitalize()} figures: {conditions}; here: {board.title}. Shown side by side for reference, not "
            "ranked together.")


def published_table(study: PublishedStudy, board: Board) -> ReportTable:
    """Every configuration that a paper has scores of, beside ours."""
    rows = []
    for name in study.scores:
        ours = board.chosen.get(name)
        mine = {"psnr": ours.psnr.mean, "psnr_std": ours.std("psnr"), "ssim": ours.mean("ssim"),
                "ssim_std": ours.std("ssim"), "stands": ours.label} if ours else {}
        rows.append({"configuration": name, **published_fields([study], name), **mine})
    shown = [Shown("configuration", "{configuration}"), Shown("section", f"{{{study.label}_section}}"),
             *published_columns([study]),
             Shown(f"{study.label} evaluation (min)", f"{{{study.label}_eval_minutes:.2f}}", "not published"),
             Shown("PSNR here (dB)", "{psnr:.2f} ± {psnr_std:.2f}", "not run"),
             Shown("SSIM here", "{ssim:.3f} ± {ssim_std:.3f}", "not run")]
    return ReportTable(study.label, f"The {study.label} configurations", shown, rows,
                       f"{published_note(study.label, study.conditions, board)} {board.choice}".strip())
