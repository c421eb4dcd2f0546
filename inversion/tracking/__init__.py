"""Everything about MLflow: stores, runs and who owns them, artifacts, results, studies.

May import ``config``, ``data``, ``models`` and ``training``, which do not import MLflow.
"""
