"""The ways of a whole image on a CPU: who resizes it, and who makes a mask of the network's logits.

    python -m benchmarks.finishing -o benchmarks/results/finishing.json

The bundled model sees every frame at a short side of 360 px. `masks`: the engine resizes frames, interpolates logits to
the frame's size and decides. `logits`: it gives logits at the working size, and roadseg makes the mask of them.
`views`: roadseg resizes the frame, too. All in turn on made-up frames, medians; then, each in a process of its own, the
memory that a frame takes above the loaded model.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.measuring import interleaved_medians, peak_mib, print_peak
from roadseg.benching.machine import describe_machine
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.export.write import export_model
from roadseg.inference.package import read_model_file
from roadseg.inference.plan import Plan, Way, plan_image
from roadseg.inference.predictor import Predictor, load_predictor

SIZES = ((360, 480), (720, 1280), (1080, 1920), (2160, 3840))
WAYS: tuple[Way, ...] = get_args(Way)


def frame(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Smooth colours."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 40, width // 40, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def segment(predictor: Predictor, image: npt.NDArray[np.uint8], way: Way, confidence: bool) -> None:
    """One image, one way."""

    def planned(*args: Any, **kwargs: Any) -> Plan:
        return replace(plan_image(*args, **kwargs), way=way)

    with patch("roadseg.inference.predictor.plan_image", planned):
        predictor(image, confidence=confidence)


def load(model: str) -> Predictor:
    """The bundled model in torch, or an exported folder."""
    return load_predictor(model, engine="torch" if model == DEFAULT_MODEL else "auto", device="cpu")


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    parser.add_argument("--peak", nargs=5, metavar=("MODEL", "H", "W", "WAY", "CONFIDENCE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        model, height, width, way, confidence = args.peak
        predictor = load(model)
        predictor(frame(480, 640))
        image = frame(int(height), int(width))
        print_peak(lambda: segment(predictor, image, way, confidence == "True"))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        export_model(read_model_file(model_path(DEFAULT_MODEL)), "openvino", "f32", os.path.join(folder, "openvino"))
        models = {"torch": DEFAULT_MODEL, "openvino": os.path.join(folder, "openvino")}
        for engine, model in models.items():
            predictor = load(model)
            for size in SIZES:
                for confidence in (False, True):
                    rows.append(measure(predictor, engine, model, size, confidence, args.rounds))
                    print(json.dumps(rows[-1]))
    if args.output:
        found = {"machine": describe_machine(), "model": DEFAULT_MODEL, "rounds": args.rounds, "rows": rows}
        args.output.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def measure(
    predictor: Predictor, engine: str, model: str, size: tuple[int, int], confidence: bool, rounds: int
) -> dict[str, Any]:
    """Seconds and MiB of each way."""
    image = frame(*size)
    runs: dict[str, Callable[[], None]] = {way: partial(segment, predictor, image, way, confidence) for way in WAYS}
    seconds = interleaved_medians(runs, rounds)
    mib = {way: round(peak_mib("benchmarks.finishing", model, *map(str, size), way, str(confidence))) for way in WAYS}
    return {
        "engine": engine,
        "size": list(size),
        "confidence": confidence,
        "seconds": {way: round(value, 4) for way, value in seconds.items()},
        "mib": mib,
    }


if __name__ == "__main__":
    main()
