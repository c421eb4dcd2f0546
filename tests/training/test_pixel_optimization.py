"""Inversion by optimisation, as a method: its terms in closed form, what it recovers, and who depends on whom."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from inversion.config.optimize_config import parse_optimize_config
from inversion.errors import NonFiniteError, RequestError, UnknownNameError
from inversion.images import from_stored
from inversion.models.encoders.build import Encoder
from inversion.training.pixel_optimization import (
    CURVE_POINTS,
    Encode,
    Inverted,
    Settings,
    feature_errors,
    invert,
    mean_curve,
    objective,
    starting_noise,
    steps_to_record,
    total_variation,
)

SIZE = 32
QUICK = Settings(steps=80, lr=0.2, tv_weight=3.0)


class Differentiable(Protocol):
    def differentiable(self, images: Tensor) -> Tensor: ...


def features_of(*encoders: Differentiable) -> Encode:
    return lambda images: [encoder.differentiable(images) for encoder in encoders]


class Identity:
    """Features that are the image itself."""

    def differentiable(self, images: Tensor) -> Tensor:
        return images


class Scaled:
    """The image in other units."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def differentiable(self, images: Tensor) -> Tensor:
        return self.factor * images


class Coarse:
    """Means of squares of 4×4 pixels."""

    def differentiable(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 4)


class Double:
    """An encoder that computes in float64."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = deepcopy(encoder).double()

    def differentiable(self, images: Tensor) -> Tensor:
        return self.encoder.differentiable(images.double())


@pytest.fixture(scope="module")
def images(photograph: Callable[[str, int], Any]) -> Tensor:
    """Three real photographs, ``(3, 3, 32, 32)`` in [0, 1]."""
    names = ("astronaut", "chelsea", "coffee")
    return from_stored(torch.stack([torch.tensor(photograph(name, SIZE)) for name in names]))


@pytest.fixture(scope="module")
def vgg(frozen: Callable[..., Encoder]) -> Encoder:
    return frozen("vgg16:block1", SIZE)


@pytest.fixture(scope="module")
def inverted(vgg: Encoder, images: Tensor) -> Inverted:
    torch.set_num_threads(1)
    return invert(features_of(vgg), images, starting_noise(range(3), SIZE, seed=0), QUICK)


def psnr(image: Tensor, target: Tensor) -> float:
    score: float = peak_signal_noise_ratio(  # type: ignore[no-untyped-call]
        target.double().numpy(), image.double().numpy(), data_range=1)
    return score


def gradient(encoder: Differentiable, found: Tensor, images: Tensor) -> Tensor:
    """Of the objective with respect to the images that are searched for, as the descent takes it."""
    found = found.clone().requires_grad_()
    with torch.no_grad():
        wanted = [encoder.differentiable(images).float()]
    losses, _ = objective(features_of(encoder), found, wanted, tv_weight=3.0)
    result, = torch.autograd.grad(losses.sum(), found)
    return result


def test_total_variation_of_a_constant_image_is_0() -> None:
    assert total_variation(torch.full((2, 3, 8, 8), 0.3)).tolist() == [0, 0]


def test_total_variation_of_ramps_is_their_closed_form() -> None:
    """Across by 1/16 a pixel and down by 1/8: of H·W squares W − 1 in each row and H − 1 in each column are there."""
    height, width, across, down = 6, 4, 1 / 16, 1 / 8
    ramp = across * torch.arange(width)[None, :] + down * torch.arange(height)[:, None]
    image = ramp.expand(3, height, width)
    expected = across**2 * (width - 1) / width + down**2 * (height - 1) / height
    steeper = total_variation(torch.stack([image, 0.5 * image])).tolist()
    assert steeper == pytest.approx([expected, expected / 4], rel=1e-6)


def test_the_gradient_of_total_variation_is_that_of_finite_differences() -> None:
    image = torch.rand(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    gradient, = torch.autograd.grad(total_variation(image).sum(), image)
    step = 1e-4
    for place in ((0, 0, 0, 0), (1, 2, 4, 3), (0, 1, 2, 2), (1, 0, 0, 3)):
        change = torch.zeros_like(image)
        change[place] = step
        slope = (total_variation(image + change).sum() - total_variation(image - change).sum()) / (2 * step)
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-6)


def test_the_feature_error_is_0_for_the_image_1_for_nothing_and_a_mean_over_encoders(images: Tensor) -> None:
    encoders: list[Differentiable] = [Identity(), Scaled(1000.0)]
    wanted = [encoder.differentiable(images) for encoder in encoders]
    assert feature_errors(features_of(*encoders), images, wanted).tolist() == [0, 0, 0]
    assert feature_errors(features_of(*encoders), torch.zeros_like(images), wanted).tolist() == pytest.approx([1, 1, 1])
    one_right = feature_errors(features_of(Identity(), Scaled(0.0)), images, wanted)
    assert one_right.tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_an_image_of_zeros_has_a_finite_error() -> None:
    black = torch.zeros(1, 3, 8, 8)
    assert feature_errors(features_of(Identity()), black, [black]).item() == 0


def test_an_identity_recovers_the_image(images: Tensor) -> None:
    start = starting_noise(range(3), SIZE, seed=0)
    found = invert(features_of(Identity()), images, start, Settings(200, 0.05, 0.0)).images
    assert min(psnr(one, other) for one, other in zip(found, images, strict=True)) > 40


def test_total_variation_decides_only_what_the_features_leave_open(images: Tensor) -> None:
    """Means of 4×4 pixels say nothing of what is inside: noise stays there, or is smoothed. The means are found."""
    start = starting_noise(range(3), SIZE, seed=0)
    rough, smooth = (invert(features_of(Coarse()), images, start, Settings(200, 0.1, weight)) for weight in (0.0, 3.0))
    assert (total_variation(smooth.images) < 0.5 * total_variation(rough.images)).all()
    assert max(rough.curve[-1].feature_error, smooth.curve[-1].feature_error) < 1e-3


def test_the_objective_falls_and_the_photograph_comes_back(inverted: Inverted, images: Tensor) -> None:
    first, last = inverted.curve[0], inverted.curve[-1]
    assert last.loss < 0.02 * first.loss
    assert last.feature_error < 0.02 * first.feature_error
    assert last.loss == last.feature_error < first.feature_error < first.loss, "the weight decays to 0"
    for before, after, image in zip(starting_noise(range(3), SIZE, seed=0), inverted.images, images, strict=True):
        assert psnr(after, image) > psnr(before, image) + 10


def test_found_images_are_in_the_range(inverted: Inverted) -> None:
    assert 0 <= inverted.images.min() <= inverted.images.max() <= 1
    assert not inverted.images.requires_grad


def test_the_encoder_is_as_it_was(vgg: Encoder, inverted: Inverted) -> None:
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in vgg.parameters())


def test_the_same_seed_gives_the_same_image_and_another_seed_another(vgg: Encoder, images: Tensor,
                                                                    inverted: Inverted) -> None:
    again = invert(features_of(vgg), images, starting_noise(range(3), SIZE, seed=0), QUICK)
    assert again.images.equal(inverted.images)
    assert again.curve == inverted.curve
    other = invert(features_of(vgg), images, starting_noise(range(3), SIZE, seed=1), QUICK)
    assert not other.images.equal(inverted.images)


def test_an_image_does_not_depend_on_its_neighbours_in_a_batch__bit_for_bit(images: Tensor) -> None:
    start = starting_noise(range(3), SIZE, seed=0)
    batch = invert(features_of(Coarse(), Identity()), images, start, QUICK).images
    alone = invert(features_of(Coarse(), Identity()), images[1:2], start[1:2], QUICK).images
    assert alone[0].equal(batch[1])


@pytest.mark.parametrize("encoder", ["vgg16:block1", "resnet34:layer1"])
def test_the_gradient_of_an_image_does_not_depend_on_its_neighbours_in_a_batch(
        frozen: Callable[..., Encoder], images: Tensor, encoder: str) -> None:
    """To rounding: a convolution may add in another order for another number of images.

    The pixels after some steps say less: Adam goes by the sign of a gradient, which rounding turns where it is nearly
    0. The encoder computes in float64, so that no ReLU or max-pool turns either.
    """
    double = Double(frozen(encoder, SIZE))
    start = starting_noise(range(3), SIZE, seed=0)
    together = gradient(double, start, images)
    for index in range(3):
        alone = gradient(double, start[index:index + 1], images[index:index + 1])[0]
        assert (together[index] - alone).norm() < 1e-6 * alone.norm()


def test_each_image_begins_with_noise_of_its_own() -> None:
    noise = starting_noise([0, 1], SIZE, seed=0)
    assert noise[1].equal(starting_noise([1], SIZE, seed=0)[0])
    assert not noise[0].equal(noise[1])
    assert 0 <= noise.min() <= noise.max() <= 1


@pytest.mark.parametrize("steps", [1, 7, 49, 50, 51, 99, 200, 12345])
def test_the_curve_has_few_points_and_both_ends(steps: int) -> None:
    noted = steps_to_record(steps)
    assert 0 in noted
    assert len(noted) <= CURVE_POINTS
    assert max(noted) < steps


def test_the_mean_curve_weighs_batches_by_their_images(images: Tensor) -> None:
    settings = Settings(4, 0.05, 0.0)
    start = starting_noise(range(3), SIZE, seed=0)
    whole = invert(features_of(Identity()), images, start, settings).curve
    parts = [(2, invert(features_of(Identity()), images[:2], start[:2], settings).curve),
             (1, invert(features_of(Identity()), images[2:], start[2:], settings).curve)]
    mean = list(mean_curve(parts))
    assert [point.step for point in mean] == [point.step for point in whole] == [0, 1, 2, 3, 4]
    assert [point.loss for point in mean] == pytest.approx([point.loss for point in whole], rel=1e-5)


def test_numbers_that_are_not_finite_end_it(images: Tensor) -> None:
    with pytest.raises(NonFiniteError, match="not finite at step 0"):
        invert(features_of(Scaled(float("nan"))), images, torch.zeros_like(images), QUICK, target_features=[images])
    with pytest.raises(NonFiniteError, match="features of the images are not finite, before any optimisation"):
        invert(features_of(Scaled(float("nan"))), images, torch.zeros_like(images), QUICK)


def test_every_step_is_told_and_can_end_it(images: Tensor) -> None:
    told = []

    def on_step(step: int) -> None:
        told.append(step)
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert(features_of(Identity()), images, torch.zeros_like(images), QUICK, on_step)
    assert told == [1, 2, 3]


def test_the_parameters_say_that_there_is_no_decoder() -> None:
    parameters = parse_optimize_config({"steps": "7", "encoder": "vgg16:block1", "lr": "0.5"}).parameters()
    assert (parameters["decoder"], parameters["method"]) == ("none", "optimize")
    assert (parameters["steps"], parameters["lr"], parameters["precision"]) == (7, 0.5, "fp32")
    assert not {"epochs", "fusion", "mse_weight", "patience"} & set(parameters)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("decoder", "wavelet", "decoder belongs to training a decoder"),
    ("epochs", "3", "epochs belongs to training a decoder"),
    ("steps", "0", "steps: '0' is not allowed. Allowed: a whole number, 1 or more"),
    ("steps", "many", "steps: 'many' is not allowed"),
    ("lr", "-1", "lr: '-1' is not allowed. Allowed: a number, above 0"),
    ("tv_weight", "-0.1", "tv_weight: '-0.1' is not allowed. Allowed: a number, 0 or more"),
    ("tv_weight", "inf", "tv_weight: 'inf' is not allowed"),
    ("image_size", "33", "image_size: '33' is not allowed"),
])
def test_a_wrong_parameter_is_refused_in_one_line(name: str, value: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_optimize_config({name: value})
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_an_unknown_parameter_has_its_nearest_match() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tv_weight'"):
        parse_optimize_config({"tv_wieght": 1})
