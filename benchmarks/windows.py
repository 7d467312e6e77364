"""What segmenting in windows costs: peak memory of an 8K frame, and mIoU against the whole image on real frames.

    python -m benchmarks.windows -o benchmarks/results/windows.json

Memory is what one frame of 4320x7680 px, made of noise, adds to the peak of a fresh process that holds the model: the
bundled weights at the images' own size, 14 classes, in windows of 1024x1024 as by default, mask and confidence, in
torch and in OpenVINO, f32. It is the first frame of that process, so that what an engine sets up for it counts too.
The process may use `--threads` threads.

mIoU is that of frames of CamVid's fine labels in the data root, seen whole and in windows, at the model's own scale and
at the frames' own size, in torch. The bundled model was trained on these frames: compare the rows with each other only.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.measuring import peak_mib, print_peak
from roadseg.benching.loading import export_for_times, use_threads
from roadseg.benching.machine import describe_machine
from roadseg.evaluation.frames import ScoredFrames, open_scored
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.options import InferenceOptions
from roadseg.inference.package import read_model_file, write_model_file
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg.metrics.confusion import ConfusionMatrix
from roadseg.metrics.regions import labelled_miou

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "camvid_mixture.yaml"
FRAME_8K = (4320, 7680)

AT_MODEL_SCALE = {
    "whole": InferenceOptions(),
    "windows of 256x256": InferenceOptions(max_pixels=1, window=(256, 256)),
    "windows of 128x128": InferenceOptions(max_pixels=1, window=(128, 128)),
    "windows of 128x128, half overlapping": InferenceOptions(max_pixels=1, window=(128, 128), overlap=0.5),
}
AT_OWN_SIZE = {
    "whole": InferenceOptions(),
    "windows of 512x512": InferenceOptions(max_pixels=1, window=(512, 512)),
    "windows of 256x256": InferenceOptions(max_pixels=1, window=(256, 256)),
}
"""At the bundled model's 360 px these frames are 360x480, at their own size 720x960."""


def write_native(folder: Path) -> dict[str, Path]:
    """The bundled weights, to be used at the images' own size: as a model file, and exported for OpenVINO."""
    model = read_model_file(model_path(DEFAULT_MODEL))
    native = {"torch": folder / "native.safetensors", "openvino": folder / "native"}
    write_model_file(native["torch"], replace(model.header, short_side_px=None), dict(model.tensors))
    export_for_times(read_model_file(native["torch"]), "openvino", "f32", native["openvino"])
    return native


def print_frame_peak(engine: str, path: str, height: int, width: int, threads: int) -> None:
    """Print by how many MiB one frame raises this process's memory."""
    use_threads(threads)
    predictor = load_predictor(path, engine=engine, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    print_peak(lambda: predictor(image, confidence=True))


def measure_peaks(native: dict[str, Path], threads: int) -> dict[str, dict[str, int]]:
    """MiB above the model by engine and size of the frame, each in a process of its own."""
    peaks: dict[str, dict[str, int]] = {engine: {} for engine in native}
    for engine, path in native.items():
        for height, width in ((FRAME_8K[0] // 2, FRAME_8K[1]), FRAME_8K):
            arguments = (engine, str(path), str(height), str(width), str(threads))
            peaks[engine][f"{height}x{width}"] = round(peak_mib("benchmarks.windows", *arguments))
            print(f"{engine}, {height}x{width}: {peaks[engine][f'{height}x{width}']} MiB above the model", flush=True)
    return peaks


def compare(
    predictor: Predictor, frames: ScoredFrames, cases: dict[str, InferenceOptions]
) -> dict[str, dict[str, float]]:
    """The mIoU of each case, and the share of pixels of the same class as in the first one."""
    tables = {name: ConfusionMatrix(len(predictor.taxonomy), len(frames.label_sets)) for name in cases}
    agreeing, pixels = dict.fromkeys(cases, 0), 0
    for index in tqdm(range(len(frames)), unit="frame", disable=None):
        frame = frames.read(index)
        masks = {name: predictor(frame.image, options=options).mask for name, options in cases.items()}
        reference = next(iter(masks.values()))
        pixels += reference.size
        for name, mask in masks.items():
            tables[name].update(torch.from_numpy(mask), torch.from_numpy(frame.truth))
            agreeing[name] += int((mask == reference).sum())
    return {
        name: {"miou": labelled_miou(table.counts, frames.label_sets), "agreement": agreeing[name] / pixels}
        for name, table in tables.items()
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    print(f"\n{title:<40}{'mIoU':>9}{'points':>9}{'agreement':>11}")
    first = next(iter(rows.values()))["miou"]
    for name, row in rows.items():
        print(f"{name:<40}{row['miou']:9.4f}{100 * (row['miou'] - first):+9.2f}{row['agreement']:11.4f}")


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16, help="frames that are scored (default: 16); 0 leaves it out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the process that is measured")
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_frame_peak(*args.peak[:2], *map(int, args.peak[2:]))
        return
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "threads": args.threads,
        "options": InferenceOptions().to_dict(),
    }
    with tempfile.TemporaryDirectory() as folder:
        native = write_native(Path(folder))
        found["peak_mib_above_model"] = measure_peaks(native, args.threads)
        at_own_size = load_predictor(native["torch"], engine="torch", device="cpu")
    if args.frames:
        scaled = load_predictor(engine="torch", device="cpu")
        frames = open_scored(CONFIG, "val", scaled.taxonomy, args.frames)
        found["frames"] = len(frames)
        found["at_model_scale"] = compare(scaled, frames, AT_MODEL_SCALE)
        show(f"at {scaled.header.short_side_px} px, {len(frames)} frames", found["at_model_scale"])
        found["at_own_size"] = compare(at_own_size, frames, AT_OWN_SIZE)
        show(f"at the frames' own size, {len(frames)} frames", found["at_own_size"])
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
