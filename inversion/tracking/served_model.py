"""The model that a run logs: MLflow runs this file to load it (``mlflow.pyfunc.load_model``, ``mlflow models serve``).

Models from code: https://mlflow.org/docs/latest/ml/model/models-from-code/. Nothing is pickled; weights are
safetensors, everything else is JSON.
"""

from __future__ import annotations

import warnings
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

BATCH = 8


with warnings.catch_warnings(record=True):  # MLflow advises type hints; a filter would not do, it sets its own

    class ReconstructionModel(PythonModel):
        """Images ``float32 (N, 3, S, S)`` in [0, 1] to reconstructions of the same shape and range."""

        def load_context(self, context: Any) -> None:
            from pathlib import Path

            from inversion.models.packing import load_packed

            # whoever loads this model executes the code that was logged with it, this file first
            self.model = load_packed(Path(context.artifacts["packed"]), trust_code=True)

        # Without types: MLflow takes them for a schema of its own and warns that arrays are not in it.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            import torch

            images = torch.as_tensor(np.asarray(model_input, dtype=np.float32))
            if len(images) and not (images.min() >= 0 and images.max() <= 1):  # NaN is in no range either
                raise MlflowException("images are float32 in [0, 1], and these are not: divide 8-bit pixels by 255",
                                      INVALID_PARAMETER_VALUE)
            with torch.no_grad():
                batches = [self.model(batch).float() for batch in images.split(BATCH)]
            return torch.cat(batches).numpy()


mlflow.models.set_model(ReconstructionModel())
