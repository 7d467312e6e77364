"""The folded decoder against the plain form: time and peak memory, in one run, interleaved.

    python -m benchmarks.decoder -o benchmarks/results/decoder.json

Features of a 512x1024 image from each backbone, batch 1, eager float32, logits at stride 4 (before the last
upsampling), inference mode. Both forms share one set of weights and one memory format; their outputs are compared
first.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import interleaved_medians, peak_mib, print_peak
from roadseg.benching.machine import describe_machine
from roadseg.models.decoders.linear_concat import LinearConcatDecoder

CASES = {
    # name: channels of the features, width of the decoder
    "twins_svt_nano, width 128": ((32, 64, 160, 256), 128),
    "twins_svt_small, width 256": ((64, 128, 256, 512), 256),
    "twins_svt_large, width 256": ((128, 256, 512, 1024), 256),
}
SIZE = (512, 1024)
NUM_CLASSES = 19


def plain_form(decoder: LinearConcatDecoder, features: Sequence[Tensor]) -> Tensor:
    """Project each scale, resize to the finest, concatenate, fuse, classify: as the article draws it."""
    projected = [projection(f) for projection, f in zip(decoder.projections, features, strict=True)]
    size = projected[0].shape[-2:]
    resized = [projected[0], *(F.interpolate(p, size, mode="bilinear") for p in projected[1:])]
    fused = decoder.fuse(torch.cat(resized, 1))
    return decoder.head(decoder.dropout(F.relu_(decoder.norm(fused)) if decoder.norm else fused))


def make_case(name: str, memory_format: torch.memory_format) -> tuple[LinearConcatDecoder, list[Tensor]]:
    """A decoder and random features for it."""
    torch.manual_seed(0)
    channels, width = CASES[name]
    features = [torch.randn(1, c, SIZE[0] >> (i + 2), SIZE[1] >> (i + 2)) for i, c in enumerate(channels)]
    decoder = LinearConcatDecoder(channels, NUM_CLASSES, width).eval().to(memory_format=memory_format)
    return decoder, [f.contiguous(memory_format=memory_format) for f in features]


def forms(name: str, memory_format: torch.memory_format) -> dict[str, Callable[[], Tensor]]:
    """Both forms of a case, ready to run."""
    decoder, features = make_case(name, memory_format)
    return {"folded": lambda: decoder(features), "plain": lambda: plain_form(decoder, features)}


@torch.inference_mode()
def seconds(name: str, memory_format: torch.memory_format, repeats: int) -> dict[str, float]:
    """Median seconds of each form; raises when the outputs differ."""
    runs = forms(name, memory_format)
    torch.testing.assert_close(runs["folded"](), runs["plain"](), rtol=1e-4, atol=1e-4)
    return interleaved_medians(runs, repeats)


def measure(repeats: int) -> list[dict[str, object]]:
    """One row a case and memory format."""
    rows: list[dict[str, object]] = []
    for name in CASES:
        memory = {form: round(peak_mib("benchmarks.decoder", name, form), 1) for form in ("folded", "plain")}
        for label, memory_format in {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}.items():
            median = seconds(name, memory_format, repeats)
            rows.append(
                {
                    "case": name,
                    "memory_format": label,
                    "plain_ms": round(median["plain"] * 1e3, 2),
                    "folded_ms": round(median["folded"] * 1e3, 2),
                    "speedup": round(median["plain"] / median["folded"], 2),
                    "plain_peak_mib": memory["plain"],
                    "folded_peak_mib": memory["folded"],
                }
            )
    return rows


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each form (default: 15)")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "FORM"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        name, form = args.peak
        with torch.inference_mode():
            print_peak(forms(name, torch.contiguous_format)[form])
        return
    rows = measure(args.repeats)
    header = list(rows[0])
    print(" | ".join(header), *(" | ".join(str(value) for value in row.values()) for row in rows), sep="\n")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe_machine(), "image": SIZE, "num_classes": NUM_CLASSES, "rows": rows}
        args.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
