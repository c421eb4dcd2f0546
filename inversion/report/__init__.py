"""The report of a study, from the tracking server alone: conclusions, tables, charts and pictures.

Its rooms, each of which imports only those before it: ``stats``, ``data``, ``tables``, ``published``, ``render``. The
modules here (``build``, ``conclusions``, ``leaderboard``) import them all, and the packages below the report.
"""
