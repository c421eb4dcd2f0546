"""Encoders from outside this package: any class or function that makes an ``nn.Module`` of images ``(B, 3, S, S)``.

The module is made whole, and its forward pass ends at the cut: a hook at the submodule raises an exception with its
output. So any module can be cut, also one that cannot be traced. Three attributes of the module say how it is used; all
are optional: ``image_mean`` and ``image_std``, three numbers each, by which images in [0, 1] are normalised, and
``image_sizes``, the sides of the images that it takes.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeGuard

import torch
from torch import Tensor, nn

from inversion.errors import RequestError, UnknownNameError
from inversion.images import Normalisation
from inversion.models import FeatureShape
from inversion.models.encoders._random import random_state_of_its_own
from inversion.models.encoders.specs import OUTPUT
from inversion.models.outside import Factory, failure, require_map
from inversion.seeds import derive_seed

BATCH = 2
PRETRAINED = "pretrained"
MOST_LISTED = 12


class OutsideEncoder:
    """An encoder from outside, of a full name.

    Raises:
        RequestError: what has that name is no class or function that makes a module without arguments.
    """

    def __init__(self, name: str, made: Any) -> None:
        self.name = name
        self._factory = Factory("encoder", name, made, {})

    def make(self, pretrained: bool = True, seed: int = 0) -> nn.Module:
        """The module, frozen and in eval mode, on the CPU.

        ``pretrained`` is passed on if there is such a parameter. Random weights come from PyTorch's generator, which is
        seeded; its global state does not change.

        Raises:
            RequestError: the code fails, or does not make a module.
        """
        options = {PRETRAINED: pretrained} if PRETRAINED in self._factory.further else {}
        with random_state_of_its_own(derive_seed(seed, self.name)):
            module = self._factory.make(**options)
        return module.cpu().requires_grad_(False).eval()

    @functools.cache  # noqa: B019  # there is one object of each name
    def identity(self, pretrained: bool = True, seed: int = 0) -> str:
        """The first 32 hexadecimal digits of a SHA-256 of the weights.

        Raises:
            RequestError: the weights are others each time; or they are to be random, and do not depend on chance.
        """
        found = digest_of(self.make(pretrained, seed))
        if digest_of(self.make(pretrained, seed)) != found:
            raise RequestError(f"encoder {self.name}: its weights are others each time that it is made. Take random "
                               "numbers from PyTorch's global generator, which is seeded")
        if not pretrained and digest_of(self.make(pretrained, seed + 1)) == found:
            raise RequestError(f"encoder {self.name}: weights=random, and its weights do not depend on random numbers. "
                               "For the weights that it is made with: weights=pretrained. If it loads trained ones, "
                               "let a parameter pretrained say whether to do so")
        return found

    @functools.cache  # noqa: B019
    def shape(self, layer: str, image_size: int) -> FeatureShape:
        """The shape of the features at a layer.

        Raises:
            UnknownNameError, RequestError: as for ``try_module``.
        """
        return FeatureShape(*self.try_module(self.make(pretrained=False), layer, image_size).shape[1:])

    def try_module(self, module: nn.Module, layer: str, image_size: int, chance: int = 0) -> Tensor:
        """The features of random images at a layer; ``chance`` seeds the random numbers that the module itself draws.

        Raises:
            UnknownNameError: there is no such layer.
            RequestError: the module does not take this image size, its code fails, or its output there is no finite map
                ``(B, C, h, w)``.
        """
        self._require_size(module, image_size)
        if layer != OUTPUT:
            self._require_layer(module, layer)
        try:
            return require_map(self._run(module, layer, image_size, chance),
                               f"encoder {self.name}:{layer}: for images of side {image_size} it", BATCH)
        except RequestError as error:
            if layer != OUTPUT:
                raise
            raise RequestError(f"{error}. inversion list {self.name} shows where it can be cut") from error

    def layers(self, image_size: int) -> dict[str, FeatureShape]:
        """The layers at which it can be cut, in the order of its forward pass, with the shapes of their features."""
        module = self.make(pretrained=False)
        found: dict[str, object] = {}
        handles = [submodule.register_forward_hook(
            lambda _, __, output, name=name: found.setdefault(name, output))
            for name, submodule in module.named_modules() if name]
        found[OUTPUT] = self._run(module, OUTPUT, image_size)
        for handle in handles:
            handle.remove()
        shapes = {}
        for name, output in found.items():
            with suppress(RequestError):  # a list, tokens, a vector
                shapes[name] = FeatureShape(*require_map(output, name, BATCH).shape[1:])
        return shapes

    def normalisation(self, module: nn.Module) -> Normalisation:
        """Mean and standard deviation of its images; images are left as they are if it has no ``image_mean``.

        Raises:
            RequestError: one of the two is missing or not three numbers, or a standard deviation is not positive.
        """
        mean, std = (getattr(module, name, None) for name in ("image_mean", "image_std"))
        if mean is None and std is None:
            return Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        if not (_is_three(mean) and _is_three(std) and min(std) > 0):
            raise RequestError(f"encoder {self.name}: image_mean and image_std are three numbers each, those of "
                               f"image_std above 0, and not {mean!r} and {std!r}")
        return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def _run(self, module: nn.Module, layer: str, image_size: int, chance: int = 0) -> object:
        """What a module gives at a layer for random images; raises a RequestError if its code fails."""
        images = torch.rand(BATCH, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad(), random_state_of_its_own(chance):
                # as in training: a view of such a tensor may fail where that of a contiguous one does not
                return run_trunk(module.to(memory_format=torch.channels_last),
                                 images.contiguous(memory_format=torch.channels_last), layer)
        except RequestError as error:
            raise RequestError(f"encoder {self.name}: {error}") from error
        except Exception as error:
            raise failure("encoder", self.name, error) from error

    def _require_size(self, module: nn.Module, image_size: int) -> None:
        sizes = getattr(module, "image_sizes", None)
        if sizes is None:
            return
        if not isinstance(sizes, Collection):
            raise RequestError(f"encoder {self.name}: image_sizes is a collection of whole numbers, such as (224, 256) "
                               f"or range(32, 1025, 32), and not {sizes!r}")
        if image_size not in sizes:
            raise RequestError(f"image_size {image_size}: encoder {self.name} takes "
                               f"{_listed(list(map(str, sizes)))} (its image_sizes)")

    def _require_layer(self, module: nn.Module, layer: str) -> None:
        names = [name for name, _ in module.named_modules() if name]
        if layer not in names:
            nearest = difflib.get_close_matches(layer, names, n=1)
            raise UnknownNameError(f"{self.name} has no layer", layer,
                                   [_listed([name for name, _ in module.named_children()]), OUTPUT], *nearest)


class _ReachedLayer(BaseException):
    """Ends a forward pass at the cut; no code of a module catches it."""

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features = features


def run_trunk(trunk: nn.Module, images: Tensor, layer: str) -> Tensor:
    """Normalised images ``(B, 3, S, S)`` to the features at the cut ``(B, C, h, w)``.

    Raises:
        RequestError: the forward pass does not call the layer.
    """
    if layer == OUTPUT:
        whole: Tensor = trunk(images)
        return whole
    handle = trunk.get_submodule(layer).register_forward_hook(_end)
    try:
        trunk(images)
    except _ReachedLayer as reached:
        features: Tensor = reached.features
        return features
    finally:
        handle.remove()
    raise RequestError(f"the layer {layer!r} is not called when the encoder is given images")


def run_taps(trunk: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """The features at each layer, with a pass for each."""
    return [run_trunk(trunk, images, layer) for layer in layers]


def _end(module: nn.Module, inputs: object, output: object) -> NoReturn:
    raise _ReachedLayer(output)


def digest_of(module: nn.Module) -> str:
    """The first 32 hexadecimal digits of a SHA-256 of all parameters and buffers, with their names and dtypes."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()], key=lambda each: each[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _is_three(values: Any) -> TypeGuard[Sequence[float]]:
    return (isinstance(values, Sequence) and len(values) == 3
            and all(isinstance(value, (int, float)) and math.isfinite(value) for value in values))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_LISTED]) + (", …" if len(names) > MOST_LISTED else "")
