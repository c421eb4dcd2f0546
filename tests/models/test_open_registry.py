"""Decoders that an installed package declares as entry points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inversion.errors import RequestError, UnknownNameError
from inversion.models import FeatureShape, open_registry
from inversion.models.decoders import decoders

MODULE = '''
from torch import nn
class Fancy(nn.Sequential):
    """A fancy decoder."""
    def __init__(self, features, image_size, kernel: int = 1):
        super().__init__(nn.Conv2d(features.channels, 3, kernel, padding="same"), nn.Upsample((image_size,) * 2),
                         nn.Sigmoid())
'''


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package ``lab-decoders`` 1.2.0 with the decoders ``fancy``, ``broken`` and one of a name of ours."""
    (tmp_path / "lab_decoders_of_a_test.py").write_text(MODULE)
    meta = tmp_path / "lab_decoders-1.2.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-decoders\nVersion: 1.2.0\n")
    (meta / "entry_points.txt").write_text(
        "[inversion.decoders]\nfancy = lab_decoders_of_a_test:Fancy\nbroken = lab_decoders_of_a_test:Missing\n"
        "wavelet = lab_decoders_of_a_test:Fancy\n")
    monkeypatch.syspath_prepend(tmp_path)
    open_registry._entry_points.cache_clear()
    monkeypatch.setattr(decoders.outside, "adapt", decoders.outside.adapt.__wrapped__)
    yield
    open_registry._entry_points.cache_clear()


def test_it_has_its_name_and_under_its_full_name_its_version() -> None:
    assert "fancy" in decoders.names()
    assert decoders.full_name("fancy") == decoders.full_name("fancy@1.2.0") == "fancy@1.2.0"
    assert decoders.is_outside("fancy")
    assert decoders.summary("fancy") == "lab_decoders_of_a_test:Fancy, of the package lab-decoders 1.2.0."
    assert decoders.outside.packages_of("fancy@1.2.0") == {"lab-decoders"}


def test_it_is_built_and_its_options_are_its_parameters() -> None:
    kind = decoders.get("fancy@1.2.0")
    options = kind.OptionsType.model_validate({"kernel": "3"})
    images = kind.build(FeatureShape(8, 4, 4), 32, options)(torch.randn(2, 8, 4, 4))
    assert images.shape == (2, 3, 32, 32)


def test_another_version_is_another_decoder() -> None:
    with pytest.raises(RequestError, match=r"is of version 1\.1\.0 of lab-decoders, and 1\.2\.0 is installed here: pip "
                                           r"install lab-decoders==1\.1\.0"):
        decoders.check("fancy@1.1.0")


def test_a_name_of_ours_stays_ours() -> None:
    assert not decoders.is_outside("wavelet")
    assert decoders.get("wavelet").__module__ == "inversion.models.decoders.wavelet"


def test_one_that_cannot_be_imported_and_an_unknown_one_are_told() -> None:
    with pytest.raises(RequestError, match=r"decoder 'broken' \(lab_decoders_of_a_test:Missing of lab-decoders\) "
                                           "cannot be imported: AttributeError"):
        decoders.get("broken")
    with pytest.raises(UnknownNameError, match="Did you mean 'fancy'"):
        decoders.check("fancyy")
