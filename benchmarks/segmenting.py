"""What `roadseg segment` adds to the network: throughput on a folder, and time outside the network for one frame.

    python -m benchmarks.segmenting -o benchmarks/results/segmenting.json

Networks run in OpenVINO in float32: the bundled model, and Twins-SVT-S with the folded decoder at the images' own size,
19 classes, random weights. A folder of JPEGs (procedural scenes with a camera's noise, 20 that repeat) is segmented by
the first as `roadseg segment` does it, in turn with the same predictor fed from memory, to the same figures: mask and
mean confidence. Then single 1920x1080 frames go from JPEG bytes to the bytes of a PNG mask, one step after the other,
by both in turn. The network's part is what the engine takes; resizing and choosing classes count to it only as far as
they are in its graph. Random weights give ragged masks, which take longer to write than real ones: see `png_kib`.

`--quick` only tries the script.
"""

import argparse
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.random_model import write_random_model
from roadseg.benching.loading import export_for_times
from roadseg.benching.machine import describe_machine, is_busy
from roadseg.benching.timing import interleaved_times
from roadseg.data.synthetic import render_scene
from roadseg.images import decode_image
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.engines import Engine, Output
from roadseg.inference.package import read_model_file
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg.inference.segmenting.manifest import make_header
from roadseg.inference.segmenting.pipeline import Pipeline
from roadseg.inference.segmenting.plan import plan_files
from roadseg.inference.segmenting.run import Run

JPEG_QUALITY = 90
SCENES = 20
"""Rendering takes longer than segmenting."""

SIZES = ((360, 480), (1080, 1920))
FRAME = (1080, 1920)
FRAME_REPEATS = 9
PARTS = ("decode_s", "network_s", "around_s", "encode_s")


class TimedEngine:
    """An engine that adds up the seconds it takes.

    Args:
        engine: what does the work.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.special_sizes, self.batches, self.streams = engine.special_sizes, engine.batches, engine.streams
        self.seconds = 0.0

    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """As `Engine.run`."""
        begun = time.perf_counter()
        try:
            return self._engine.run(images, outputs, rescale=rescale)
        finally:
            self.seconds += time.perf_counter() - begun


def predictors(folder: Path, backbone: str) -> dict[str, Predictor]:
    """The bundled model, and a network of random weights, in OpenVINO in float32."""
    random = folder / "random.safetensors"
    write_random_model(random, backbone, "linear_concat", 19)
    models = {DEFAULT_MODEL: model_path(DEFAULT_MODEL), f"{backbone} + linear_concat, random weights": random}
    found = {}
    for name, path in models.items():
        artefact = folder / path.stem
        export_for_times(read_model_file(path), "openvino", "f32", artefact)
        found[name] = load_predictor(artefact)
    return found


def throughput(predictor: Predictor, folder: Path, size: tuple[int, int], count: int, repeats: int) -> dict[str, Any]:
    """Images/s of a folder of JPEGs, and of the same predictor fed from memory, in turn."""
    drive, masks = folder / "drive", folder / "masks"
    drive.mkdir()
    encoded = [jpeg(seed, size) for seed in range(min(SCENES, count))]
    pictures = [decode_image(data).pixels for data in encoded]
    for i in range(count):
        (drive / f"{i:06d}.jpg").write_bytes(encoded[i % len(encoded)])

    def from_files() -> None:
        shutil.rmtree(masks, ignore_errors=True)
        plan = plan_files([drive], masks)
        header = make_header("benchmark", predictor, "displayed", None, plan.sources)
        Run(plan, Pipeline(predictor), header).segment(lambda outcome: None)
        if (written := sum(1 for _ in masks.rglob("*.png"))) != count:
            raise SystemExit(f"{written} of {count} masks were written")

    def from_memory(confidence: bool) -> Callable[[], None]:
        def run() -> None:
            for i in range(count):
                predictor(pictures[i % len(pictures)], confidence=confidence)

        return run

    runs = {"files": from_files, "memory": from_memory(True), "memory_mask_alone": from_memory(False)}
    for confidence in (True, False):  # compiled and warm for both, without going through the folder
        predictor(pictures[0], confidence=confidence)
    times = interleaved_times(list(runs.values()), repeats, warm_ups=0, shuffle_seed=0)
    medians = {name: statistics.median(taken) for name, taken in zip(runs, times, strict=True)}
    rates = {f"{name}_images_per_s": count / seconds for name, seconds in medians.items()}
    return {"size": list(size), "frames": count, **rates, "ratio": medians["memory"] / medians["files"]}


def one_frame(predictor: Predictor, data: bytes) -> dict[str, float]:
    """Seconds from JPEG bytes to PNG bytes, part by part, nothing side by side."""
    engine = TimedEngine(predictor.engine)
    timed = Predictor(engine, predictor.header, predictor.digest, options=predictor.options)
    begun = time.perf_counter()
    image = decode_image(data)
    decoded = time.perf_counter()
    result = timed(image)
    segmented = time.perf_counter()
    png = result.png()
    ended = time.perf_counter()
    return {
        "total_s": ended - begun,
        "decode_s": decoded - begun,
        "network_s": engine.seconds,
        "around_s": segmented - decoded - engine.seconds,
        "encode_s": ended - segmented,
        "outside_share": 1 - engine.seconds / (ended - begun),
        "png_kib": len(png) / 1024,
    }


def outside_the_network(of: Mapping[str, Predictor], data: bytes, repeats: int) -> dict[str, dict[str, float]]:
    """Medians of `one_frame` of each predictor, all in turn, after one that is thrown away."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in of}
    for repeat in range(repeats + 1):
        for name, predictor in of.items():
            found = one_frame(predictor, data)
            if repeat:
                taken[name].append(found)
    return {
        name: {part: statistics.median(found[part] for found in all_found) for part in all_found[0]}
        for name, all_found in taken.items()
    }


def jpeg(seed: int, size: tuple[int, int]) -> bytes:
    """A procedural scene with a camera's noise, as JPEG."""
    scene = render_scene(seed, (360, 360 * size[1] // size[0]))
    image = cv2.resize(scene.image, size[::-1], interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 8, image.shape).astype(np.float32), (3, 3), 0.7)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def text(document: Mapping[str, Any]) -> str:
    """The findings for people."""
    lines = [f"{DEFAULT_MODEL}, images/s"]
    for row in document["folder"]:
        height, width = row["size"]
        lines.append(
            f"{width}x{height}: {row['files_images_per_s']:.2f} from files, {row['memory_images_per_s']:.2f} from "
            f"memory ({row['memory_mask_alone_images_per_s']:.2f} without confidence), ratio {row['ratio']:.3f}"
        )
    height, width = document["frame_size"]
    lines += ["", f"one {width}x{height} frame, JPEG bytes to PNG bytes, ms"]
    for name, found in document["frame"].items():
        parts = ", ".join(f"{part.removesuffix('_s')} {1e3 * found[part]:.1f}" for part in PARTS)
        lines.append(
            f"{name}: {1e3 * found['total_s']:.1f} ({parts}), {found['outside_share']:.1%} outside the network"
        )
    if document["busy"]:
        lines += ["", f"this machine was busy (load {document['machine']['load_1min']}): measure again"]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200, help="images in the folder (default: 200)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the folder (default: 3)")
    parser.add_argument("--quick", action="store_true", help="4 small frames and networks, once: shows that it runs")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe_machine()
    count, repeats, sizes, frame = args.frames, args.repeats, SIZES, FRAME
    if args.quick:
        count, repeats, sizes, frame = 4, 1, ((72, 96),), (72, 96)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        of = predictors(Path(made), "twins_svt_nano" if args.quick else "twins_svt_small")
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(throughput(of[DEFAULT_MODEL], Path(folder), size, count, repeats))
        frames = outside_the_network(of, jpeg(0, frame), 1 if args.quick else FRAME_REPEATS)
    document = {
        "machine": machine,
        "busy": is_busy(machine),
        "engine": "openvino f32",
        "folder": rows,
        "frame_size": list(frame),
        "frame": frames,
    }
    print(text(document))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
