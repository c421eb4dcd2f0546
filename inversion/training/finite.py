"""Numbers that are not finite: found on the device, without making the host wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inversion.losses.reconstruction import LossTerms


@dataclass(frozen=True)
class Fault:
    """The first step whose numbers were not finite, counted from 1, and what of it was not."""

    step: int
    what: str


class FiniteCheck:
    """Keeps a step with a loss or gradient that is not finite, and every step after it, from changing anything.

    The optimizer, which has to be a fused one, leaves weights and its own state alone where ``found_inf`` says so, as
    with a gradient scaler; BatchNorm's statistics are put back. So the state is that of the last good step, whenever
    the host comes to read what happened.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter],
                 statistics: Sequence[Tensor], device: torch.device) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self._statistics = statistics
        self._fault = torch.zeros(4, dtype=torch.float64, device=device)

    @property
    def broken(self) -> Tensor:
        """Whether there was such a step: a tensor on the device."""
        return self._fault[0] > 0

    def look(self, step: int, terms: LossTerms, before: Sequence[Tensor]) -> None:
        """After the backward pass of a step; ``before`` are BatchNorm's statistics from before its forward pass.

        Looks at the gradients too: a finite loss can have a NaN gradient, and one step with it ruins the run.
        """
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        perceptual = torch.zeros_like(terms.mse) if terms.lpips is None else terms.lpips
        values = torch.stack([terms.total, terms.mse, perceptual, norm.to(terms.mse.dtype)]).isfinite().logical_not()
        found = torch.stack([(values[0] | values[3]).double(), torch.full_like(self._fault[0], step),
                             values[1].double(), values[2].double()])
        self._fault = torch.where(self.broken, self._fault, found)
        broken = self.broken
        for buffer, good in zip(self._statistics, before, strict=True):
            buffer.copy_(torch.where(broken, good, buffer))
        self._optimizer.found_inf = broken.float()  # type: ignore[attr-defined]

    def read(self) -> Fault | None:
        """What happened, or None; waits for the device. The gradients named are those of the last step."""
        broken, step, mse, lpips = self._fault.tolist()
        if not broken:
            return None
        what = [name for name, bad in (("mse", mse), ("lpips", lpips)) if bad]
        what = what or [f"gradient of {name}" for name, parameter in self._parameters.items()
                        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()][:1]
        return Fault(int(step), " and ".join(what) or "the gradient norm")
