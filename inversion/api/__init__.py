"""Feature-inversion studies from Python: ``import inversion as inv``, then ``inv.train``, ``inv.sweep``, ``inv.study``.

The functions take the parameters of the commands, raise the same errors, and return runs and studies whose results are
pandas tables and torch modules. They are imported when they are first used: ``import inversion`` stays fast.
"""

from __future__ import annotations
