"""A study as read from the tracking server: runs, groups of comparable runs, configurations and boards.

Imports ``stats`` within the report, and the packages below the report.
"""
