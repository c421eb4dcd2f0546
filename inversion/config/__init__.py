"""The configuration of a run: parameters, resolution of ``auto``, document. May import ``losses`` and below.

Only ``device`` imports PyTorch.
"""
