"""Whole studies from one spec file: validated configurations, a queue that survives crashes, workers, reports."""
