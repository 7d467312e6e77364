"""One checkpoint scored three ways: `lightning validate`, `roadseg segment`, and the service's `/segment`.

    python -m benchmarks.three_ways runs/nano/version_0 -c configs/nano.yaml -o benchmarks/results/nano_camvid.json

The masks of the last two are scored by the plain numpy code below, which shares nothing with the package. Needs
CamVid in the data root (`ROADSEG_DATA`).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from roadseg.benching.machine import describe_machine
from roadseg.data.root import data_root
from roadseg.taxonomy import load_taxonomy

UNLABELLED = 11


def script(name: str) -> str:
    """Path of a console script beside the running interpreter."""
    return str(Path(sys.executable).with_name(name))


def own_scores(mask_of: Callable[[Path], np.ndarray]) -> dict[str, float]:
    """IoU of each class over CamVid's validation split, and their mean, from masks (H, W) by image path."""
    names = load_taxonomy("camvid11").names
    hits, union = np.zeros(len(names)), np.zeros(len(names))
    for image in sorted((data_root() / "camvid" / "val").iterdir()):
        truth = np.asarray(Image.open(data_root() / "camvid" / "valannot" / f"{image.stem}.png"))
        mask, labelled = mask_of(image), truth != UNLABELLED
        for c in range(len(names)):
            predicted, actual = (mask == c) & labelled, truth == c
            hits[c] += (predicted & actual).sum()
            union[c] += (predicted | actual).sum()
    iou = hits / union
    return {"miou": float(iou.mean()), **dict(zip(names, iou.tolist(), strict=True))}


def by_validate(config: Path, checkpoint: Path) -> float:
    """The mean IoU that `lightning validate` prints."""
    command = [script("lightning"), "validate", "-c", str(config), "--ckpt_path", str(checkpoint)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"val/miou\D+([\d.]+)", printed)
    if found is None:
        raise SystemExit(f"`lightning validate` printed no val/miou:\n{printed}")
    return float(found[1])


def by_segment(model: Path, folder: Path) -> dict[str, float]:
    """Scores of the masks that `roadseg segment` writes."""
    images = str(data_root() / "camvid" / "val")
    subprocess.run([script("roadseg"), "segment", images, "--model", str(model), "-o", str(folder)], check=True)
    return own_scores(lambda image: np.asarray(Image.open(folder / f"{image.stem}.png")))


def by_service(model: Path) -> dict[str, float]:
    """Scores of the masks that the service answers with."""
    command = [script("roadseg"), "serve", "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as service:
        try:
            url = re.search(r"http://\S+", service.stdout.readline() if service.stdout else "")
            if url is None:
                raise SystemExit("the service did not say where it listens")
            return own_scores(lambda image: ask(url[0], image))
        finally:
            service.terminate()


def ask(url: str, image: Path) -> np.ndarray:
    """The service's mask of an image; waits while the model loads."""
    request = urllib.request.Request(f"{url}/segment", image.read_bytes(), {"Content-Type": "application/octet-stream"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return np.asarray(Image.open(BytesIO(answer.read())))
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.2)


def main() -> None:
    """Score, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the training run, runs/NAME/version_N")
    parser.add_argument("-c", "--config", type=Path, required=True, help="its configuration")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    checkpoint = args.run / "checkpoints" / "last.ckpt"
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        subprocess.run([script("roadseg"), "package", str(checkpoint), "-o", str(model)], check=True)
        segment, service = by_segment(model, Path(folder) / "masks"), by_service(model)
    validate = by_validate(args.config, checkpoint)
    # The configuration is saved when training starts, the last checkpoint when it ends.
    seconds = checkpoint.stat().st_mtime - (args.run / "config.yaml").stat().st_mtime
    report = {
        "machine": describe_machine(),
        "config": args.config.name,
        "training_minutes": round(seconds / 60, 1),
        "val_miou": {"lightning validate": validate, "roadseg segment": segment["miou"], "/segment": service["miou"]},
        "val_iou": {name: round(value, 4) for name, value in segment.items() if name != "miou"},
    }
    print(json.dumps(report, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
