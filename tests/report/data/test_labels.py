"""Names of runs come from their configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from inversion.config.document import read_document
from inversion.report.data.comparable import name_of

DOCUMENTS = Path(__file__).parents[2] / "config" / "documents"


@pytest.mark.parametrize(("file", "name"), [
    ("v1_run.json", "vgg16:block1+resnet34:layer1+concat+wavelet seed=3"),
    ("v2_run.json", "vgg16:block1+resnet34:layer1+concat+wavelet seed=3"),
    ("v1_optimize.json", "vgg16:block1+optimize"), ("v2_optimize.json", "vgg16:block1+optimize"),
])
def test_a_run_is_called_as_it_was_when_it_was_made(file: str, name: str) -> None:
    document = read_document((DOCUMENTS / file).read_text())
    assert name_of({**document, "fallbacks": []}) == name
