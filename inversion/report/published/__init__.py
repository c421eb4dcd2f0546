"""Published studies whose figures and findings the report sets beside our runs: a module and a YAML file each.

To add a paper, add ``NAME.yaml`` with its figures (the schema is in ``_figures.py``) and ``NAME.py`` with the rules of
its findings; the latter registers a function that returns a ``PublishedStudy``. Nothing else has to change. Imports
``tables``, ``data`` and ``stats`` within the report.
"""

from __future__ import annotations

from collections.abc import Callable

from inversion.registry import Registry
from inversion.report.published._figure_table import Counterparts
from inversion.report.published._figures import Figures, load_figures
from inversion.report.published._study import published_study
from inversion.report.tables.published import PublishedStudy

__all__ = ["Counterparts", "Figures", "PublishedStudy", "load_figures", "load_studies", "published_study", "studies"]

studies: Registry[Callable[[], PublishedStudy]] = Registry("published study", "inversion.report.published")


def load_studies() -> list[PublishedStudy]:
    """Every published study, in alphabetical order of their modules.

    Raises:
        ValueError: two studies have the same key.
    """
    found: dict[str, PublishedStudy] = {}
    for name in studies.names():
        study = studies.get(name)()
        if study.key in found:
            raise ValueError(f"published study {name!r} has the key {study.key!r}, which another one has")
        found[study.key] = study
    return list(found.values())
