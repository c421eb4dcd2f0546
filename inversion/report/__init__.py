"""The report of a study: tables, statistics, pictures and conclusions, from the tracking server alone."""
