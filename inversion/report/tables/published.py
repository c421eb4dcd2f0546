"""What the report knows of a paper: its scores, beside ours in the tables, and its findings.

Papers are plug-ins in ``inversion.report.published``; every table takes those that it shows as ``studies``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.learning_rates import rate_caveat
from inversion.report.data.study import StudyData
from inversion.report.tables.findings import Finding
from inversion.report.tables.table import ReportTable, Shown
from inversion.text import first_of

Rows = Sequence[Mapping[str, Any]]

OTHER_DESIGN = " †"
OTHER_DESIGN_NOTE = ("†: the figure belongs to another decoder or fusion of the same name; decoder_options and "
                     "fusion_options design=published run the paper's.")


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
class Caveats:
    """What to know of a paper's protocol before its numbers are compared with ours.

    Attributes:
        scores: What its scores hold for: protocol, data, weights and image size.
        findings: The same in a few words, for the section of its findings; empty to repeat ``scores``.
        baseline: What to know when its baseline is compared with our winner; empty for nothing.
    """

    scores: str
    findings: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class PublishedStudy:
    """A paper whose figures and findings the report sets beside our runs.

    Attributes:
        key: Prefix of its raw columns and of the names of its tables: letters, digits, ``_`` and ``-``; unique among
            papers.
        citation: What a reader needs to find the paper.
        configurations: Its scores by configuration (``vgg16:block1+wavelet``), in the order of the paper.
        caveats: The protocol that these hold for.
        findings: Its findings, with the rules that judge them.
        figures: Makes a table of every figure of the paper beside ours; None for no such table.
        baseline: The configuration that it starts from, compared with our winner; empty for none.
        reference: The single model that it recommends (``vgg16:block1+wavelet``). Architectures and depths are compared
            with its decoder, and costs with its layer; empty for none.
        seed_sd: Standard deviation between trainings in dB, according to the paper; None if it gives none.
        decoder_options: The options with which our decoders are the paper's, by name; ``auto`` for their defaults. One
            that is left out is not known to differ.
        fusion_options: The same for fusions.

    Raises:
        ValueError: the key has other characters.
    """

    key: str
    citation: str
    configurations: Mapping[str, PublishedScore]
    caveats: Caveats
    findings: Sequence[Finding] = ()
    figures: Callable[[StudyData, Board], ReportTable] | None = None
    baseline: str = ""
    reference: str = ""
    seed_sd: float | None = None
    decoder_options: Mapping[str, str] = field(default_factory=dict)
    fusion_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9_-]+", self.key):
            raise ValueError(f"key {self.key!r} of a published study: only letters, digits, _ and - are allowed")

    def has_design_of(self, item: Configuration) -> bool:
        """Whether decoder and fusion of a configuration are the paper's, as far as is known."""
        return all(options.get(name, given) == given for options, name, given in (
            (self.decoder_options, item.decoder, item.parameters.get("decoder_options", "auto")),
            (self.fusion_options, item.fusion, item.parameters.get("fusion_options", "auto"))))

    def is_reproduced(self, board: Board) -> bool:
        """Whether the board is this paper's grid: at least half of the configurations with published scores were run.

        Beside other runs, its figures and findings are a footnote.
        """
        run = self.configurations.keys() & self.view(board).chosen.keys()
        return bool(run) and 2 * len(run) >= len(self.configurations)

    def view(self, board: Board) -> Board:
        """The board as the paper is compared with it: the paper's designs represent a configuration where they ran."""
        return replace(board, preferred=self.has_design_of)

    def other_designs(self, board: Board) -> list[str]:
        """The configurations with published scores that are represented by another design than the paper's."""
        return [name for name, item in self.view(board).chosen.items()
                if name in self.configurations and not self.has_design_of(item)]

    def about_findings(self, board: Board) -> str:
        """For the section of its findings: the paper, its protocol, which runs stand for its configurations.

        If these were not tuned, that another learning rate may change their order, too.
        """
        sentences = [f"{capitalized(self.key)} ({self.citation}): {self.caveats.findings or self.caveats.scores}."]
        if others := self.other_designs(board):
            sentences.append("Judged on decoders or fusions of this project, which differ from the paper's of the same "
                             f"name (design=published): {first_of(others)}.")
        return " ".join(filter(None, [*sentences, self.view(board).choice, rate_caveat(board)]))


def reference_of(studies: Sequence[PublishedStudy], board: Board) -> tuple[str, str]:
    """Layer and decoder of the first paper's reference; without one, of the best single model by validation PSNR."""
    for study in studies:
        if study.reference:
            layer, _, decoder = study.reference.rpartition("+")
            return layer, decoder
    best = board.best_single(board.configurations)
    return (best.encoder, best.decoder) if best else ("", "")


def reproduced(studies: Sequence[PublishedStudy], board: Board) -> list[PublishedStudy]:
    """The papers whose grid the board is."""
    return [study for study in studies if study.is_reproduced(board)]


def published_columns(studies: Sequence[PublishedStudy], rows: Rows) -> list[Shown]:
    """PSNR and SSIM of each paper that has a figure for one of the rows."""
    return [Shown(f"{study.key} {title}", f"{{{study.key}_{metric}:{form}}} ± {{{study.key}_{metric}_std:{form}}}"
                  f"{{{study.key}_mark}}", "not published", about=study.key)
            for study in _in(studies, rows, "psnr")
            for metric, title, form in (("psnr", "PSNR", ".2f"), ("ssim", "SSIM", ".3f"))]


def degradation_columns(studies: Sequence[PublishedStudy], rows: Rows) -> list[Shown]:
    """The loss of a deeper layer according to each paper that has one for a row."""
    return [Shown(f"{study.key} degradation", f"{{{study.key}_degradation:+.1f}} %", "not published", about=study.key)
            for study in _in(studies, rows, "degradation")]


def _in(studies: Sequence[PublishedStudy], rows: Rows, name: str) -> list[PublishedStudy]:
    """The papers that have a value of this name in one of the rows."""
    return [study for study in studies if any(row.get(f"{study.key}_{name}") is not None for row in rows)]


def published_fields(studies: Sequence[PublishedStudy], item: Configuration) -> dict[str, Any]:
    """The raw values of each paper for a configuration of ours; empty if there are none."""
    fields: dict[str, Any] = {}
    for study in studies:
        if score := study.configurations.get(item.plain):
            fields |= _score_fields(study, score, is_same_design=study.has_design_of(item))
    return fields


def _score_fields(study: PublishedStudy, score: PublishedScore, is_same_design: bool = True) -> dict[str, Any]:
    """The values of a score, and a mark if ours is of another design."""
    names = ("psnr", "psnr_std", "ssim", "ssim_std", "eval_minutes", "degradation", "section")
    return {f"{study.key}_{name}": getattr(score, name) for name in names} | {
        f"{study.key}_same_design": is_same_design, f"{study.key}_mark": "" if is_same_design else OTHER_DESIGN}


def published_notes(studies: Sequence[PublishedStudy], board: Board) -> str:
    """The conditions of each paper's scores and of ours, for tables that show both."""
    notes = [published_note(study.key, study.caveats.scores, board) for study in studies]
    if any(item.plain in study.configurations and not study.has_design_of(item)
           for study in studies for item in board.configurations):
        notes.append(OTHER_DESIGN_NOTE)
    return " ".join(notes)


def published_note(key: str, conditions: str, board: Board) -> str:
    """The conditions of one paper's scores and of ours."""
    return (f"{capitalized(key)} figures: {conditions}; here: {board.title}. Shown side by side for reference, not "
            "ranked together.")


def capitalized(key: str) -> str:
    """``Smith2024`` for ``smith2024``."""
    return key[:1].upper() + key[1:]


def published_table(study: PublishedStudy, board: Board) -> ReportTable:
    """Every configuration that a paper has scores of, beside ours."""
    rows, chosen = [], study.view(board).chosen
    for name, score in study.configurations.items():
        ours = chosen.get(name)
        mine = {"psnr": ours.psnr.mean, "psnr_std": ours.std("psnr"), "ssim": ours.mean("ssim"),
                "ssim_std": ours.std("ssim"), "stands": ours.label} if ours else {}
        fields = published_fields([study], ours) if ours else _score_fields(study, score)
        rows.append({"configuration": name, **fields, **mine})
    shown = [Shown("configuration", "{configuration}"), Shown("section", f"{{{study.key}_section}}"),
             *(replace(column, about="") for column in published_columns([study], rows)),
             Shown(f"{study.key} evaluation (min)", f"{{{study.key}_eval_minutes:.2f}}", "not published"),
             Shown("PSNR here (dB)", "{psnr:.2f} ± {psnr_std:.2f}", "not run"),
             Shown("SSIM here", "{ssim:.3f} ± {ssim_std:.3f}", "not run")]
    note = f"{study.citation}. {published_notes([study], board)} {study.view(board).choice}".strip()
    return ReportTable(study.key, f"The {study.key} configurations", shown, rows, note)
