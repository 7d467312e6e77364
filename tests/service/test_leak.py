"""Nobody ever gets what belongs to another request."""

import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from service_asserts import mask_in
from service_corpus import jpeg, png, scene, webp
from service_running import DIGEST, HEADER, FakeEngine, eventually, running

from roadseg.inference.predictor import Predictor

CLIENTS = 16


def corpus():
    """Uploads and the masks that the predictor itself gives for them; None for what it refuses."""
    predictor = Predictor(FakeEngine(), HEADER, DIGEST)
    sizes = [(24, 40), (40, 24), (24, 41), (90, 120), (33, 7), (1, 1), (200, 150)]
    made = [(png, jpeg, webp)[seed % 3](scene(*size, seed=seed)) for size in sizes for seed in range(9)]
    good = [(data, predictor(data).mask) for data in made]
    bad = [(data, None) for data in (b"", b"<svg/>", b"GIF89a" + bytes(50), made[0][:60], made[1][: len(made[1]) // 2])]
    return good + 3 * bad


def mask_in_json(response):
    assert response.status_code == 200, response.text
    entries = response.json()["classes"]
    return sum(entry["id"] * coco_mask.decode(entry["rle"]).astype(int) for entry in entries)


def compare(client, data, expected, rng):
    wants_json, as_form = rng.random() < 0.5, rng.random() < 0.5
    headers = {"Accept": "application/json" if wants_json else "image/png"}
    body = {"files": {"file": data}} if as_form else {"content": data}
    response = client.post("/segment", headers=headers, **body)
    if expected is None:
        assert 400 <= response.status_code < 500, response.text
        return
    np.testing.assert_array_equal((mask_in_json if wants_json else mask_in)(response), expected)


def ask(service, uploads, seed, count):
    rng = random.Random(seed)
    with httpx.Client(base_url=service.client.base_url, timeout=60, trust_env=False) as client:
        for _ in range(count):
            compare(client, *rng.choice(uploads), rng)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"max_batch": 1}, {"max_batch": 8, "batch_wait_ms": 5}])
def test_two_thousand_mixed_requests_from_sixteen_clients_get_their_own_answers(settings):
    uploads = corpus()
    with running(max_queued=64, **settings) as service, ThreadPoolExecutor(CLIENTS) as clients:
        asked = clients.map(lambda seed: ask(service, uploads, seed, 125), range(CLIENTS))
        assert sum(asked) == 2000
        eventually(lambda: service.admission.held_bytes == service.admission.tickets == 0, "the end of all")


def test_a_hundred_and_sixty_mixed_requests_from_sixteen_clients_get_their_own_answers():
    uploads = corpus()
    with running(max_queued=64, batch_wait_ms=5) as service, ThreadPoolExecutor(CLIENTS) as clients:
        assert sum(clients.map(lambda seed: ask(service, uploads, seed, 10), range(CLIENTS))) == 160
        eventually(lambda: service.admission.held_bytes == service.admission.tickets == 0, "the end of all")
