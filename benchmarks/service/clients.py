"""Clients of a segmentation server, in a process of their own: prints what they met as JSON.

    python -m benchmarks.service.clients http://127.0.0.1:8000/segment --files drive --clients 16 --seconds 10

Each client sends the next image as soon as it has its answer; with `--rate`, images are sent at that rate instead,
whatever the answers do, each by the first client that is free. Standard library alone, and each client one thread with
one connection, so that little of the machine goes to the clients.
"""

import argparse
import http.client
import json
import queue
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

BOUNDARY = "benchmark-boundary"
ANSWER_TIMEOUT_S = 120.0


@dataclass
class Met:
    """What clients met: seconds of each request by status, and Retry-After by value."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    retry_after: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, status: int, taken: float, retry_after: str | None) -> None:
        """Count an answer."""
        with self.lock:
            self.seconds.setdefault(status, []).append(taken)
            if status in (429, 503, 504):
                self.retry_after["none" if retry_after is None else retry_after] += 1

    def loss(self, error: Exception) -> None:
        """Count a request without an answer."""
        with self.lock:
            self.lost[type(error).__name__] += 1

    def summary(self, elapsed_s: float) -> dict[str, Any]:
        """For JSON."""
        good = np.array(self.seconds.get(200, [0.0]))
        return {
            "elapsed_s": elapsed_s,
            "statuses": {str(status): len(taken) for status, taken in sorted(self.seconds.items())},
            "lost": dict(self.lost),
            "retry_after": dict(self.retry_after),
            "images_per_s": len(self.seconds.get(200, [])) / elapsed_s,
            "p50_s": float(np.percentile(good, 50)),
            "p99_s": float(np.percentile(good, 99)),
            "max_s": float(good.max()),
        }


class Client:
    """One connection, opened anew where the server closed it.

    Args:
        url: of the route.
        field_name: of the form, or None to send the image as the body.
    """

    def __init__(self, url: str, field_name: str | None) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S)
        self._path = parts.path
        self._field = field_name

    def post(self, image: bytes, met: Met) -> None:
        """Send an image, and count what comes of it."""
        body, kind = (image, "image/jpeg") if self._field is None else (in_form(image, self._field), FORM)
        self._leave_closed()
        begun = time.perf_counter()
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": kind})
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            met.loss(error)
            return
        met.answer(response.status, time.perf_counter() - begun, response.getheader("Retry-After"))

    def _leave_closed(self) -> None:
        """Forget a connection that the server has closed while it was idle, as HTTP clients do before they use one."""
        opened = self._connection.sock
        if opened is not None and select.select([opened], [], [], 0)[0]:
            self._connection.close()


FORM = f"multipart/form-data; boundary={BOUNDARY}"


def in_form(image: bytes, field_name: str) -> bytes:
    """A form that holds one JPEG."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field_name}"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def closed_loop(clients: Sequence[Client], images: Sequence[bytes], seconds: float, met: Met) -> float:
    """Every client sends image after image; gives the seconds until the last answer."""
    begun = time.perf_counter()

    def run(index: int) -> None:
        sent = index
        while time.perf_counter() - begun < seconds:
            clients[index].post(images[sent % len(images)], met)
            sent += len(clients)

    _in_threads(run, len(clients))
    return time.perf_counter() - begun


def at_a_rate(
    clients: Sequence[Client], images: Sequence[bytes], seconds: float, rate: float, met: Met
) -> tuple[float, int]:
    """Images are due at a rate; gives the seconds until the last answer, and how many were due."""
    due: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    begun = time.perf_counter()

    def run(index: int) -> None:
        while (number := due.get()) is not None:
            clients[index].post(images[number % len(images)], met)

    def arrive() -> int:
        number = 0
        while (now := time.perf_counter() - begun) < seconds:
            while number < now * rate:
                due.put(number)
                number += 1
            time.sleep(0.002)
        for _ in clients:
            due.put(None)
        return number

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(clients))]
    for thread in threads:
        thread.start()
    count = arrive()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun, count


def _in_threads(run: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Send, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--files", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, help="images/s that are due, whatever the answers do")
    parser.add_argument("--field", help="send a form with the image in this field (default: the image as the body)")
    args = parser.parse_args()
    images = [path.read_bytes() for path in sorted(args.files.glob("*.jpg"))]
    clients, met = [Client(args.url, args.field) for _ in range(args.clients)], Met()
    if args.rate is None:
        print(json.dumps(met.summary(closed_loop(clients, images, args.seconds, met))))
        return
    elapsed, due = at_a_rate(clients, images, args.seconds, args.rate, met)
    print(json.dumps({"due": due, **met.summary(elapsed)}))


if __name__ == "__main__":
    main()
