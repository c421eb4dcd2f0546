"""Training, scoring and measuring a model. Knows nothing of MLflow: results go to callbacks."""
