"""The whole path in a few minutes: train briefly on synthetic scenes, package, serve, segment an unseen scene.

It runs the commands that a user would type, on two CPU cores and without a download. `make demo` calls it; with
`--image photo.jpg` the same model segments that photo as well (it has seen nothing but synthetic scenes, and shows it).
"""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from roadseg.data.synthetic import SYNTHETIC_TAXONOMY, render_scene
from roadseg.errors import RoadsegError
from roadseg.images import read_image
from roadseg.inference.result import SegmentationResult, encode_png, write_whole
from roadseg.taxonomy import load_taxonomy

ROOT = Path(__file__).resolve().parents[1]
UNSEEN_SEED = 20_261
"""Far from the scenes of training and validation, whose seeds are derived otherwise."""

READY_TIMEOUT_S = 120.0


def main() -> int:
    """Run the demo; 0 when every step worked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, metavar="FILE", help="also segment this photo")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "demo", help="folder for what is made")
    args = parser.parse_args()
    try:
        return run(args.image, args.output.resolve())
    except RoadsegError as error:
        print(f"error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"error: `{' '.join(error.cmd)}` ended with status {error.returncode}", file=sys.stderr)
    return 1


def run(photo: Path | None, output: Path) -> int:
    """Train, package, serve, segment, and write the pictures into `output`."""
    images = {"scene": render_scene(UNSEEN_SEED, (384, 640)).image}
    if photo is not None:  # an unreadable one is refused now, not after the training
        images[photo.stem] = read_image(photo).pixels
    output.mkdir(parents=True, exist_ok=True)
    model = output / "model.safetensors"
    checkpoint = train(output)
    step("Packaging the averaged weights as one model file")
    # Scenes of training are 192 px high: larger images are segmented at about that scale.
    command("roadseg", "package", str(checkpoint), "-o", str(model), "--short-side-px", "224")
    step("Serving it, and posting what it never saw")
    with served(model, output / "service.log") as url:
        for name, pixels in images.items():
            picture = output / f"{name}.png"
            write_picture(picture, pixels, url)
            print(f"input | mask | overlay: {picture}")
    return 0


def train(output: Path) -> Path:
    """Fit the nano network on synthetic scenes; gives the last checkpoint."""
    step("Training twins_svt_nano on synthetic scenes (configs/demo.yaml)")
    start = time.monotonic()
    folder = ["--trainer.default_root_dir", str(output / "runs"), "--name", "demo"]
    command("lightning", "fit", "-c", str(ROOT / "configs" / "demo.yaml"), *folder)
    newest = max((output / "runs" / "demo").glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    with (newest / "metrics.csv").open() as file:
        scores = [float(row["val/miou"]) for row in csv.DictReader(file) if row["val/miou"]]
    print(f"validation mIoU: {' -> '.join(f'{score:.3f}' for score in scores)}  ({time.monotonic() - start:.0f} s)")
    return newest / "checkpoints" / "last.ckpt"


@contextmanager
def served(model: Path, log: Path) -> Iterator[str]:
    """Run `roadseg serve` on a free port until the block ends; gives its URL."""
    with log.open("w") as errors:
        service = subprocess.Popen(
            [script("roadseg"), "serve", "--model", str(model), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield wait_until_ready(service, log)
        finally:
            service.send_signal(signal.SIGINT)
            try:
                service.wait(20)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()
    print(f"service stopped (its log: {log})")


def wait_until_ready(service: subprocess.Popen[str], log: Path) -> str:
    """The service's URL, once it says that it is ready."""
    # Reading blocks for as long as the service prints nothing; the watchdog ends a service that never does.
    watchdog = threading.Timer(READY_TIMEOUT_S, service.kill)
    watchdog.start()
    try:
        for line in service.stdout or ():
            if found := re.search(r"http://\S+", line):
                url = found[0]
                while service.poll() is None:
                    if is_ready(url):
                        return url
                    time.sleep(0.2)
        raise RoadsegError(f"the service did not become ready; its log is {log}:\n{log.read_text()[-2000:]}")
    finally:
        watchdog.cancel()


def is_ready(url: str) -> bool:
    """Whether the service has loaded its model."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def write_picture(path: Path, pixels: np.ndarray, url: str) -> None:
    """Post an image (H, W, 3) uint8 RGB, and write input | mask | overlay side by side."""
    upload = encode_png(Image.fromarray(pixels))
    mask = np.asarray(Image.open(BytesIO(post(url, upload, "image/png"))))
    areas = {c["name"]: c["share"] for c in json.loads(post(url, upload, "application/json"))["classes"]}
    result = SegmentationResult(pixels, mask, load_taxonomy(SYNTHETIC_TAXONOMY), model_digest="")
    row = np.hstack([pixels, result.overlay(opacity=1.0), result.overlay()])
    write_whole(path, encode_png(Image.fromarray(row)))
    largest = sorted(areas.items(), key=lambda item: -item[1])[:5]
    print(f"{path.stem}: {', '.join(f'{name} {share:.0%}' for name, share in largest)}")


def post(url: str, image: bytes, accept: str) -> bytes:
    """The service's answer to an image."""
    headers = {"Content-Type": "image/png", "Accept": accept}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/segment", image, headers), timeout=120) as answer:
        return answer.read()


def command(name: str, *arguments: str) -> None:
    """Run a console script of this environment; its output is shown."""
    print(f"$ {name} {' '.join(arguments)}", flush=True)
    subprocess.run([script(name), *arguments], check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def script(name: str) -> str:
    """Path of a console script beside the running interpreter."""
    return str(Path(sys.executable).with_name(name))


def step(text: str) -> None:
    """Announce a step."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
