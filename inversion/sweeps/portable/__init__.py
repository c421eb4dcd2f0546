"""A study as one file, to be opened on another machine: its runs in MLflow with their artifacts, and its queue."""

from __future__ import annotations
