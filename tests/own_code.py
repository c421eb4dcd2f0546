"""What tests of parts in files of the user's own share: another machine, an interrupted training, and trust."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

import inversion as inv
from inversion.errors import InterruptedRunError
from inversion.models import part_files
from inversion.models.part_files import UntrustedCodeError
from inversion.training.callbacks import CallbackList


def forget(folder: Path, *names: str) -> None:
    """Forgets files of a folder, as on another machine: only the store or the queue has them."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "data" / "code")
    part_files._known.clear()


@contextmanager
def interruption() -> Iterator[None]:
    """Ends trainings after their first epoch."""
    def stop(self: CallbackList, epoch: int, *_: object) -> None:
        raise InterruptedRunError("by the test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CallbackList, "on_epoch", stop)
        yield


def require_trust_everywhere(inversion: Callable[..., Any], run_id: str, picture: Path, code: str) -> None:
    """Every use of a run whose files are not on this machine is refused without trust in its ``code``, and works with
    it; a served model, which was chosen by whoever serves it, gives the same.
    """
    for words in (("reconstruct", run_id, str(picture), "--output", "out2"), ("evaluate", run_id)):
        refusal = inversion(*words).refused()
        assert f"needs the code of {code}" in refusal
        assert "add --trust-code" in refusal
    with pytest.raises(UntrustedCodeError):
        inv.load(run_id)
    images = np.full((1, 3, 32, 32), 0.5, np.float32)
    served = mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict(images)
    part_files._known.clear()
    assert inversion("reconstruct", run_id, str(picture), "--output", "out2", "--trust-code").code == 0
    part_files._known.clear()
    outcome = inversion("evaluate", run_id, "--trust-code", "--vgg-weights", "off")
    assert "all 3 images score exactly as logged" in outcome.out, outcome.err
    part_files._known.clear()
    made = inv.load(run_id, trust_code=True)(torch.from_numpy(images)).detach().numpy()
    assert served == pytest.approx(made, abs=1e-6)
