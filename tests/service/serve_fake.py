"""Serves the fake network: `python serve_fake.py PORT DRAIN_S GRACEFUL_S SECONDS_EACH [loading|hanging|logging]`.

For tests of signals, which only the main thread of a process has; it needs no torch, so that it starts at once.
"""

import sys
import threading
import time

from service_running import DIGEST, HEADER, FakeEngine

from roadseg.inference.predictor import Predictor
from roadseg_service import ServiceSettings, create_app
from roadseg_service.observing.logs import configure_logs
from roadseg_service.serve import listen, serve, url_of


class SlowEngine(FakeEngine):
    """Takes the same time for every batch, after the one that warms it up."""

    def __init__(self, seconds, hangs):
        super().__init__()
        self.seconds = seconds
        self.hangs = hangs

    def run(self, images, outputs, *, rescale=True):
        if self.calls:
            time.sleep(1000 if self.hangs else self.seconds)
        return super().run(images, outputs, rescale=rescale)


def main(port, drain_s, graceful_s, seconds, what=""):
    settings = ServiceSettings(
        model="/models/fake.safetensors", drain_s=drain_s, graceful_shutdown_s=graceful_s, max_batch=1
    )

    def load():
        if what == "loading":
            threading.Event().wait()
        return Predictor(SlowEngine(float(seconds), what == "hanging"), HEADER, DIGEST)

    listener = listen("127.0.0.1", int(port))
    print(url_of(listener), flush=True)
    if what == "logging":
        configure_logs("json", "debug")
    serve(create_app(settings, load), settings, listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
