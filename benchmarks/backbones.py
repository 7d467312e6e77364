"""This project's Twins against timm's: time and peak memory, in one run, interleaved.

    python -m benchmarks.backbones -o benchmarks/results/backbones.json

Both take the same weights and give the same four features; they are compared first. Inference: one 512x1024 image,
eager float32, `features_only` at timm. Training: forward and backward of a batch of two 320x416 crops, eager float32.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from benchmarks.measuring import interleaved_medians, peak_mib, print_peak
from roadseg.benching.machine import describe_machine
from roadseg.models.zoo import build_backbone

NAMES = ("twins_svt_small", "twins_pcpvt_small")
MODES = {
    # mode: (batch, channels, height, width)
    "inference": (1, 3, 512, 1024),
    "training": (2, 3, 320, 416),
}


def networks(name: str) -> dict[str, nn.Module]:
    """Timm's feature extractor and our backbone, with the same random weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3))
    ours = build_backbone(name)
    ours.load_state_dict({key.removeprefix("model."): tensor for key, tensor in theirs.state_dict().items()})
    return {"timm": theirs, "roadseg": ours}


def runs(name: str, mode: str) -> dict[str, Callable[[], object]]:
    """Both networks, ready to run; raises when their features differ."""
    image = torch.randn(MODES[mode])
    both = {label: network.train(mode == "training") for label, network in networks(name).items()}
    with torch.inference_mode():
        for ours, theirs in zip(both["roadseg"](image), both["timm"](image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    return {label: _run(network, image, mode) for label, network in both.items()}


def _run(network: nn.Module, image: Tensor, mode: str) -> Callable[[], object]:
    @torch.inference_mode()
    def infer() -> object:
        return network(image)

    def train() -> None:
        network.zero_grad()
        sum(feature.square().mean() for feature in network(image)).backward()

    return infer if mode == "inference" else train


def print_peak_of(name: str, mode: str, label: str) -> None:
    """Print the peak memory of one run."""
    network = networks(name)[label].train(mode == "training")
    print_peak(_run(network, torch.randn(MODES[mode]), mode))


def seconds(name: str, mode: str, repeats: int) -> dict[str, float]:
    """Median seconds of both networks, in a fresh process: how fast memory comes depends on what was freed before."""
    command = [sys.executable, "-m", "benchmarks.backbones", "--time", name, mode, "--repeats", str(repeats)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(repeats: int) -> list[dict[str, object]]:
    """One row a network and mode."""
    rows: list[dict[str, object]] = []
    for name in NAMES:
        for mode in MODES:
            peak = {label: peak_mib("benchmarks.backbones", name, mode, label) for label in ("timm", "roadseg")}
            median = seconds(name, mode, repeats)
            rows.append(
                {
                    "backbone": name,
                    "mode": mode,
                    "batch": "x".join(map(str, MODES[mode])),
                    "timm_ms": round(median["timm"] * 1e3, 1),
                    "roadseg_ms": round(median["roadseg"] * 1e3, 1),
                    "speedup": round(median["timm"] / median["roadseg"], 2),
                    "timm_peak_mib": round(peak["timm"]),
                    "roadseg_peak_mib": round(peak["roadseg"]),
                }
            )
    return rows


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each network (default: 15)")
    parser.add_argument("--peak", nargs=3, metavar=("NAME", "MODE", "LABEL"), help=argparse.SUPPRESS)
    parser.add_argument("--time", nargs=2, metavar=("NAME", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak_of(*args.peak)
        return
    if args.time:
        print(json.dumps(interleaved_medians(runs(*args.time), args.repeats)))
        return
    rows = measure(args.repeats)
    print(" | ".join(rows[0]), *(" | ".join(str(value) for value in row.values()) for row in rows), sep="\n")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe_machine(), "timm": timm.__version__, "rows": rows}
        args.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
