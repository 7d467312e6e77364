"""The notebooks run, show what they promise, and define nothing; their numbers are those of plain numpy."""

import ast
import json
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest

from tests.notebooks.execution import NOTEBOOKS, ROOT, errors, execute, outputs, pictures, read, text

NAMES = ["01_quickstart", "02_twins_vs_deeplabv3plus", "03_inside_twins", "04_your_own_data"]
NO_PICTURE_STD = 5

PROBES = {
    "01_quickstart": """
import json
counts = {c.name: int((result.mask == i).sum()) for i, c in enumerate(predictor.taxonomy.classes)}
print(json.dumps({"counts": counts, "pixels": image.shape[0] * image.shape[1], "same": bool(same)}))
""",
    "02_twins_vs_deeplabv3plus": """
import json
import numpy as np
own = {}
for name, predictor in zip(names, pair, strict=True):
    inter, union = np.zeros(len(taxonomy)), np.zeros(len(taxonomy))
    for i in range(len(frames)):
        frame = frames.read(i)
        mask, labelled = predictor(frame.image).mask, frame.truth != 255
        for c in range(len(taxonomy)):
            p, t = (mask == c) & labelled, frame.truth == c
            inter[c] += (p & t).sum()
            union[c] += (p | t).sum()
    own[name] = {taxonomy.names[c]: inter[c] / union[c] for c in range(len(taxonomy)) if union[c]}
shown = {name: {k: v for k, v in values["IoU"][name].items() if v is not None} for name in names}
print(json.dumps({"own": own, "shown": shown, "largest_set": max(map(len, frames.label_sets.members))}))
""",
    "03_inside_twins": """
import json
sums = [float(a.weights.sum(axis=(1, 2)).mean()) for a, _ in found.values()]
off = sum(float(p.detach().abs().sum()) for p in without_peg(network).backbone.pos_block.parameters())
allowed = (mask == truth)[truth < len(taxonomy)].mean()
print(json.dumps({
    "sums": sums, "peg": off, "fields": [float(f.sum()) for f in fields.values()],
    "right": float(allowed), "said": float(right[0]), "query": [int(v) for v in query_px], "size": list(truth.shape),
}))
""",
    "04_your_own_data": """
import json
inter, union = np.zeros(7), np.zeros(7)
for i in range(len(frames)):
    image, truth, _ = frames[i]
    mask = predictor(image).mask
    for c in range(7):
        p, t = (mask == c) & (truth != 255), truth == c
        inter[c] += (p & t).sum()
        union[c] += (p | t).sum()
names_of_masks = sorted(path.name for path in (folder / "masks").rglob("*.png"))
print(json.dumps({"miou": float(np.mean(inter[union > 0] / union[union > 0])), "masks": len(names_of_masks),
    "val": len(frames), "folder": str(folder)}))
""",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory):
    """All notebooks in their fast form, without CamVid: synthetic scenes, the same everywhere."""
    found = execute({path: PROBES[path.stem] for path in NOTEBOOKS}, data=tmp_path_factory.mktemp("none"), fast=True)
    return {path.stem: cells for path, cells in found.items()}


def code_of(path):
    """A notebook's code without IPython's own lines, by cell."""
    return ["\n".join("pass" if line.startswith("%") else line for line in cell.source.splitlines())
            for cell in read(path).cells if cell.cell_type == "code"]  # fmt: skip


def probed(cells):
    return json.loads(text(cells[-2]))


def check_figures(cells):
    """Every cell that calls a drawing function shows pictures; returns how many cells do."""
    drawing = [c for c in cells if c.cell_type == "code" and re.search(r"\bdraw_\w+\(", c.source)]
    for cell in drawing:
        assert pictures(cell), f"{cell.id} shows no picture"
        assert all(p.std() > NO_PICTURE_STD for p in pictures(cell)), f"{cell.id} shows an empty picture"
    return len(drawing)


def check_run(cells):
    found = errors(cells)
    assert not found, found[0]
    return check_figures(cells)


def test_the_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_nothing_that_was_run_is_kept(path: Path):
    notebook = read(path)
    assert notebook.nbformat == 4 and notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None and not cell.metadata
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z]+(-[a-z]+)+", name) for name in ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_nothing_is_defined(path: Path):
    forbidden = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    for code in code_of(path):
        assert not [node for node in ast.walk(ast.parse(code)) if isinstance(node, forbidden)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_imports_are_ours_or_declared(path: Path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(x for extra in project["optional-dependencies"].values() for x in extra)]
    declared = {re.split(r"[\[<>=;,]", line)[0].strip().lower() for line in lines}
    imported = {
        name.partition(".")[0]
        for code in code_of(path)
        for node in ast.walk(ast.parse(code))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "roadseg" in imported
    distributions = packages_distributions()
    for name in imported - set(sys.stdlib_module_names) - {"roadseg"}:
        assert {d.lower() for d in distributions[name]} & declared, f"{name} is in no extra"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_no_path_is_absolute(path: Path):
    for cell in read(path).cells:
        assert not re.search(r"(?<![\w.:/])/(home|root|work|tmp|mnt|data|usr)\b", cell.source), cell.id


def test_the_quickstart_counts_the_masks_pixels(executed):
    cells = executed["01_quickstart"]
    assert check_run(cells) == 2
    found = probed(cells)
    assert found["same"] and sum(found["counts"].values()) == found["pixels"]
    printed = next(text(c) for c in cells if c.id == "quickstart-table")
    for name, count in found["counts"].items():
        row = re.search(rf"^{name} +([\d.]+)%", printed, re.M)
        assert (row is not None) == (count > 0)
        assert row is None or float(row[1]) == pytest.approx(100 * count / found["pixels"], abs=0.006)


def test_the_comparisons_bars_are_what_numpy_counts(executed):
    cells = executed["02_twins_vs_deeplabv3plus"]
    assert check_run(cells) == 3
    found = probed(cells)
    assert found["largest_set"] == 1  # synthetic labels name one class each, so that plain IoU is the reference
    for name, own in found["own"].items():
        assert found["shown"][name] == pytest.approx(own, abs=1e-12)
        assert len(own) > 5
    summary = next(text(c) for c in cells if c.id == "compare-summary")
    means = [np.mean(list(own.values())) for own in found["own"].values()]
    assert [float(v) for v in re.search(r"^mIoU +([\d.]+) +([\d.]+)", summary, re.M).groups()] == pytest.approx(
        means, abs=0.0006
    )


def test_inside_shows_weights_that_sum_to_one_and_fields_too(executed):
    cells = executed["03_inside_twins"]
    assert check_run(cells) == 4
    found = probed(cells)
    assert found["sums"] == pytest.approx([1] * 4, abs=1e-4) and found["fields"] == pytest.approx([1] * 4)
    assert found["peg"] == 0 and found["said"] == pytest.approx(found["right"])
    assert all(0 <= place < side for place, side in zip(found["query"], found["size"], strict=True))


def test_your_own_data_finds_the_broken_mask_and_scores_what_numpy_scores(executed):
    cells = executed["04_your_own_data"]
    assert check_run(cells) == 2
    said = {cell.id: text(cell) for cell in cells if cell.cell_type == "code"}
    assert "unreadable-mask" in said["own-break"] and "exit status 1" in said["own-break"]
    assert "unreadable-mask" not in said["own-mend"]
    assert "exit status 0" in said["own-cover"] and "exit status 0" in said["own-evaluate"]
    found = probed(cells)
    assert found["masks"] == found["val"] == 2
    assert float(re.search(r"^mIoU +([\d.]+)", said["own-evaluate"], re.M)[1]) == pytest.approx(found["miou"], abs=6e-5)
    assert not Path(found["folder"]).exists()  # nothing is left behind
    assert not [o for c in cells for o in outputs(c, "stream") if "Traceback" in o.text]


def test_nothing_warns_or_advertises_and_what_is_said_is_still_said(executed):
    said = {
        name: "".join(o.text for c in cells for o in outputs(c, "stream") if o.name == "stderr")
        for name, cells in executed.items()
    }
    for name, lines in said.items():
        assert not re.search(r"Warning|deprecated|Tip:|litlogger", lines), f"{name}: {lines}"
    assert "research use only" in said["01_quickstart"] and "started from roadseg-nano" in said["04_your_own_data"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_the_full_form_runs_on_synthetic_scenes(path: Path, tmp_path: Path):
    (cells,) = execute({path: None}, data=tmp_path, fast=False).values()
    assert check_run(cells) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", NOTEBOOKS[:3], ids=NAMES[:3])
def test_the_full_form_runs_on_camvid(path: Path, real_data: Path):
    (cells,) = execute({path: None}, data=os.path.abspath(real_data), fast=False).values()
    assert check_run(cells) >= 2
    assert "synthetic-" not in "".join(map(text, (c for c in cells if c.cell_type == "code")))
