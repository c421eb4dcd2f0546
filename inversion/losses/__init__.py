"""What training minimises: mean squared error and LPIPS, in the space that the protocol says. May import models.

This module and ``lpips_weights`` stay free of PyTorch.
"""
