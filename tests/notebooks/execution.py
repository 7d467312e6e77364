"""Running notebooks in a kernel of their own."""

import base64
import io
import os
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 500


def read(path):
    return nbformat.read(path, as_version=4)


def execute(probes, *, data, fast):
    """Execute notebooks one after the other in one kernel, whose imports they share and whose names they do not.

    Args:
        probes: path of a notebook -> code that is run before its last cell, or None.
        data: the data root that they see.
        fast: whether in the fast form.

    Returns:
        Path -> executed cells, the probe's last.
    """
    parts = {}
    for path, probe in probes.items():
        cells = read(path).cells
        found = [new_code_cell(probe)] if probe else []
        parts[path] = [new_code_cell("%reset -f"), *cells[:-1], *found, cells[-1]]
    whole = new_notebook(cells=[cell for cells in parts.values() for cell in cells])
    paths = [str(ROOT), str(ROOT / "service"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **{key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "ROADSEG_NOTEBOOK_FAST")},
        "PYTHONPATH": os.pathsep.join(paths),
        "ROADSEG_DATA": str(data),
        "ROADSEG_NOTEBOOK_FAST": "1" if fast else "0",
        "TQDM_DISABLE": "1",
    }
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(whole, timeout=TIMEOUT_S, kernel_name="python3", allow_errors=True, resources=place).execute(env=env)
    executed = iter(whole.cells)
    return {path: [next(executed) for _ in cells] for path, cells in parts.items()}


def outputs(cell, kind):
    return [output for output in cell.get("outputs", []) if output.output_type == kind]


def text(cell):
    return "".join(output.text for output in outputs(cell, "stream") if output.name == "stdout")


def errors(cells):
    return [f"{e.ename}: {e.evalue}\n" + "\n".join(e.traceback) for c in cells for e in outputs(c, "error")]


def pictures(cell):
    """The PNGs that a cell shows, as arrays."""
    shown = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in shown]
