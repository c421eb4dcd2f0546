"""The figures of a published study as data: its YAML file, checked."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from inversion.report.tables.published import PublishedScore


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Strict):
    """What a table says about one configuration; None where it says nothing.

    PSNR in dB and SSIM (at most 1) are means over the test images with their standard deviations. ``resolution`` is the
    side of the square feature map, ``locations`` its square. ``degradation_percent`` and ``gain_db`` are relative to
    the first row or the reference of the table. ``cost_per_db`` is a multiple of the single model's.
    """

    configuration: str
    rank: int | None = None
    psnr: float
    psnr_std: float | None = None
    ssim: float | None = None
    ssim_std: float | None = None
    eval_minutes: float | None = None
    train_minutes: float | None = None
    resolution: int | None = None
    locations: int | None = None
    degradation_percent: float | None = None
    gain_db: float | None = None
    encoder_passes: int | None = None
    memory_gb: float | None = None
    cost_per_db: float | None = None
    ssim_rank: int | None = None
    ranked: int | None = None


class Table(_Strict):
    """One table of the study."""

    section: str
    title: str
    rows: tuple[Row, ...] = Field(min_length=1)


class PublishedComparison(_Strict):
    """A difference ``a - b`` in dB, and whether the study calls it significant."""

    section: str
    a: str
    b: str
    difference: float
    significant: bool


class Improvement(_Strict):
    """A metric of the baseline and of the winner; ``remark`` says what is odd about the figure of the baseline."""

    section: str
    metric: Literal["psnr", "ssim", "eval_minutes", "train_minutes", "memory_gb"]
    initial: float
    final: float
    percent: float
    remark: str = ""


class PublishedFinding(_Strict):
    """A conclusion of the study, in our words."""

    section: str
    name: str
    text: str


class Recommendation(_Strict):
    """What the study recommends (with a configuration) or advises against (without one)."""

    section: str
    advice: str
    configuration: str | None = None
    psnr: float | None = None
    ssim: float | None = None
    memory_gb: float | None = None
    eval_minutes: float | None = None


class Summary(_Strict):
    """The study's own counts; PSNR in dB."""

    section: str
    configurations: int
    successful: int
    out_of_memory: int
    best_psnr: float
    best_single_psnr: float
    psnr_range: float
    gpu_hours: float


class Figure(_Strict):
    """A number from a sentence or a list."""

    section: str
    what: str
    value: float
    unit: str = ""


class Mention(_Strict):
    """A row with its section and the title of its table."""

    section: str
    table: str
    row: Row


class Designs(_Strict):
    """The options with which our decoders and fusions are those of the study, by name; ``auto`` for their defaults.

    A name that is left out is not known to differ.
    """

    decoder_options: dict[str, str] = {}
    fusion_options: dict[str, str] = {}


class Figures(_Strict):
    """Every figure of a study, and the protocol, data, weights and image size that they hold for.

    ``citation`` is what a reader needs to find the study. ``findings_caveat`` and ``baseline_caveat`` say what to know
    of its protocol where its findings are judged and where its baseline is compared with ours. ``results`` is the
    number of the chapter with the results, empty for the whole study; ``baseline`` the configuration that the study
    starts from, ``winner`` the one that it recommends. ``seed_sd`` is the standard deviation between trainings in dB.
    """

    citation: str = Field(min_length=1)
    protocol: str
    data: str
    weights: str
    image_size: int
    findings_caveat: str = ""
    baseline_caveat: str = ""
    results: str = ""
    baseline: str = ""
    winner: str = ""
    seed_sd: float | None = Field(None, gt=0)
    designs: Designs = Designs()
    tables: tuple[Table, ...] = ()
    comparisons: tuple[PublishedComparison, ...] = ()
    improvements: tuple[Improvement, ...] = ()
    findings: tuple[PublishedFinding, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    summary: Summary | None = None
    figures: tuple[Figure, ...] = ()

    @model_validator(mode="after")
    def _improvements_have_two_ends(self) -> Self:
        if self.improvements and not (self.baseline and self.winner):
            raise ValueError("improvements are from a baseline to a winner, and one of the two is not given")
        return self

    @property
    def layers(self) -> list[str]:
        """The layers of the single models that have figures."""
        names = (name.split("+") for name in self.configurations)
        return list(dict.fromkeys(parts[0] for parts in names if len(parts) == 2))

    @property
    def configurations(self) -> tuple[str, ...]:
        """The configurations with figures in a table, in order of first mention."""
        return tuple(dict.fromkeys(row.configuration for table in self.tables for row in table.rows))

    def mentions(self, configuration: str) -> tuple[Mention, ...]:
        """Every row on a configuration (``vgg16:block1+wavelet``)."""
        return tuple(Mention(section=table.section, table=table.title, row=row)
                     for table in self.tables for row in table.rows if row.configuration == configuration)

    def score(self, configuration: str) -> Mention | None:
        """The row to set beside ours: of the results, those with an SSIM, then with an evaluation time, then the last.

        None if the study gives no figure.
        """
        return max(self._results(configuration), default=None, key=lambda mention: (
            mention.row.ssim is not None, mention.row.eval_minutes is not None, section_order(mention.section)))

    def scores(self) -> dict[str, PublishedScore]:
        """The scores of each configuration as tables set them beside ours."""
        return {name: self._as_score(name, mention) for name in self.configurations if (mention := self.score(name))}

    def _as_score(self, name: str, mention: Mention) -> PublishedScore:
        row = mention.row
        losses = (other.row.degradation_percent for other in self._results(name))
        return PublishedScore(mention.section, row.psnr, row.psnr_std, row.ssim, row.ssim_std, row.eval_minutes,
                              next((loss for loss in losses if loss is not None), None))

    def _results(self, configuration: str) -> list[Mention]:
        """The rows on a configuration in the chapter with the results."""
        chapter = section_order(self.results)
        return [mention for mention in self.mentions(configuration)
                if section_order(mention.section)[:len(chapter)] == chapter]

    @property
    def conditions(self) -> str:
        """What the scores hold for."""
        return f"protocol {self.protocol}, {self.data}, weights {self.weights}, image size {self.image_size}"

    def in_section(self, section: str) -> tuple[Table, ...]:
        """The tables of a section."""
        return tuple(table for table in self.tables if table.section == section)


def section_order(section: str) -> tuple[tuple[int, str], ...]:
    """Sorts sections as a paper numbers them: ``4.2``, ``4.10``, then letters (``A.1``, ``Table 2``)."""
    parts: list[str] = re.findall(r"\d+|[^\W\d]+", section)
    return tuple((int(part), "") if part.isdigit() else (sys.maxsize, part) for part in parts)


@cache
def load_figures(module: str) -> Figures:
    """Reads the YAML file beside a module, which is given as its ``__file__``.

    Raises:
        pydantic.ValidationError: the file does not match the schema.
    """
    return Figures.model_validate(yaml.safe_load(Path(module).with_suffix(".yaml").read_text("utf-8")))
