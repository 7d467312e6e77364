"""The bound: one process that decodes, segments and encodes in a loop, without HTTP; prints images/s.

python -m benchmarks.service.in_process ARTEFACT --files drive --seconds 10 --batch 1
"""

import argparse
import json
import time
from itertools import cycle, islice
from pathlib import Path

from roadseg.images import decode_image
from roadseg.inference.predictor import load_predictor


def main() -> None:
    """Loop, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--files", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    predictor = load_predictor(args.artefact)
    images = cycle([path.read_bytes() for path in sorted(args.files.glob("*.jpg"))])
    predictor(decode_image(next(images)))  # compiled and warm
    begun, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < args.seconds:
        decoded = [decode_image(data) for data in islice(images, args.batch)]
        count += sum(bool(result.png()) for result in predictor.batch(decoded))
    print(json.dumps({"images_per_s": count / elapsed}))


if __name__ == "__main__":
    main()
