"""Tracked runs from request to result: train, evaluate, optimize, load.

May import every package but report, reconstruct, sweeps and cli.
"""
