"""The whole path in a few minutes: serve the bundled model and post a scene to it, then train one's own and use that.

It runs the commands that a user would type, on two CPU cores and without a download. `make demo` calls it; with
`--image photo.jpg` the bundled model segments that photo as well.
"""

import argparse
import csv
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import NoReturn

import cv2
import numpy as np
import numpy.typing as npt
from demo_page import photograph_page
from PIL import Image

from roadseg.data.synthetic import SYNTHETIC_TAXONOMY, render_scene
from roadseg.errors import ImageTooLargeError, OutputError, RoadsegError
from roadseg.images import read_image
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.licence import licence_line
from roadseg.inference.package import read_model_file
from roadseg.inference.result import SegmentationResult, encode_png, write_whole
from roadseg.taxonomy import Taxonomy, load_taxonomy
from roadseg_service import load_settings

ROOT = Path(__file__).resolve().parents[1]
UNSEEN_SEED = 20_261
"""Far from the scenes of training and validation, whose seeds are derived otherwise."""

OWN_MODEL = "model.safetensors"

READY_TIMEOUT_S = 120.0

ROW_SIDE_PX = 3840
"""Largest side of input | mask | overlay; larger ones are shrunk to it."""

# The service is on this machine: a proxy that the environment names must not come between.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Subject:
    """What is to be segmented.

    Attributes:
        name: of its picture, without the ending.
        upload: the encoded image that is posted.
        pixels: (H, W, 3) uint8 RGB, as the service decodes `upload`.
    """

    name: str
    upload: bytes
    pixels: npt.NDArray[np.uint8]


def main() -> int:
    """Run the demo; 0 when every step worked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, metavar="FILE", help="also segment this photo")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "demo", help="folder for what is made")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, end_by_signal)
    # Each model segments a picture or two here: converting it first takes longer, and leaves files in the home folder.
    os.environ.setdefault("ROADSEG_CACHE", "off")
    try:
        return run(args.image, args.output.resolve())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130  # what shells give for SIGINT
    except RoadsegError as error:
        print(f"error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"error: `{' '.join(error.cmd)}` ended with status {error.returncode}", file=sys.stderr)
    return 1


def run(photo: Path | None, output: Path) -> int:
    """Use the bundled model, then train one and use that; the pictures are written into `output`."""
    scene = unseen_scene()
    subjects = [scene]
    if photo is not None:  # one that the service would not take is refused before anything is made
        subjects.append(subject_of(photo))
    prepare(output)
    serve_bundled(subjects, output)
    use_own(train(output), scene, output)
    print(f"\nDone: all pictures are in {output}, and your own model is {output / OWN_MODEL}")
    return 0


def serve_bundled(subjects: list[Subject], output: Path) -> None:
    """Serve the bundled model, and draw what it answers to each image."""
    step(f"Serving the bundled model, {DEFAULT_MODEL}, and posting images to it")
    header = read_model_file(model_path(DEFAULT_MODEL)).header
    if terms := licence_line(DEFAULT_MODEL, header.weights_licence):
        print(terms)
    with served(DEFAULT_MODEL, output / "service.log") as url:
        for subject in subjects:
            mask = np.asarray(Image.open(BytesIO(post(url, subject.upload, "image/png"))))
            answer = json.loads(post(url, subject.upload, "application/json"))
            print(f"{subject.name}: {largest({c['name']: c['share'] for c in answer['classes']})}")
            write_picture(output / f"{subject.name}.png", subject.pixels, mask, header.taxonomy)
        print(photograph_page(url, subjects[-1].upload, output / "page.png"))


def use_own(checkpoint: Path, scene: Subject, output: Path) -> None:
    """Package a checkpoint, and draw what `roadseg segment` makes of the scene with it."""
    step("Packaging its averaged weights as one model file")
    model = output / OWN_MODEL
    # Scenes of training are 192 px high: larger images are segmented at about that scale.
    command("roadseg", "package", str(checkpoint), "-o", str(model), "--short-side-px", "224", "--half")
    step("Segmenting the same scene with it: a model of two minutes, which knows synthetic scenes and no street")
    image, masks = output / "input" / "scene.png", output / "masks"
    write_whole(image, scene.upload)
    command("roadseg", "segment", str(image), "--model", str(model), "-o", str(masks), "--overwrite")
    mask, taxonomy = np.asarray(Image.open(masks / image.name)), load_taxonomy(SYNTHETIC_TAXONOMY)
    counts = np.bincount(mask.ravel(), minlength=len(taxonomy)) / mask.size
    print(f"scene: {largest({name: float(share) for name, share in zip(taxonomy.names, counts, strict=True)})}")
    write_picture(output / "scene_own.png", scene.pixels, mask, taxonomy)


def end_by_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that what this process started is ended too; the status is what shells give."""
    signal.signal(number, signal.SIG_IGN)  # a second one must not break into that
    raise SystemExit(128 + number)


def unseen_scene() -> Subject:
    """A synthetic scene that is in no training set."""
    pixels = render_scene(UNSEEN_SEED, (384, 640)).image
    return Subject("scene", encode_png(Image.fromarray(pixels)), pixels)


def subject_of(photo: Path) -> Subject:
    """The user's photo.

    Raises:
        RoadsegError: when it cannot be read, or is larger than the service will take.
    """
    limits = load_settings(model=DEFAULT_MODEL)
    pixels = read_image(photo, max_pixels=limits.max_pixels).pixels
    upload = photo.read_bytes()
    if len(upload) > limits.max_body_bytes:
        raise ImageTooLargeError(
            f"{photo} is {len(upload)} bytes; the service takes at most {limits.max_body_bytes}: save it smaller, or "
            "more strongly compressed"
        )
    return Subject(f"photo_{photo.stem}", upload, pixels)


def prepare(output: Path) -> None:
    """Make the folder, and remove the training runs of earlier demos from it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if runs_in(output).exists():
            shutil.rmtree(runs_in(output))
    except OSError as error:
        raise OutputError(f"cannot prepare {output}: {error.strerror or error}; choose another --output") from error


def runs_in(output: Path) -> Path:
    """Where the demo's training runs lie."""
    return output / "runs" / "demo"


def train(output: Path) -> Path:
    """Fit the nano network on synthetic scenes; gives the last checkpoint."""
    step("Training a model of your own, for a minute or two on synthetic scenes (configs/demo.yaml)")
    start = time.monotonic()
    runs = runs_in(output)
    folder = ["--trainer.default_root_dir", str(runs.parent), "--name", runs.name]
    command("lightning", "fit", "-c", str(ROOT / "configs" / "demo.yaml"), *folder)
    newest = max(runs.glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    with (newest / "metrics.csv").open() as file:
        scores = [float(row["val/miou"]) for row in csv.DictReader(file) if row["val/miou"]]
    print(f"validation mIoU: {' -> '.join(f'{score:.3f}' for score in scores)}  ({time.monotonic() - start:.0f} s)")
    return newest / "checkpoints" / "last.ckpt"


@contextmanager
def served(model: str, log: Path) -> Iterator[str]:
    """Run `roadseg serve` on a free port until the block ends; gives its URL."""
    print(f"$ roadseg serve --model {model} --port 0", flush=True)
    arguments = [script("roadseg"), "serve", "--model", model, "--port", "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True) as service,
    ):
        try:
            yield wait_until_ready(service, log)
        finally:
            stop(service)
    print(f"service stopped (its log: {log})")


def stop(service: subprocess.Popen[str]) -> None:
    """End the service; one that does not end by itself, or is not waited for, is killed."""
    service.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            service.wait(20)
    finally:
        service.kill()


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
        with _DIRECT.open(f"{url}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


def write_picture(path: Path, pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], taxonomy: Taxonomy) -> None:
    """Write input | mask | overlay side by side."""
    write_whole(path, encode_png(Image.fromarray(side_by_side(pixels, mask, taxonomy))))
    print(f"input | mask | overlay: {path}")


def largest(shares: dict[str, float]) -> str:
    """The five largest shares of an image, in words."""
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items(), key=lambda item: -item[1])[:5])


def side_by_side(
    pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], taxonomy: Taxonomy
) -> npt.NDArray[np.uint8]:
    """Input | mask | overlay of an image (H, W, 3), none of its sides above `ROW_SIDE_PX`."""
    height, width = mask.shape
    scale = ROW_SIDE_PX / max(3 * width, height)
    if scale < 1:  # before the colours are laid over: nearest keeps the ids, and the row of a huge photo is never made
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    result = SegmentationResult(pixels, mask, taxonomy, model_digest="")
    return np.hstack([pixels, result.overlay(opacity=1.0), result.overlay()])


def post(url: str, image: bytes, accept: str) -> bytes:
    """The service's answer to an image.

    Raises:
        RoadsegError: when it refuses the image, or does not answer.
    """
    headers = {"Content-Type": "application/octet-stream", "Accept": accept}
    try:
        with _DIRECT.open(urllib.request.Request(f"{url}/segment", image, headers), timeout=120) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise RoadsegError(f"the service answered {error.code}: {detail_of(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise RoadsegError(f"the service at {url} did not answer ({error}); its log may say why") from error


def detail_of(answer: urllib.error.HTTPError) -> str:
    """What a refusal says in its problem JSON, else the status line's words."""
    try:
        return str(json.loads(answer.read())["detail"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return str(answer.reason)


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
