"""Reads a spec file: from YAML to checked run configurations, or to a search.

May import ``config`` and what lies below it, and no other package of ``sweeps``. At import nothing here needs PyTorch,
MLflow or Optuna: a spec is read, checked and shown in well under a second.
"""
