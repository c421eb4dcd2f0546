"""Published studies whose figures and findings the report sets beside our runs: a module and a YAML file each.

To add a paper, add ``NAME.yaml`` with its figures (the schema is in ``_figures.py``) and ``NAME.py`` with the rules of
its findings; the latter registers a function that returns a ``PublishedStudy``. Nothing else has to change. Imports
``tables``, ``data`` and ``stats`` within the report.
"""

from __future__ import annotations

from collections.abc import Callable

from inversion.registry import Registry
from inversion.report.tables.published import PublishedStudy

studies: Registry[Callable[[], PublishedStudy]] = Registry("published study", "inversion.report.published")


def load_studies() -> list[PublishedStudy]:
    """Every published study, in alphabetical order."""
    return [studies.get(name)() for name in studies.names()]
