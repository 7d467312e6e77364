"""Running the service in a thread on a free loopback port, with a network whose answers can be computed by hand."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from service_corpus import NUM_CLASSES, mask_of

from roadseg.inference.package import Architecture, ModelHeader
from roadseg.inference.predictor import Predictor
from roadseg.taxonomy import RoadClass, Taxonomy
from roadseg_service import ServiceSettings, create_app
from roadseg_service.serve import listen, make_server, url_of
from roadseg_service.server import DrainingServer

DIGEST = "ab" * 32

TAXONOMY = Taxonomy("five", 3, tuple(RoadClass(f"class_{i}", (10 * i, 20 * i, 30 * i)) for i in range(NUM_CLASSES)))

HEADER = ModelHeader(
    Architecture("fake", "fake", NUM_CLASSES), TAXONOMY, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), weights_licence="CC0-1.0"
)


class FakeEngine:
    """A network whose class ids follow from the colours; tests may hold it or make it fail."""

    name = "fake"
    device = "none"
    precision = "exact"
    special_sizes = 0
    batches = True
    streams = 1

    def __init__(self):
        self.calls = 0
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.failure = None
        self.busy = threading.Lock()

    def run(self, images, outputs, *, rescale=True):
        assert self.busy.acquire(blocking=False), "two forward passes at once"
        try:
            self.calls += 1
            self.entered.set()
            assert self.gate.wait(30)
            if self.failure is not None:
                raise self.failure
            assert tuple(outputs) == ("mask",), "nothing else is computed"
            return {"mask": mask_of(images)}
        finally:
            self.busy.release()


@dataclass
class Running:
    """A running service."""

    client: httpx.Client
    engine: FakeEngine
    app: object
    port: int
    server: DrainingServer

    @property
    def pipeline(self):
        return self.app.state.service.pipeline

    @property
    def admission(self):
        return self.pipeline.admission


def eventually(condition, what):
    """Wait for something that must happen; the bound is only there to end a failing test."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@contextmanager
def running(load=None, *, open_model=None, tracing=None, wait_until_ready=True, **settings):
    engine = FakeEngine()
    values = {"model": "/models/fake-nano.safetensors", "max_body_bytes": 2_000_000, "max_pixels": 1_000_000}
    values |= {"graceful_shutdown_s": 1}
    chosen = ServiceSettings(**{**values, **settings})
    app = create_app(chosen, load or (lambda: Predictor(engine, HEADER, DIGEST)), open_model, tracing)
    listener = listen("127.0.0.1", 0)
    server = make_server(app, chosen, lifespan="on")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    url, port = url_of(listener), listener.getsockname()[1]
    thread.start()
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            if wait_until_ready:
                eventually(lambda: client.get("/readyz").status_code == 200, "the model")
                engine.calls = 0  # the pass that warmed it up was one
                engine.entered.clear()
            yield Running(client, engine, app, port, server)
    finally:
        engine.gate.set()
        server.should_exit = True
        thread.join(30)
