"""A metric and a loss of a user's own: what is called with images and targets, and its trial before a run.

What has the name is called itself if it is a function, as ``f(images, targets)``; a class is called without arguments
first, and makes an ``nn.Module`` that is called so.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from inversion.errors import RequestError
from inversion.models.encoders._random import random_state_of_its_own
from inversion.models.outside import Factory, failure
from inversion.seeds import derive_seed, generator

ARGUMENTS = {"images": None, "targets": None}
BATCH = 2
RELATIVE, ABSOLUTE = 1e-2, 1e-4
"""How far a value may be from the one that it has in another batch, by rounding."""


class OwnScore:
    """What a user's metric and loss have in common.

    Args:
        kind: ``"metric"`` or ``"loss"``.
        name: its full name.
        logged_name: the name under which its values are logged.
        made: the class or function.

    Raises:
        RequestError: it is no such class or function, or takes other arguments.
    """

    def __init__(self, kind: str, name: str, logged_name: str, made: Any) -> None:
        self.kind = kind
        self.name = name
        self.logged_name = logged_name
        self._made = made
        self._is_class = inspect.isclass(made)
        is_object = callable(made) and not self._is_class and not inspect.isroutine(made)
        self._factory = Factory(kind, name, made.__call__ if is_object else made, {} if self._is_class else ARGUMENTS)

    def make(self) -> nn.Module:
        """What computes the values: frozen, in eval mode, on the CPU. The global random state does not change.

        Raises:
            RequestError: the code fails, or does not make a module.
        """
        if not self._is_class:
            return _Called(self.kind, self.name, self._made)
        with random_state_of_its_own(derive_seed(0, self.name)):
            module = self._factory.make()
        return _Called(self.kind, self.name, module.cpu().requires_grad_(False).eval())


class _Called(nn.Module):
    """Calls a user's function or module; its exceptions become RequestErrors with the line in its file.

    An error of PyTorch (``RuntimeError``) is not converted: memory may have run out, which the caller examines.
    """

    def __init__(self, kind: str, name: str, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.kind = kind
        self.name = name
        self.function = function

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The values for float32 images and targets ``(B, 3, S, S)``, in the shape that the user's code gives."""
        try:
            values = self.function(images.float(), targets.float())
        except (RequestError, RuntimeError):
            raise
        except Exception as error:
            raise failure(self.kind, self.name, error) from error
        if not isinstance(values, Tensor):
            raise RequestError(f"{self.kind} {self.name}: it gives an object of type {type(values).__name__}, and not "
                               "a tensor")
        return values


class OwnMetric(OwnScore):
    """A metric: of images and targets ``(B, 3, S, S)``, one number for each image.

    Raises:
        RequestError: as for ``OwnScore``; or its attribute ``higher_is_better`` does not say which direction is better.
    """

    def __init__(self, name: str, logged_name: str, made: Any) -> None:
        super().__init__("metric", name, logged_name, made)
        better = getattr(made, "higher_is_better", None)
        if not isinstance(better, bool):
            raise RequestError(f"metric {name}: it does not say which direction is better. Write into its file: "
                               f"{logged_name}.higher_is_better = True (or False)")
        self.better: Literal["higher", "lower"] = "higher" if better else "lower"

    def make(self) -> nn.Module:
        return _PerImage(super().make(), self.name)

    @functools.cache  # noqa: B019  # there is one object of each name
    def try_on(self, image_size: int) -> None:
        """Scores random images of this side. The global random state does not change.

        Raises:
            RequestError: its code fails; or it does not give a finite number for each image, that is the same each time
                and in any batch.
        """
        images, targets = random_pairs(image_size)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            metric = self.make()
            try:
                first, second, alone = (metric(images[:count], targets[:count]) for count in (BATCH, BATCH, 1))
            except RuntimeError as error:
                raise failure("metric", self.name, error) from error
        if not first.isfinite().all():
            raise RequestError(f"metric {self.name}: for random images it gives {first.tolist()}, and scores are "
                               "finite")
        if not torch.equal(first, second):
            raise RequestError(f"metric {self.name}: it scores the same images differently each time")
        if not torch.allclose(first[:1], alone, RELATIVE, ABSOLUTE):
            raise RequestError(f"metric {self.name}: it scores an image as {first[0]:.6g} beside another one and as "
                               f"{alone[0]:.6g} alone; a score is that of one image")


class _PerImage(nn.Module):
    """Values ``(B,)`` in float64 of a metric that may give ``(B, 1)`` or ``(B, 1, 1, 1)``."""

    def __init__(self, metric: nn.Module, name: str) -> None:
        super().__init__()
        self.metric = metric
        self.name = name

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        values: Tensor = self.metric(images, targets)
        if values.ndim == 0 or values.numel() != len(images) or len(values) != len(images):
            raise RequestError(f"metric {self.name}: for {len(images)} images it gives "
                               f"{_shape(values)}, and not a number for each image, ({len(images)},)")
        return values.flatten().double()


class OwnLoss(OwnScore):
    """A loss: of images and targets ``(B, 3, S, S)``, the mean over the images, or a number for each."""

    def __init__(self, name: str, logged_name: str, made: Any) -> None:
        super().__init__("loss", name, logged_name, made)

    def make(self) -> nn.Module:
        return _BatchMean(super().make(), self.name)

    @functools.cache  # noqa: B019
    def try_on(self, image_size: int) -> None:
        """Computes the loss of random images of this side and its gradient. The global random state does not change.

        Raises:
            RequestError: its code fails; or it does not give a finite mean over the images, that is the same each time
                and has a finite gradient.
        """
        images, targets = random_pairs(image_size)
        images.requires_grad_(True)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            loss = self.make()
            try:
                value, again = loss(images, targets), loss(images, targets)
                alone = [loss(images[number:number + 1], targets[number:number + 1]).item() for number in range(BATCH)]
                gradient = torch.autograd.grad(value, images, allow_unused=True)[0] if value.requires_grad else None
            except RuntimeError as error:
                raise failure("loss", self.name, error) from error
        if not value.isfinite():
            raise RequestError(f"loss {self.name}: for random images it gives {value.item()}, and a loss is finite")
        if not torch.equal(value, again):
            raise RequestError(f"loss {self.name}: it gives another value for the same images each time")
        if not torch.allclose(value.detach(), torch.tensor(sum(alone) / BATCH).to(value), RELATIVE, ABSOLUTE):
            raise RequestError(f"loss {self.name}: for two images it gives {value.item():.6g}, and for each alone "
                               f"{alone[0]:.6g} and {alone[1]:.6g}; a loss is the mean over the images")
        if gradient is None or not gradient.any():
            raise RequestError(f"loss {self.name}: it has no gradient by the images, which are its first argument")
        if not gradient.isfinite().all():
            raise RequestError(f"loss {self.name}: its gradient is not finite for random images")


class _BatchMean(nn.Module):
    """The mean over the images, a scalar, of a loss that may give a number for each image."""

    def __init__(self, loss: nn.Module, name: str) -> None:
        super().__init__()
        self.loss = loss
        self.name = name

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        values: Tensor = self.loss(images, targets)
        if values.numel() != 1 and (not values.ndim or values.numel() != len(images) or len(values) != len(images)):
            raise RequestError(f"loss {self.name}: for {len(images)} images it gives {_shape(values)}, and not their "
                               f"mean, a scalar, or a number for each, ({len(images)},)")
        return values.mean()


def random_pairs(image_size: int) -> tuple[Tensor, Tensor]:
    """Random images and targets ``(2, 3, S, S)`` in [0, 1], always the same ones."""
    chance = generator(0, "trial of a score", image_size)
    images, targets = torch.rand(2, BATCH, 3, image_size, image_size, generator=chance)
    return images, targets


def _shape(values: Tensor) -> str:
    return "a scalar" if values.ndim == 0 else str(tuple(values.shape))
