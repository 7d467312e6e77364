"""What imports what: the data flow's arrows point one way, and the core stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import roadseg
from roadseg.errors import MissingExtraError, name_missing_extra

ROOT = Path(roadseg.__file__).parents[1]


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded by a fresh interpreter that ran `code`."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return {line.partition(".")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import roadseg; roadseg.load_taxonomy; roadseg.RoadsegError",
            {"torch", "lightning", "albumentations", "cv2"},
        ),
        ("import roadseg; roadseg.load_predictor", {"torch", "lightning", "albumentations", "timm"}),
        (
            "import roadseg.inference.segmenting.run, roadseg.inference.segmenting.prelabels",
            {"torch", "lightning", "albumentations", "pycocotools"},
        ),
        ("import roadseg.inference.package", {"torch", "lightning", "albumentations"}),
        ("import roadseg.inference.torch_engine, roadseg.models.zoo", {"lightning", "albumentations"}),
        (
            "import roadseg.data.synthetic; from roadseg.data import open_frames",
            {"torch", "lightning", "albumentations"},
        ),
        ("from roadseg.cli import _parser; _parser().format_help()", {"torch", "lightning", "numpy", "cv2"}),
    ],
)
def test_what_an_import_does_not_load(code, absent):
    assert modules_after(code) & absent == set()


FORBIDDEN = {
    "inference": (
        "roadseg.data",
        "roadseg.task",
        "roadseg.callbacks",
        "roadseg.training",
        "roadseg_service",
        "lightning",
    ),
    "models": ("roadseg.data", "roadseg.inference", "roadseg.task", "roadseg_service", "lightning", "albumentations"),
    "data": ("roadseg.task", "roadseg.inference", "roadseg.training", "roadseg_service"),
    "": ("roadseg_service",),
}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_arrows_point_one_way(layer):
    for path in (ROOT / "roadseg" / layer).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong = [n for n in names for f in FORBIDDEN[layer] if n == f or n.startswith(f"{f}.")]
            assert wrong == [], f"{path} imports {wrong}"


def test_a_missing_extra_is_named(monkeypatch):
    missing = ModuleNotFoundError("No module named 'timm.models'", name="timm.models")
    with pytest.raises(ModuleNotFoundError, match="timm.models") as caught, name_missing_extra("the thing"):
        raise missing  # timm is installed: another version of it, perhaps, but no extra would help
    assert not isinstance(caught.value, MissingExtraError)
    monkeypatch.setitem(sys.modules, "timm", None)
    message = (
        r"the thing needs the package 'timm', which is not installed; .* pip install -c constraints.txt '\.\[torch\]'"
    )
    with pytest.raises(MissingExtraError, match=message), name_missing_extra("the thing"):
        raise missing
    with pytest.raises(ModuleNotFoundError, match="own_code"):
        with name_missing_extra("the thing"):
            raise ModuleNotFoundError("No module named 'own_code'", name="own_code")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import roadseg; roadseg.build_model", ".[torch]"),
        ("import roadseg.cli; raise SystemExit(roadseg.cli.main(['fit', '-c', 'x.yaml']))", ".[t"),
        ("import roadseg.cli; raise SystemExit(roadseg.cli.main(['serve', '--model', 'x']))", ".[serve]"),
    ],
)
def test_without_the_extra_the_error_says_which(code, message):
    """The packages are hidden, as if they had not been installed."""
    hide = "import sys\nfor name in ('torch', 'lightning', 'jsonargparse', 'uvicorn', 'fastapi', 'starlette'): "
    hide += "sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "pip install -c constraints.txt '.[" in last and message in last


def test_unknown_public_names_are_listed():
    with pytest.raises(AttributeError, match=r"no attribute 'load_model'; it has .*load_predictor"):
        roadseg.load_model  # noqa: B018
