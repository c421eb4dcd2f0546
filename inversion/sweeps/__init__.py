"""Studies from one spec file: reading it, a queue that survives crashes, workers, and the command ``inversion-sweep``.

May import every other package but ``cli``. Its own packages, from the bottom up: ``spec``, ``queue``, ``study``,
``workers``.
"""
