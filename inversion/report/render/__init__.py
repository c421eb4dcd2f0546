"""The report as files: an HTML page with charts and pictures, Markdown, CSV and Parquet.

Imports ``tables``, ``data`` and ``stats`` within the report.
"""
