"""The queue of a study in Optuna's storage: entries, claims, leases with heartbeats, recovery of dead workers' runs.

May import the packages below ``sweeps``, and nothing else of ``sweeps``.
"""
