"""LPIPS-VGG and DISTS: the numbers of the packages lpips and torchmetrics, and where their weights come from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inversion.errors import WeightsError
from inversion.losses.dists import Dists
from inversion.losses.lpips_vgg import LpipsVgg
from inversion.losses.vgg import IMAGENET, VggStages, is_imagenet
from inversion.losses.vgg_weights import MOST_PIXELS, absolute_vgg, find_vgg, require_vgg
from inversion.models.encoders import WeightsSource
from inversion.models.encoders.build import Encoder
from inversion.runs.further import load_vgg

Metric = LpipsVgg | Dists


@pytest.fixture(scope="module")
def trunk(frozen: Callable[..., Encoder]) -> dict[str, Tensor]:
    """VGG16's convolutions with random weights, in torchvision's naming."""
    return frozen("vgg16:block5", 64).trunk_state()


@pytest.fixture(scope="module")
def metrics(trunk: dict[str, Tensor]) -> dict[str, Metric]:
    stages = VggStages(trunk)
    return {"lpips_vgg": LpipsVgg(stages), "dists": Dists(stages)}


@pytest.fixture(params=["lpips_vgg", "dists"])
def metric(request: pytest.FixtureRequest, metrics: dict[str, Metric]) -> Metric:
    return metrics[request.param]


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 64, 64, generator=chance)
    return images, (images + 0.2 * torch.randn(images.shape, generator=chance)).clamp(0, 1)


def test_lpips_vgg_is_the_packages(trunk: dict[str, Tensor], metrics: dict[str, Metric],
                                   pair: tuple[Tensor, Tensor]) -> None:
    import lpips  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    for name, tensor in reference.net.state_dict().items():
        tensor.copy_(trunk[f"features.{name.partition('.')[2]}"])
    expected = reference(*pair, normalize=True).flatten()
    assert metrics["lpips_vgg"](*pair).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_dists_is_torchmetrics(trunk: dict[str, Tensor], metrics: dict[str, Metric], pair: tuple[Tensor, Tensor],
                               monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import dists
    from torchvision.models import vgg16  # type: ignore[import-untyped]

    def without_download(weights: object) -> nn.Module:
        with torch.device("meta"):
            network: nn.Module = vgg16()
        network.load_state_dict(trunk, strict=False, assign=True)
        return network

    monkeypatch.setattr(dists, "vgg16", without_download)
    expected = dists.DISTSNetwork()(*pair)
    assert metrics["dists"](*pair).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_equal_images_are_at_distance_0(metric: Metric, pair: tuple[Tensor, Tensor]) -> None:
    images, _ = pair
    assert metric(images, images.clone()).tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    black = torch.zeros(1, 3, 64, 64)
    assert metric(black, black).item() == pytest.approx(0, abs=1e-12)


def test_an_image_does_not_depend_on_its_neighbours(metric: Metric, pair: tuple[Tensor, Tensor]) -> None:
    together = metric(*pair)
    assert metric(*(values[1:2] for values in pair)).tolist() == pytest.approx(together[1:2].tolist(), rel=1e-4)


def test_more_noise_is_further_away(metric: Metric, pair: tuple[Tensor, Tensor]) -> None:
    images, noisy = pair
    half = (images + noisy) / 2
    assert (metric(half, images) < metric(noisy, images)).all()


def test_the_runs_own_vgg16_is_taken_if_it_is_a_file(tmp_path: Path) -> None:
    own = {"vgg16": WeightsSource("vgg16", "file", path=tmp_path / "vgg16.pth")}
    assert find_vgg("auto", own, MOST_PIXELS, on_cpu=True) == (own["vgg16"], "")
    assert find_vgg("auto", own, 100 * MOST_PIXELS, on_cpu=False) == (own["vgg16"], "")
    assert find_vgg("off", own, 1, on_cpu=True) == (None, "vgg_weights=off")


def test_on_a_cpu_many_pixels_are_only_scored_if_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.pth"
    file.write_bytes(b"weights")
    own = {"vgg16": WeightsSource("vgg16", "file", path=file)}
    found, why = find_vgg("auto", own, MOST_PIXELS + 1, on_cpu=True)
    assert found is None
    assert f"vgg_weights={file}" in why
    assert find_vgg(str(file), own, MOST_PIXELS + 1, on_cpu=True) == (own["vgg16"], "")


def test_random_weights_are_never_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found, why = find_vgg("auto", {"vgg16": WeightsSource("vgg16", "random")}, 1, on_cpu=True)
    assert (found, why) == (None, "VGG16's weights are not at hand; give vgg_weights=FILE")
    with pytest.raises(WeightsError, match=r"^vgg_weights=random: distances in random features mean nothing"):
        require_vgg("random")


def test_imagenet_weights_are_taken_from_torchs_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert find_vgg("auto", {}, 1, on_cpu=True) == (WeightsSource("vgg16", "imagenet"), "")


def test_a_file_that_is_not_there_is_refused_and_a_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch,
                                                                         tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg16.pth").write_bytes(b"weights")
    assert absolute_vgg("vgg16.pth") == str(tmp_path / "vgg16.pth")
    assert absolute_vgg("auto") == "auto"
    with pytest.raises(WeightsError, match=r"^vgg_weights: 'vgg17.pth': no such file"):
        require_vgg("vgg17.pth")


def test_auto_takes_no_other_weights_than_imagenets_for_these_scores(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in trunk.items()}
    save_file(state, tmp_path / "other.safetensors")
    other = WeightsSource("vgg16", "file", path=tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors are not VGG16's of ImageNet; vgg_weights=\S+ takes"):
        load_vgg(other, imagenet_alone=True)
    assert load_vgg(other)
    for name, values in IMAGENET.items():
        state[name][0, 0] = torch.tensor(values).reshape(3, 3)
    rounded = {name: tensor.bfloat16() for name, tensor in state.items()}
    assert is_imagenet(rounded)
    assert not is_imagenet(state | {"features.28.weight": trunk["features.28.weight"]})


def test_the_trained_weights_are_known_as_imagenets() -> None:
    file = Path(__file__).parents[3] / "shared" / "data" / "weights" / "vgg16.safetensors"
    if not file.exists():
        pytest.skip("VGG16's trained weights are not on this machine")
    assert is_imagenet(load_file(file))
