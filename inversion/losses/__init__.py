"""What training minimises: mean squared error and LPIPS, in the space that the protocol says."""

from inversion.losses.perceptual import LPIPS
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss, Targets, make_targets

__all__ = ["LPIPS", "LossTerms", "ReconstructionLoss", "Targets", "make_targets"]
