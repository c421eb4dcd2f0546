"""The notebook of the documentation runs as it stands there."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


@pytest.mark.acceptance
def test_the_notebook_runs_from_top_to_bottom(workplace: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(workplace)}}).execute()
    outputs = {cell["id"]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    shown = [output for cell in outputs.values() for output in cell if output.output_type == "execute_result"]
    assert any("image/png" in output.data for output in shown)
    assert any("vgg16:block1+wavelet" in output.data.get("text/html", "") for output in shown)
