"""Statistics of per-image scores: seed noise, confidence intervals and paired comparisons.

Imports NumPy, pandas and SciPy only; knows nothing of studies or reports.
"""
