"""The notebooks run from top to bottom, here with few steps on the tiny scenes, and are stored as they ran."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

TINY = """
import dataclasses
import jax
from vlm_jax.config import transform
from vlm_jax.data.source import Tfds

def tiny(node):
    return dataclasses.replace(node, config="tiny") if isinstance(node, Tfds) else node

full, experiment = transform(full, tiny), transform(experiment, tiny)
"""


def shortened(notebook):
    """The notebook with 5 steps and the tiny scenes: the same cells, but for one number and one cell more."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code" and "num_steps = " in cell.source:
            (line,) = [line for line in cell.source.split("\n") if line.startswith("num_steps = ")]
            cell.source = cell.source.replace(line, "num_steps = 5")
            cells.append(nbformat.v4.new_code_cell(TINY))
    assert len(cells) == len(notebook.cells) + 1
    notebook.cells = cells
    return notebook


def test_there_are_notebooks():
    assert FOLDER / "00_first_caption.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path):
    notebook = shortened(nbformat.read(path, 4))
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.get("text", "") for output in outputs)
    assert "parameters, from step 0" in printed
    assert "of 32 captions" in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran_and_small(path):
    assert path.stat().st_size < 300_000
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
