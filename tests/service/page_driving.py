"""Driving the page in a headless Chromium, before a service whose answers can be computed by hand."""

import base64
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from service_corpus import NUM_CLASSES, mask_of
from service_running import DIGEST, FakeEngine, running

from roadseg.inference.package import Architecture, ModelHeader
from roadseg.inference.predictor import Predictor
from roadseg.taxonomy import RoadClass, Taxonomy

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from demo_page import ARGUMENTS, find_chromium

BLENDED_OFF = 2
"""Grey levels that a canvas is off by: it rounds the opacity, each of the two products, and their sum."""

PHONE = {"viewport": {"width": 375, "height": 812}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}

MARKUP = "<img src=x onerror=alert(1)>"

NAMES = ("road", MARKUP, "علامة_الطريق", "a_very_long_name_" + "of_a_class" * 12, "sky")

COLOURS = ((91, 72, 108), (255, 255, 255), (0, 0, 0), (226, 20, 62), (120, 187, 255))

TAXONOMY = Taxonomy("odd", 7, tuple(RoadClass(name, colour) for name, colour in zip(NAMES, COLOURS, strict=True)))

LICENCE = "research use only <b>here</b>"

HEADER = ModelHeader(
    Architecture("fake", "fake", NUM_CLASSES), TAXONOMY, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), weights_licence=LICENCE
)

IN_TEXT = '((bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")))'
"""Bytes for `numbers`: playwright takes long for each number of an array."""

PICTURE = f"""([x, y, width, height]) =>
  {IN_TEXT}(document.getElementById("canvas").getContext("2d").getImageData(x, y, width, height).data)"""

TRANSFER = """(files) => {
  const transfer = new DataTransfer();
  for (const [data, name] of files) {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  return transfer;
}"""

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def numbers(text, *shape):
    """What a page sent as `IN_TEXT`."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def confidence_of(pixels):
    """The confidence of the fake network: (..., 3) uint8 -> (...) float32, in hundredths."""
    return (pixels.astype(int).sum(-1) % 101 / 100).astype(np.float32)


class PageEngine(FakeEngine):
    """A network that gives confidences, too."""

    def run(self, images, outputs, *, rescale=True):
        assert set(outputs) <= {"mask", "confidence"}
        self.calls += 1
        return {name: {"mask": mask_of, "confidence": confidence_of}[name](images) for name in outputs}


def predictor():
    return Predictor(PageEngine(), HEADER, DIGEST)


@dataclass
class Visit:
    """A page that is open, and what it did."""

    page: object
    url: str
    errors: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def choose(self, data, name="scene.png"):
        """Give it a file, and wait for the mask."""
        self.page.evaluate("() => { delete document.body.dataset.shown; }")  # of an image before
        self.page.locator("#file").set_input_files({"name": name, "mimeType": "", "buffer": data})
        self.wait()

    def wait(self):
        self.page.locator("body[data-shown=mask]").wait_for()

    def transfer(self, *files):
        """A handle of the DataTransfer that a drop or a paste of these (data, name) has."""
        return self.page.evaluate_handle(TRANSFER, [[base64.b64encode(data).decode(), name] for data, name in files])

    def drawn(self, height, width):
        """(height, width, 3) uint8: the middle of the canvas, where a small picture lies at 100 %."""
        self.page.evaluate(SETTLED)
        canvas = self.page.evaluate("() => [canvas.width, canvas.height]")
        left, top = ((room - side + 1) // 2 for room, side in zip(canvas, (width, height), strict=True))
        return numbers(self.page.evaluate(PICTURE, [left, top, width, height]), height, width, 4)[..., :3]

    def assert_drawn(self, expected, tolerance=0):
        """The canvas shows these pixels (H, W, 3) at 100 %; painting takes a moment."""
        self.page.locator("#zoom-full").click()
        self.page.mouse.move(0, 0)
        deadline = time.monotonic() + 10
        while (off := self._off(expected)) > tolerance and time.monotonic() < deadline:
            time.sleep(0.05)
        assert off <= tolerance, f"a pixel is off by {off}"

    def _off(self, expected):
        return int(np.abs(self.drawn(*expected.shape[:2]).astype(int) - np.round(expected)).max())


def blended(pixels, opacity=0.5, hidden=()):
    """The picture under the colours of the fake network's classes, (H, W, 3) float."""
    mask = mask_of(pixels)
    weight = np.where(np.isin(mask, hidden), 0, opacity)[..., None]
    return pixels * (1 - weight) + np.array(COLOURS)[mask] * weight


@pytest.fixture(scope="module")
def chromium():
    """A headless browser; of a module, since a test that runs an event loop cannot run while playwright's does."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    executable, reason = find_chromium()
    if executable is None:
        pytest.skip(reason)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_service():
    with running(predictor, max_pixels=25_000_000, max_body_bytes=4_000_000) as started:
        yield started


class Tab:
    """A tab that one page after another is opened in, which is cheaper than a new one each."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.visit = None
        self.page.on("console", lambda message: message.type == "error" and self.visit.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.visit.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.visit.errors.append("a dialog opened"), dialog.dismiss()))
        self.context.on("request", lambda request: self.visit.requests.append(request.url))

    @contextmanager
    def open(self, url, wait=True):
        """The page of a service; at the end, nothing may have gone wrong in it or gone elsewhere."""
        self.visit = visit = Visit(self.page, url.rstrip("/"))
        self.page.goto(visit.url + "/")
        if wait:
            self.page.get_by_text("Ready: fake-nano").wait_for()
        yield visit
        # What the browser itself notes of an answer that is an error, and of none, is what some tests are about.
        assert [text for text in visit.errors if not text.startswith("Failed to load resource")] == []
        assert {url for url in visit.requests if not url.startswith((visit.url + "/", "blob:" + visit.url))} == set()

    def clear(self):
        """Forget what a test left behind."""
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.evaluate("() => sessionStorage.clear()")


@contextmanager
def visiting(chromium, url, wait=True, **options):
    """Open the page of a service in a tab of its own."""
    tab = Tab(chromium, **options)
    try:
        with tab.open(url, wait) as visit:
            yield visit
    finally:
        tab.context.close()


@pytest.fixture(scope="module")
def tab(chromium):
    made = Tab(chromium)
    yield made
    made.context.close()


@pytest.fixture
def visit(tab, page_service):
    try:
        with tab.open(str(page_service.client.base_url)) as opened:
            yield opened
    finally:
        tab.clear()
