"""What it takes to serve an exported model without torch: the installed size, the start, and the memory.

    python -m benchmarks.slim_install -o benchmarks/results/slim_install.json

For each runtime a fresh virtual environment gets roadseg's core and that runtime, nothing else, in the versions of
constraints.txt. The bundled model, exported by the interpreter that runs this script, is then loaded there in a fresh
process. Needs the package index, minutes, and some hundred MB of disk for a while.

size_mb is what the environment grew by when roadseg and the runtime were installed, in 10^6 bytes of files, roadseg's
own included. first_mask_s is from the start of the process to the first mask of one 720x1280 image, already in memory
as an array; it is the median of several processes, after one whose time is thrown away because it reads the files from
disk.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from roadseg.benching.machine import describe_machine, is_busy
from roadseg.inference.bundled import DEFAULT_MODEL, model_path

ROOT = Path(__file__).resolve().parents[1]
SIZE = (720, 1280)

RUNTIMES = {
    # package: format of its artefacts
    "onnxruntime": "onnx",
    "openvino": "openvino",
}

START = """
import sys, time
import numpy as np
import roadseg
from roadseg.benching import memory
predictor = roadseg.load_predictor(sys.argv[1])
loaded = memory.resident_mib()
image = np.random.default_rng(0).integers(0, 256, (int(sys.argv[2]), int(sys.argv[3]), 3), dtype=np.uint8)
mask = predictor(image).mask
done = time.time()
assert mask.shape == image.shape[:2]
heavy = sorted({"torch", "lightning", "albumentations", "timm", "onnx"} & set(sys.modules))
import json
print(json.dumps({"done": done, "loaded_mib": loaded, "resident_mib": memory.resident_mib(),
                  "peak_mib": memory.peak_mib(), "heavy": heavy, "engine": predictor.engine.name}))
"""


def bytes_of_files(folder: Path) -> int:
    """The sum of the sizes of all files below a folder; links are not followed, and not counted."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def install(folder: Path, runtime: str) -> dict[str, Any]:
    """Make an environment with the core and one runtime; says what it holds and how large it became."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    before = bytes_of_files(folder)
    begun = time.perf_counter()
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(ROOT), runtime]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - begun
    packages = json.loads(subprocess.run([*pip, "list", "--format=json"], capture_output=True, check=True).stdout)
    versions = {package["name"]: package["version"] for package in packages if package["name"] != "pip"}
    if "torch" in versions:
        raise SystemExit(f"{runtime} has brought torch: {versions}")
    return {
        "size_mb": round((bytes_of_files(folder) - before) / 1e6, 1),
        "install_s": round(seconds, 1),
        "packages": versions,
    }


def start(python: Path, artefact: Path) -> dict[str, Any]:
    """Load and segment in a fresh process of an environment.

    Raises:
        SystemExit: when what is heavy was imported.
    """
    command = [str(python), "-c", START, str(artefact), *map(str, SIZE)]
    begun = time.time()
    # In a folder of its own, so that the installed package is imported and not the checkout.
    done = subprocess.run(command, capture_output=True, text=True, cwd=artefact.parent, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{artefact.name} does not run without torch:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["heavy"]:
        raise SystemExit(f"{artefact.name}: {', '.join(found['heavy'])} was imported")
    return {"first_mask_s": found.pop("done") - begun, **found}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of several starts."""
    numbers = ("first_mask_s", "loaded_mib", "resident_mib", "peak_mib")
    return {
        "engine": runs[0]["engine"],
        "starts": len(runs),
        **{name: round(statistics.median(run[name] for run in runs), 3) for name in numbers},
    }


def export(form: str, folder: Path) -> Path:
    """The bundled model as an artefact in float32."""
    from roadseg.inference.export.write import export_model
    from roadseg.inference.package import read_model_file

    artefact = folder / form
    export_model(read_model_file(model_path(DEFAULT_MODEL)), form, "f32", artefact)
    return artefact


def measure(runtime: str, starts: int) -> dict[str, Any]:
    """One runtime."""
    with tempfile.TemporaryDirectory(prefix="roadseg-slim-") as folder:
        artefact = export(RUNTIMES[runtime], Path(folder))
        environment = Path(folder) / "venv"
        installed = install(environment, runtime)
        runs = [start(environment / "bin" / "python", artefact) for _ in range(starts + 1)]
        artefact_mb = round(bytes_of_files(artefact) / 1e6, 1)
    return {"runtime": runtime, "artefact_mb": artefact_mb, **installed, **summary(runs[1:])}


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--runtime", choices=RUNTIMES, nargs="+", default=list(RUNTIMES), help="(default: all)")
    parser.add_argument("--starts", type=int, default=5, help="processes that are timed (default: 5)")
    args = parser.parse_args()
    machine = describe_machine()
    rows = []
    for runtime in args.runtime:
        rows.append(measure(runtime, args.starts))
        found = rows[-1]
        print(
            f"{runtime}: {found['size_mb']} MB installed, first mask after {found['first_mask_s']:.2f} s, "
            f"{found['resident_mib']:.0f} MiB resident, {found['peak_mib']:.0f} MiB at its peak",
            file=sys.stdout,
            flush=True,
        )
    document = {"machine": machine, "busy": is_busy(machine), "model": DEFAULT_MODEL, "image": SIZE, "rows": rows}
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
