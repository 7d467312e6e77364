"""How long the audit of many small frames takes, and how its memory grows.

    python -m benchmarks.audit -o benchmarks/results/audit.json

Frames of 48x32 px in CamVid's layout, an image and a mask each, 500 different scenes under noise, 9 of 10 for training.
Each number of frames is indexed and audited in a process of its own. Memory is the peak of that process; the workers
are counted with the peak of the largest.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from roadseg.audit import audit
from roadseg.data.datasets.camvid import open_camvid
from roadseg.data.mapped import MappedFrames
from roadseg.data.synthetic import Label, render_scene
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SIZE = (32, 48)
SCENES = 500
FRAMES = (1_000, 100_000)
WORKERS = 2
_BOTH = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # this process, and the workers that have ended
CAMVID_OF = {
    Label.ROAD: 3, Label.LANE_MARKING: 3, Label.SIDEWALK: 4, Label.BARRIER: 7, Label.POLE: 2, Label.STREET_LIGHT: 2,
    Label.TRAFFIC_SIGN: 6, Label.TRAFFIC_LIGHT: 6, Label.BUILDING: 1, Label.VEGETATION: 5, Label.TERRAIN: 5,
    Label.SKY: 0, Label.VEHICLE: 8,
}  # fmt: skip


def write_frames(root: Path, count: int) -> None:
    """Frames whose pictures all differ; drives of 100 frames, each in one split."""
    lookup = np.zeros(256, np.uint8)
    lookup[list(CAMVID_OF)] = list(CAMVID_OF.values())
    scenes = [render_scene(seed, SIZE) for seed in range(SCENES)]
    for folder in ("train", "trainannot", "val", "valannot"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        scene, split = scenes[i % SCENES], "val" if i // 100 % 10 == 9 else "train"
        clouds = cv2.resize(rng.integers(-90, 90, (8, 12, 3)).astype(np.float32), SIZE[::-1])
        image = np.clip(scene.image + clouds, 0, 255).astype(np.uint8)
        mask = lookup[scene.mask]
        mask[20:22, 4:12] = 9, 9, 9, 9, 10, 10, 10, 11
        name = f"D{i // 100:04d}_{i:06d}.png"
        cv2.imwrite(str(root / split / name), image)
        cv2.imwrite(str(root / f"{split}annot" / name), mask)


def measure(root: Path) -> dict[str, float]:
    """Seconds of indexing and auditing, and peak memory in MiB; of a process that did nothing else."""
    start = time.perf_counter()
    source = open_camvid(root)
    taxonomy = load_taxonomy("camvid11")
    sets = LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values())
    is_val = np.array([frame.split == "val" for frame in source.frames])
    splits = {
        split: [MappedFrames(source.take(np.flatnonzero(is_val == (split == "val"))), sets)]
        for split in ("train", "val")
    }
    indexed = time.perf_counter()
    report = audit(splits, workers=WORKERS, progress=False)
    return {
        "frames": len(source),
        "files": 2 * len(source),
        "indexing_s": round(indexed - start, 2),
        "audit_s": round(time.perf_counter() - indexed, 2),
        "cpu_s": round(sum(sum(resource.getrusage(who)[:2]) for who in _BOTH), 2),
        "peak_mib": peak_mib(),
        "peak_of_a_worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "errors": report.errors,
        "warnings": report.warnings,
    }


def peak_mib() -> int:
    """Largest resident memory since this program began; `ru_maxrss` would count the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) // 1024


def measure_apart(root: Path) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.audit", "--measure", str(root)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--frames", type=int, nargs=2, default=FRAMES)
    parser.add_argument("--note", default="", help="kept in the JSON, for example that the machine was shared")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    from roadseg.benching.machine import describe_machine  # imports torch, which the measured process is to be without

    rows = []
    for count in arguments.frames:
        with tempfile.TemporaryDirectory() as folder:
            write_frames(Path(folder) / "camvid", count)
            rows.append(measure_apart(Path(folder) / "camvid"))
        print(rows[-1], flush=True)
    few, many = rows
    growth = many["peak_mib"] - few["peak_mib"]
    growth += WORKERS * (many["peak_of_a_worker_mib"] - few["peak_of_a_worker_mib"])
    result = {
        "machine": describe_machine(),
        "note": arguments.note,
        "image": list(SIZE),
        "workers": WORKERS,
        "runs": rows,
        "memory_growth_mib": growth,
        "seconds": round(many["indexing_s"] + many["audit_s"], 2),
    }
    print(f"memory grew by {growth} MiB, {result['seconds']} s for {many['files']:.0f} files")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
