"""What a run is asked to do: its parameters, and the values that ``auto`` stands for. May import ``losses`` and below.

Only ``device`` imports PyTorch.
"""
