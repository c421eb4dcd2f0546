"""The tables of the report, and the interface of published studies.

Imports ``data`` and ``stats`` within the report.
"""
