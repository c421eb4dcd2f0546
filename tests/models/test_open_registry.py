"""Parts that an installed package declares as entry points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inversion.errors import RequestError, UnknownNameError
from inversion.losses.outside import outside_losses, outside_metrics, pinned_loss, pinned_metrics
from inversion.models import FeatureShape, open_registry
from inversion.models.decoders import decoders
from inversion.models.encoders import parse_encoders, parse_weights
from inversion.models.encoders.build import build_encoder
from inversion.models.encoders.catalog import outside_encoders
from inversion.models.fusion import fusions
from inversion.models.model import build_fusion

MODULE = '''
from torch import nn
class Fancy(nn.Sequential):
    """A fancy decoder."""
    def __init__(self, features, image_size, kernel: int = 1):
        super().__init__(nn.Conv2d(features.channels, 3, kernel, padding="same"), nn.Upsample((image_size,) * 2),
                         nn.Sigmoid())

def net(pretrained=False):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1))
    if pretrained:
        nn.init.ones_(module[0].weight)
    return module

def error(images, targets):
    return (images - targets).abs().mean((1, 2, 3))
error.higher_is_better = False

class Sum(nn.Module):
    """The first map."""
    def __init__(self, shapes):
        super().__init__()
    def forward(self, maps):
        return maps[0]
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
        "wavelet = lab_decoders_of_a_test:Fancy\n"
        "[inversion.encoders]\nlab_net = lab_decoders_of_a_test:net\nvgg16 = lab_decoders_of_a_test:net\n"
        "[inversion.fusions]\nsum = lab_decoders_of_a_test:Sum\n"
        "[inversion.metrics]\nerror = lab_decoders_of_a_test:error\nssim = lab_decoders_of_a_test:error\n"
        "[inversion.losses]\nl1 = lab_decoders_of_a_test:error\n")
    monkeypatch.syspath_prepend(tmp_path)
    open_registry._entry_points.cache_clear()
    for kind in (decoders.outside, fusions.outside, outside_encoders, outside_metrics, outside_losses):
        monkeypatch.setattr(kind, "adapt", kind.adapt.__wrapped__)
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


def test_an_encoder_has_its_version_before_its_layer() -> None:
    cut, plain = parse_encoders("lab_net:1/pool=2+vgg16:block1")
    assert str(cut) == "lab_net@1.2.0:1/pool=2"
    assert plain.spec.source == "torchvision"
    assert cut.shape(64) == FeatureShape(5, 8, 8)
    assert parse_encoders(str(cut)) == (cut,)
    with pytest.raises(UnknownNameError, match="Did you mean 'lab_net'"):
        parse_encoders("lab_nett:1")


def test_its_own_weights_are_those_that_it_is_made_with_and_random_ones_depend_on_the_seed() -> None:
    cut, = parse_encoders("lab_net:1")
    built = {text: build_encoder(cut, parse_weights(text, [cut])[cut.encoder], 64).trunk_state()["0.weight"]
             for text in ("imagenet", "random", "random:1")}
    assert bool((built["imagenet"] == 1).all())
    assert not torch.equal(built["random"], built["random:1"])
    names = {text: parse_weights(text, [cut])[cut.encoder].identity() for text in built}
    assert names["imagenet"].startswith("own:")
    assert names["random:1"].startswith("random:1:sha256-")
    assert len(set(names.values())) == 3


def test_a_local_version_does_not_look_like_two_encoders(tmp_path: Path) -> None:
    meta = tmp_path / "lab_decoders-1.2.0.dist-info"
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-decoders\nVersion: 1.2.0+cu124\n")
    open_registry._entry_points.cache_clear()
    cut, = parse_encoders("lab_net:1")
    assert str(cut) == "lab_net@1.2.0_cu124:1"
    assert parse_encoders(str(cut)) == (cut,)


def test_a_fusion_gives_a_map_of_the_shape_that_running_it_shows() -> None:
    assert fusions.full_name("sum") == "sum@1.2.0"
    shapes = [FeatureShape(8, 4, 4), FeatureShape(3, 2, 2)]
    assert build_fusion("sum@1.2.0", {}, shapes)[1] == shapes[0]


def test_metrics_and_losses_are_found_under_the_names_of_their_entry_points() -> None:
    assert (pinned_metrics("error"), pinned_loss("l1")) == ("error@1.2.0", "l1@1.2.0")
    metric, loss = outside_metrics.get("error@1.2.0"), outside_losses.get("l1@1.2.0")
    assert (metric.logged_name, loss.logged_name) == ("error", "l1")
    metric.try_on(32)
    loss.try_on(32)
    with pytest.raises(UnknownNameError, match=r"^unknown metric 'eror'\. Known: error, FILE\.py:NAME .*Did you mean"):
        pinned_metrics("eror")
    with pytest.raises(RequestError, match="ssim is computed in any case"):
        pinned_metrics("ssim")
