"""Where the time of training goes: the phases and operators of a step, the stages of the data, and who waits for whom.

    python -m benchmarks.profile_training -o benchmarks/results/profile_training.json

The step is the plain loop of benchmarks/training_step.py with the averaged weights; the operators' shares are of the
time that they take themselves, on the GPU where there is one. The stages of a sample are those of
`roadseg.data.views.TrainView`, written out, in one process; "file bytes" is the reading alone, which "labels" and
"image" hold once more. The loader is the one of benchmarks/loading.py. It is the bottleneck where the step would
consume more samples a second than it delivers; `waiting` is the share of the time that a loop of both, which it slows
down itself on a CPU, waits for batches.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from benchmarks.loading import BATCH, CROP, Repeated, open_frames, write_frames
from benchmarks.training_step import CASES, DEVICE, PRECISION, Case, Loop, make_batch, make_task, synchronise
from roadseg.benching.machine import describe_machine
from roadseg.data.crops import choose_window, fit_image, fit_mask
from roadseg.data.mapped import MappedFrames
from roadseg.data.sampling import EpochSampler
from roadseg.data.transforms import Augmentation, distort
from roadseg.data.views import TrainView, collate
from roadseg.data.workers import prepare_worker

FRAME, FILES, SCALES = (720, 960), 64, (0.5, 2.0)
Seconds = dict[str, list[float]]


def profile_step(case: Case, repeats: int, top: int) -> dict[str, Any]:
    """Median seconds of a step's phases, and its top operators."""
    batch, label_sets = make_batch(case.batch, case.size)
    loop = Loop(make_task(case.backbone, case.width, label_sets), batch, average=True)
    loop()
    taken: Seconds = {name: [] for name in loop.phases}
    for _ in range(repeats):
        for name, phase in loop.phases.items():
            _timed(taken[name], phase)
    phases = {name: statistics.median(values) for name, values in taken.items()}
    whole = sum(phases.values())
    return {
        "backbone": case.backbone,
        "batch": [case.batch, 3, *case.size],
        "step_s": round(whole, 4),
        "phases": {name: {"s": round(s, 4), "share": round(s / whole, 3)} for name, s in phases.items()},
        "operators": operators(loop, top),
        "samples_per_s": round(case.batch / whole, 2),
    }


def operators(loop: Loop, top: int) -> list[dict[str, Any]]:
    """The operators that take most of a step themselves."""
    on_gpu = DEVICE.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        loop()
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count)
        for event in profiler.key_averages()
    }
    whole = sum(time_us for time_us, _ in spent.values())
    largest = sorted(spent.items(), key=lambda item: -item[1][0])[:top]
    return [
        {"operator": name, "ms": round(time_us / 1e3, 2), "share": round(time_us / whole, 3), "calls": calls}
        for name, (time_us, calls) in largest
    ]


def profile_data(frames: MappedFrames, samples: int) -> dict[str, Any]:
    """Mean milliseconds of each stage of a sample, and of the whole as `TrainView` makes it, in one process."""
    names = ("file bytes", "header", "labels", "image", "resize and pad", "flip", "colour", "whole sample", "collate")
    taken: Seconds = {name: [] for name in names}
    view = TrainView(frames, Augmentation(crop_size=CROP, scale_range=SCALES), seed=0)
    made = []
    for key in Repeated(EpochSampler(len(frames), seed=0), samples):
        written_out = write_out_sample(frames, key.frame, np.random.default_rng(key.seed), taken)
        made.append(_timed(taken["whole sample"], partial(view.__getitem__, key)))
        assert np.array_equal(written_out, made[-1]["image"].permute(1, 2, 0)), "the stages are not TrainView's"
    for start in range(0, samples, BATCH):
        _timed(taken["collate"], partial(collate, made[start : start + BATCH]))
    return {"samples": samples, "ms_a_sample": {n: round(1e3 * sum(v) / samples, 3) for n, v in taken.items()}}


def write_out_sample(
    frames: MappedFrames, index: int, rng: np.random.Generator, taken: Seconds
) -> npt.NDArray[np.uint8]:
    """The image (h, w, 3) of a sample, made stage by stage."""
    table = frames.source.frames
    _timed(taken["file bytes"], lambda: (table.image_path(index).read_bytes(), table.label_path(index).read_bytes()))
    size = _timed(taken["header"], lambda: frames.image_size(index))
    scale = rng.uniform(*SCALES)
    rng.random()  # TrainView asks whether it shall look for a rare class
    window = choose_window(size, scale, CROP, rng)
    labels = _timed(taken["labels"], lambda: frames.read_mask_part(index, size, window.box))
    pixels = _timed(taken["image"], lambda: frames.read_image_part(index, window.box, window.reduction))
    image, mask = _timed(
        taken["resize and pad"], lambda: (fit_image(pixels, window, CROP), fit_mask(labels, window, CROP))
    )
    if rng.random() < 0.5:
        image, mask = _timed(taken["flip"], lambda: (cv2.flip(image, 1), cv2.flip(mask, 1)))
    return _timed(taken["colour"], lambda: distort(image, 1.0, rng))


def profile_both(frames: MappedFrames, case: Case, workers: int, batches: int) -> dict[str, Any]:
    """Samples a second of the loader alone, and of a loop that trains on what it loads."""
    view = TrainView(frames, Augmentation(crop_size=case.size, scale_range=SCALES), seed=0)
    loop = Loop(make_task(case.backbone, case.width, frames.label_sets), {"image": None, "mask": None}, average=True)
    loader = DataLoader(
        view,
        batch_size=case.batch,
        sampler=Repeated(EpochSampler(len(view), seed=0), batches * case.batch),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        worker_init_fn=prepare_worker,
    )

    def train(batch: Mapping[str, Any]) -> None:
        loop.image, loop.mask = batch["image"].to(DEVICE), batch["mask"].to(DEVICE).long()
        loop()

    drain(loader, lambda batch: None)  # starts the workers
    alone, _ = drain(loader, lambda batch: None)
    together, waited = drain(loader, train)
    return {
        "workers": workers,
        "loader_samples_per_s": round(batches * case.batch / alone, 2),
        "together_samples_per_s": round(batches * case.batch / together, 2),
        "waiting": round(waited / together, 3),
    }


def drain(loader: DataLoader[Any], consume: Callable[[Mapping[str, Any]], None]) -> tuple[float, float]:
    """Seconds in all, and seconds of waiting for batches."""
    waited: list[float] = []
    begin, batches = time.perf_counter(), iter(loader)
    for _ in range(len(loader)):
        consume(_timed(waited, partial(next, batches)))
    return time.perf_counter() - begin, sum(waited)


def _timed(taken: list[float], run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = run()
    synchronise()
    taken.append(time.perf_counter() - start)
    return result


def main() -> None:
    """Measure, print tables, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--case", choices=CASES, default="nano", help="network and batch (default: nano)")
    parser.add_argument("--workers", type=int, default=2, help="processes that load (default: 2)")
    parser.add_argument("--repeats", type=int, default=11, help="steps (default: 11)")
    parser.add_argument("--top", type=int, default=12, help="operators shown (default: 12)")
    parser.add_argument("--quick", action="store_true", help="a small batch, few samples, to try the script")
    args = parser.parse_args()
    case, samples, batches, files = CASES[args.case], 256, 32, FILES
    if args.quick:
        case, samples, batches, files, args.repeats = case._replace(batch=2, size=(128, 160)), 16, 4, 8, 2
    step = profile_step(case, args.repeats, args.top)
    with tempfile.TemporaryDirectory() as folder:
        frames = open_frames(Path(folder), write_frames(Path(folder), FRAME, files))
        data, both = profile_data(frames, samples), profile_both(frames, case, args.workers, batches)
    both["loader_is_the_bottleneck"] = both["loader_samples_per_s"] < step["samples_per_s"]
    document = {"machine": describe_machine(), "precision": PRECISION, "step": step, "data": data, "loader": both}
    print_tables(document)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(document, indent=1) + "\n")


def print_tables(document: Mapping[str, Any]) -> None:
    """Print what was measured."""
    step = document["step"]
    print("phase | s | share", *(f"{n} | {p['s']} | {p['share']}" for n, p in step["phases"].items()), sep="\n")
    print("\noperator | ms | share | calls")
    print(*(" | ".join(map(str, row.values())) for row in step["operators"]), sep="\n")
    print("\nstage | ms a sample", *(f"{n} | {ms}" for n, ms in document["data"]["ms_a_sample"].items()), sep="\n")
    print("\nthe step alone consumes", step["samples_per_s"], "samples/s;", document["loader"])


if __name__ == "__main__":
    main()
