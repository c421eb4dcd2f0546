"""The model that a run logs: MLflow runs this file to load it (``mlflow.pyfunc.load_model``, ``mlflow models serve``).

Models from code: https://mlflow.org/docs/latest/ml/model/models-from-code/. Nothing is pickled; weights are
safetensors, everything else is JSON.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

BATCH = 8


class ReconstructionModel(PythonModel):  # type: ignore[misc]
    """Images ``float32 (N, 3, S, S)`` in [0, 1] to reconstructions of the same shape and range."""

    def load_context(self, context: Any) -> None:
        from pathlib import Path

        from inversion.packing import load_packed

        self.model = load_packed(Path(context.artifacts["packed"]))

    def predict(self, context: Any, model_input: NDArray[np.float32],
                params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        import torch

        images = torch.as_tensor(np.asarray(model_input, dtype=np.float32))
        with torch.no_grad():
            batches = [self.model(batch).float() for batch in images.split(BATCH)]
        result: NDArray[np.float32] = torch.cat(batches).numpy()
        return result


mlflow.models.set_model(ReconstructionModel())
