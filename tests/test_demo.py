"""The demo: what it posts and writes, and what it refuses. All but the slow test train nothing."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import roadseg
import roadseg.inference.bundled
import roadseg_service
from roadseg import cli
from roadseg.data.synthetic import SYNTHETIC_TAXONOMY, render_scene
from roadseg.images import read_image
from roadseg.inference.package import read_model_file
from tests.inference.test_package import rewrite

ROOT = Path(__file__).resolve().parents[1]
IMPORTABLE = os.pathsep.join(str(Path(module.__file__).parents[1]) for module in (roadseg, roadseg_service))


@pytest.fixture
def demo(monkeypatch):
    """The demo as a module."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return import_module("demo")


@pytest.fixture
def untrained(demo, monkeypatch, model_file, tmp_path):
    """The demo, with a bundled model of random weights, and a finished model file in place of training."""
    weights = tmp_path / "installed" / "weights"
    weights.mkdir(parents=True)
    header = {"weights_licence": "research use only", "taxonomy": recoloured(read_model_file(model_file).header)}
    rewrite(model_file, weights / "roadseg-nano.safetensors", header=header)

    def run_here(name, *arguments):
        assert name == "roadseg"
        if arguments[0] == "package":
            shutil.copy(model_file, arguments[arguments.index("-o") + 1])
        else:
            assert cli.main([*arguments, "--device", "cpu"]) == 0

    monkeypatch.setattr(roadseg.inference.bundled, "WEIGHTS", weights)
    monkeypatch.setattr(demo, "train", lambda output: output / "last.ckpt")
    monkeypatch.setattr(demo, "command", run_here)
    monkeypatch.setattr(demo, "photograph_page", lambda url, upload, picture: f"the page of {len(upload)} bytes")
    return demo


def recoloured(header):
    """The classes of a model in other colours, by which its pictures can be told from those of another."""
    taxonomy = header.taxonomy.to_dict()
    classes = [{**c, "colour": [255 - value for value in c["colour"]]} for c in taxonomy["classes"]]
    return {**taxonomy, "classes": classes}


def run(demo, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        return demo.main()
    finally:
        signal.signal(signal.SIGTERM, before)


def write_photo(path, height=40, width=60, **options):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def write_script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_photo_named_scene_gets_a_picture_beside_the_scenes(untrained, model_file, monkeypatch, tmp_path, capsys):
    weights = roadseg.inference.bundled.WEIGHTS
    call = "import sys, pathlib, roadseg.cli, roadseg.inference.bundled as bundled; "
    call += f"bundled.WEIGHTS = pathlib.Path({str(weights)!r}); sys.exit(roadseg.cli.main())"
    command = f"PYTHONPATH={shlex.quote(IMPORTABLE)} exec {shlex.quote(sys.executable)} -c {shlex.quote(call)}"
    service = write_script(tmp_path / "roadseg", f'#!/bin/sh\n{command} "$@"\n')
    monkeypatch.setattr(untrained, "script", lambda name: str(service))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = write_photo(tmp_path / "scene.jpg", exif=exif.tobytes())

    assert run(untrained, monkeypatch, "--output", tmp_path / "out", "--image", photo) == 0
    assert Image.open(tmp_path / "out" / "scene.png").size == (3 * 640, 384)
    own = np.split(np.asarray(Image.open(tmp_path / "out" / "scene_own.png")), 3, axis=1)
    ids = roadseg.load_predictor(model_file, device="cpu")(own[0]).mask
    assert np.array_equal(own[1], roadseg.load_taxonomy(SYNTHETIC_TAXONOMY).palette[ids])
    pixels, mask, _ = np.split(np.asarray(Image.open(tmp_path / "out" / "photo_scene.png")), 3, axis=1)
    assert np.array_equal(pixels, read_image(photo).pixels)
    bundled = roadseg.load_predictor(device="cpu")
    assert np.array_equal(mask, bundled.taxonomy.palette[bundled(photo).mask])
    assert "roadseg-nano: weights: research use only; code: Apache-2.0\n" in capsys.readouterr().out


@contextmanager
def fake_service(answer):
    """A server that answers a POST with what `answer(body, accept)` gives: status and body. Gives URL and bodies."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(bodies[-1], self.headers["Accept"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join()


def segment_nothing(body, accept):
    """All of the image is the first class."""
    if accept == "application/json":
        return 200, json.dumps({"classes": [{"name": "sky", "share": 1.0}]}).encode()
    buffer = BytesIO()
    Image.new("L", Image.open(BytesIO(body)).size).save(buffer, "PNG")
    return 200, buffer.getvalue()


def use_service(demo, monkeypatch, url):
    @contextmanager
    def served(model, log):
        yield url

    monkeypatch.setattr(demo, "served", served)


def test_the_photos_own_bytes_are_posted_past_any_proxy(untrained, monkeypatch, tmp_path, capsys):
    photo = write_photo(tmp_path / "drive.jpg")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with fake_service(segment_nothing) as (url, bodies):
        use_service(untrained, monkeypatch, url)
        assert run(untrained, monkeypatch, "--output", tmp_path / "out", "--image", photo) == 0
    assert bodies[2:] == [photo.read_bytes()] * 2
    assert f"the page of {photo.stat().st_size} bytes\n" in capsys.readouterr().out, "the user's photo, not the scene"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (413, b'{"detail": "too many pixels"}', "error: the service answered 413: too many pixels\n"),
        (502, b"<html>", "error: the service answered 502: Bad Gateway\n"),
    ],
)
def test_a_refusal_of_the_service_is_told(untrained, monkeypatch, tmp_path, capsys, status, body, message):
    with fake_service(lambda *_: (status, body)) as (url, _):
        use_service(untrained, monkeypatch, url)
        assert run(untrained, monkeypatch, "--output", tmp_path) == 1
    assert capsys.readouterr().err == message


def test_a_service_that_is_gone_is_told(untrained, monkeypatch, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    use_service(untrained, monkeypatch, url)
    assert run(untrained, monkeypatch, "--output", tmp_path) == 1
    assert f"error: the service at {url} did not answer" in capsys.readouterr().err


def too_many_bytes(folder):
    photo = write_photo(folder / "large.jpg")
    with photo.open("ab") as file:
        file.truncate(32 * 1024 * 1024 + 1)  # bytes behind an image are ignored
    return photo


def too_many_pixels(folder):
    Image.new("1", (8000, 6251)).save(folder / "large.png")
    return folder / "large.png"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (too_many_bytes, "large.jpg is 33554433 bytes; the service takes at most 33554432"),
        (too_many_pixels, "large.png is 8000x6251 = 50008000 pixels; at most 50000000 pixels are accepted"),
        (lambda folder: folder / "gone.jpg", "gone.jpg: No such file"),
    ],
)
def test_a_photo_that_the_service_would_refuse_is_refused_before_anything_is_made(
    demo, monkeypatch, tmp_path, capsys, make, message
):
    def prepare(output):
        raise AssertionError("prepared")

    monkeypatch.setattr(demo, "prepare", prepare)
    assert run(demo, monkeypatch, "--output", tmp_path / "out", "--image", make(tmp_path)) == 1
    assert message in capsys.readouterr().err


def test_the_limits_are_those_that_the_environment_sets_for_the_service(demo, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ROADSEG_SERVICE_MAX_BODY_BYTES", "100")
    photo = write_photo(tmp_path / "drive.jpg")
    assert run(demo, monkeypatch, "--output", tmp_path / "out", "--image", photo) == 1
    assert "the service takes at most 100" in capsys.readouterr().err


def test_training_runs_of_earlier_demos_are_removed_and_nothing_else(untrained, monkeypatch, tmp_path):
    stale, mine, other = (tmp_path / path for path in ("runs/demo/version_0/a", "mine/a", "runs/nano/a"))
    for path in (stale, mine, other):
        path.parent.mkdir(parents=True)
        path.write_text("")
    with fake_service(segment_nothing) as (url, _):
        use_service(untrained, monkeypatch, url)
        assert run(untrained, monkeypatch, "--output", tmp_path) == 0
    assert (stale.exists(), mine.exists(), other.exists()) == (False, True, True)


@pytest.mark.parametrize(
    ("size", "shown"), [((384, 640), (384, 1920)), ((3000, 8000), (480, 3840)), ((8000, 100), (3840, 144))]
)
def test_pictures_of_huge_photos_are_shrunk_and_keep_the_class_colours(demo, size, shown):
    rng = np.random.default_rng(0)
    taxonomy = roadseg.load_taxonomy(SYNTHETIC_TAXONOMY)
    row = demo.side_by_side(np.zeros((*size, 3), np.uint8), rng.integers(0, 11, size, np.uint8), taxonomy)
    assert row.shape == (*shown, 3)
    colours = np.unique(np.split(row, 3, axis=1)[1].reshape(-1, 3), axis=0)
    assert len(colours) == 11
    assert set(map(tuple, colours)) <= set(map(tuple, taxonomy.palette))


@pytest.mark.slow
def test_the_whole_demo_trains_serves_and_draws(tmp_path):
    """What `make demo` does, nothing replaced; minutes."""
    photo = tmp_path / "my photo.jpg"
    Image.fromarray(render_scene(77, (120, 200)).image).save(photo)
    command = [
        sys.executable,
        str(ROOT / "examples" / "demo.py"),
        "--output",
        str(tmp_path / "out"),
        "--image",
        str(photo),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stderr[-3000:]
    scores = [float(s) for s in done.stdout.partition("validation mIoU: ")[2].partition("  (")[0].split(" -> ")]
    assert len(scores) >= 3 and scores[-1] > scores[0] and scores[-1] > 0.3
    for name, width in (("scene", 640), ("scene_own", 640), ("photo_my photo", 200)):
        assert Image.open(tmp_path / "out" / f"{name}.png").width == 3 * width
