"""A study set up from a spec: the Optuna study, its parent run in MLflow, and what keeps the two consistent.

May import ``sweeps.spec``, ``sweeps.queue`` and the packages below ``sweeps``.
"""
