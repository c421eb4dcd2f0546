"""The published study as data: every figure that it gives, with the section that it stands in."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Strict):
    """What one table says of one configuration; None where it says nothing.

    PSNR in dB, SSIM at most 1, both means over the 100 test images with their standard deviation; ``resolution`` is
    the side of the square feature map and ``locations`` its square; ``degradation_percent`` and ``gain_db`` are against
    the table's first row or reference; ``cost_per_db`` is a multiple of the single model's, and nowhere defined.
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
    """From the first baseline to the winner."""

    section: str
    metric: str
    initial: float
    final: float
    percent: float


class PublishedFinding(_Strict):
    """A conclusion of the study, in our words."""

    section: str
    name: str
    text: str


class Recommendation(_Strict):
    """What the study advises to use, with a configuration, or to avoid, without one."""

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
    """A row of a table, with where it stands."""

    section: str
    table: str
    row: Row


class Published(_Strict):
    """The study with the protocol, data, weights and image size that its figures hold for, and no others."""

    protocol: str
    data: str
    weights: str
    image_size: int
    tables: tuple[Table, ...]
    comparisons: tuple[PublishedComparison, ...]
    improvements: tuple[Improvement, ...]
    findings: tuple[PublishedFinding, ...]
    recommendations: tuple[Recommendation, ...]
    summary: Summary
    figures: tuple[Figure, ...]

    @property
    def configurations(self) -> tuple[str, ...]:
        """Those that some table has figures of, in the order of their first mention."""
        return tuple(dict.fromkeys(row.configuration for table in self.tables for row in table.rows))

    def mentions(self, configuration: str) -> tuple[Mention, ...]:
        """Every row on a configuration (``vgg16:block1+wavelet``); none where it was not published."""
        return tuple(Mention(section=table.section, table=table.title, row=row)
                     for table in self.tables for row in table.rows if row.configuration == configuration)

    def score(self, configuration: str) -> Mention | None:
        """The row to set beside ours: of the results (section 4), the last that has an evaluation time, or the last.

        ``resnet34:layer1+attention`` has two values: this is the later one (4.4 and 4.5).
        None where the study gives no figure.
        """
        found = [mention for mention in self.mentions(configuration)
                 if mention.row.ssim is not None and mention.section.startswith("4.")]
        return max(found, key=lambda mention: (mention.row.eval_minutes is not None, mention.section), default=None)

    def in_section(self, section: str) -> tuple[Table, ...]:
        """The tables of a section."""
        return tuple(table for table in self.tables if table.section == section)


@cache
def load() -> Published:
    """Reads and checks ``published.yaml``, which comes with the package.

    Raises:
        pydantic.ValidationError: it was edited wrongly.
    """
    text = files("inversion.report.published").joinpath("published.yaml").read_text("utf-8")
    return Published.model_validate(yaml.safe_load(text))
