"""Random weights of the encoders in the catalog, with the initialisation of the original models.

Each tensor has its own generator, seeded from the seed and the tensor's name. So the weights of a layer do not depend
on the cut, the image size, earlier random numbers or the versions of torchvision and timm, and only the tensors before
the cut are drawn. Changes here change results: increment ``weights.RANDOM_RECIPE`` with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inversion.seeds import generator


@contextmanager
def random_state_of_its_own(seed: int) -> Iterator[None]:
    """Seeds PyTorch's global generator, which the initialisation of models uses, and restores its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the GPUs' generators too, and they are not restored.
        torch.default_generator.manual_seed(seed)
        yield


def random_state(trunk: nn.Module, encoder: str, seed: int) -> dict[str, Tensor]:
    """A random state dict for ``trunk``, which may be on the meta device.

    The initialisation is that of ``torchvision.models.VGG`` and ``ResNet`` and of timm's ``VisionTransformer`` and
    ``PyramidVisionTransformerV2``: convolutions by He et al. (2015) in fan-out mode, except ViT's patch projection,
    which has PyTorch's default; linear layers and position embeddings truncated normal with standard deviation
    0.02; norms with weight 1 and bias 0.
    """
    state = {}
    for prefix, module in trunk.named_modules():
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, like in tensors:
            path = f"{prefix}.{name}".lstrip(".")
            tensor = torch.zeros(like.shape, dtype=like.dtype, device="cpu")
            _fill(tensor, name, module, encoder, generator(seed, f"{encoder}/{path}"))
            state[path] = tensor
    return state


def _fill(tensor: Tensor, name: str, module: nn.Module, encoder: str, chance: torch.Generator) -> None:
    if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
        tensor.fill_(name in ("weight", "running_var"))
    elif isinstance(module, nn.Conv2d):
        _fill_convolution(tensor, name, module, encoder, chance)
    elif isinstance(module, nn.Linear):
        if name == "weight":
            nn.init.trunc_normal_(tensor, std=0.02, generator=chance)
    elif name in _TOKEN_STD:
        nn.init.trunc_normal_(tensor, std=_TOKEN_STD[name], generator=chance)
    else:  # a new kind of parameter, in a new model or a new version of one
        raise ValueError(f"{encoder}: no rule for the random weights of {type(module).__name__}.{name}")


_TOKEN_STD = {"pos_embed": 0.02, "cls_token": 1e-6}


def _fill_convolution(tensor: Tensor, name: str, module: nn.Conv2d, encoder: str, chance: torch.Generator) -> None:
    window = math.prod(module.kernel_size)
    if encoder == "vit_small":
        bound = 1 / math.sqrt(module.in_channels * window)
        tensor.uniform_(-bound, bound, generator=chance)
    elif name == "weight":
        fan_out = module.out_channels * window / module.groups
        tensor.normal_(0, math.sqrt(2 / fan_out), generator=chance)
