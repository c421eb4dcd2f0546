"""MLflow: the only package of ``inversion`` that knows it."""
