"""A published study from the figures in its YAML file and the rules in its module."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from inversion.report.published._figure_table import Counterparts, figure_table
from inversion.report.published._figures import Figures
from inversion.report.tables.findings import Finding
from inversion.report.tables.published import Caveats, PublishedStudy


def published_study(key: str, figures: Figures, findings: Sequence[Finding] = (),
                    counterparts: Counterparts | None = None) -> PublishedStudy:
    """The study as the report shows it.

    ``counterparts`` says what our runs have for the figures in its text. Its winner is the reference of the tables.
    """
    return PublishedStudy(
        key=key, citation=figures.citation, configurations=figures.scores(),
        caveats=Caveats(figures.conditions, figures.findings_caveat, figures.baseline_caveat), findings=findings,
        figures=partial(figure_table, key, figures, counterparts or Counterparts()), baseline=figures.baseline,
        reference=figures.winner, seed_sd=figures.seed_sd, decoder_options=figures.designs.decoder_options,
        fusion_options=figures.designs.fusion_options)
