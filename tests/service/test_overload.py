"""Five times as much as the service can do, for a while, and clients that leave at random."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from raw_http import connect, request
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import eventually, running

SECONDS_EACH, DEADLINE_S, LASTS_S = 0.05, 2.0, 20


@dataclass
class Outcomes:
    """What became of all requests."""

    seconds: list = field(default_factory=list)
    refused: int = 0
    left: int = 0
    other: list = field(default_factory=list)


def resident_bytes():
    import psutil

    return psutil.Process().memory_info().rss


@pytest.mark.slow
def test_overload_refuses_the_rest_at_once_and_keeps_its_promise_to_the_accepted(monkeypatch):
    pytest.importorskip("psutil")
    data, expected = png(scene(60, 80)), mask_of(scene(60, 80))
    outcomes, lock = Outcomes(), threading.Lock()

    with running(max_batch=1, deadline_s=DEADLINE_S, max_queued=1000) as service:
        real = service.engine.run

        def slow(images, outputs, *, rescale=True):
            time.sleep(SECONDS_EACH)
            return real(images, outputs, rescale=rescale)

        monkeypatch.setattr(service.engine, "run", slow)
        started = time.monotonic()
        ends = started + LASTS_S

        def leave():
            with connect(service.port) as leaving:
                leaving.sendall(request("POST", "/segment", body=data))
                time.sleep(random.random() * 0.2)
            outcomes.left += 1

        def ask(client):
            began = time.monotonic()
            response = client.post("/segment", content=data)
            took = time.monotonic() - began
            with lock:
                if response.status_code == 200:
                    np.testing.assert_array_equal(mask_in(response), expected)
                    outcomes.seconds.append(took)
                elif response.status_code == 429:
                    assert_problem(response, 429, "queue-full")
                    assert 1 <= int(response.headers["Retry-After"]) <= 3
                    outcomes.refused += 1
                else:
                    outcomes.other.append(f"{began - started:.2f} s: {response.text}")

        def client(number):
            # 100 requests a second together, where 20 can be served; each client asks on at its time or when it can.
            with httpx.Client(base_url=service.client.base_url, timeout=60, trust_env=False) as own:
                due = time.monotonic() + random.random()
                while (now := time.monotonic()) < ends:
                    time.sleep(max(0.0, due - now))
                    due += 0.6
                    if number % 20 == 0:
                        leave()
                    else:
                        ask(own)

        with ThreadPoolExecutor(60) as clients:
            asking = [clients.submit(client, number) for number in range(60)]
            time.sleep(LASTS_S / 4)
            before = resident_bytes()
            time.sleep(LASTS_S / 2)
            after = resident_bytes()
            for future in asking:
                future.result()
        eventually(lambda: service.admission.tickets == service.admission.held_bytes == 0, "the end of all")
        assert service.admission.accepted == 0

    assert not outcomes.other, outcomes.other[:3]
    assert np.percentile(outcomes.seconds, 99) <= DEADLINE_S
    assert len(outcomes.seconds) > 0.5 * LASTS_S / SECONDS_EACH  # it did its work all the while
    assert outcomes.refused > len(outcomes.seconds)
    assert outcomes.left > 10
    assert after - before < 20_000_000
