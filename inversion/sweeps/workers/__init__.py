"""Who does the runs: the worker, as local processes or on Ray, and the driver that starts workers and shows progress.

May import everything else of ``sweeps``, and the packages below.
"""
