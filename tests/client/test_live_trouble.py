"""The client against a service that is scored, closed, full, and changes its model."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from roadseg.client import Client
from roadseg.errors import ServiceAccessError, ServiceBusyError

KEY = "fleet-key-0123456789"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("access") / "keys"
    path.write_text(f"fleet:user:sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    path.chmod(0o600)
    return str(path)


def client_of(service, **options):
    return Client(f"http://127.0.0.1:{service.port}", **options)


def test_confidences_are_the_predictors_within_half_a_step():
    from service_corpus import scene
    from service_running import running
    from service_scored import scored_predictor

    expected = scored_predictor()(scene(), confidence=True)
    with running(scored_predictor) as service, client_of(service) as client:
        result = client.segment(scene(), confidence=True)
        unsure = client.segment(scene(), min_confidence=0.4)
        both = client.segment(scene(), confidence=True, min_confidence=0.4, classes=[2])
    np.testing.assert_array_equal(result.mask, expected.mask)
    np.testing.assert_allclose(result.confidence, expected.confidence, atol=0.5 / 255 + 1e-6)
    kept = np.where(expected.confidence < 0.4, 255, expected.mask)
    assert 0 < (kept == 255).mean() < 1
    np.testing.assert_array_equal(unsure.mask, kept)
    np.testing.assert_array_equal(both.mask, np.where(kept == 2, kept, 255))


def test_a_closed_service_wants_its_key(keys):
    from service_corpus import mask_of, scene
    from service_running import running

    with running(api_keys_file=keys) as service:
        with client_of(service, api_key=KEY) as client:
            np.testing.assert_array_equal(client.segment(scene()).mask, mask_of(scene()))
        for wrong in (None, "fleet-key-9876543210"):
            with client_of(service, api_key=wrong) as client, pytest.raises(ServiceAccessError, match="API key"):
                client.segment(scene())


def test_a_full_service_gets_all_its_images_in_the_end():
    from service_corpus import mask_of, scene
    from service_running import running

    images = [scene(seed=i) for i in range(30)]
    waits = []
    with running(max_queued=1) as service:
        with client_of(service, retries=1000, sleep=waits.append) as client:
            found = list(client.segment_many(images, concurrency=6))
    assert len(found) == 30 and waits, "some were refused on the way"
    for image, result in found:
        np.testing.assert_array_equal(result.mask, mask_of(image))


def test_a_rate_limit_is_waited_for_as_the_service_asks():
    from service_corpus import scene
    from service_running import running

    waits = []
    with running(rate_limit_requests_per_s=0.01, rate_limit_burst=2) as service:
        with client_of(service, retries=3, deadline_s=50) as client:
            client.segment(scene())  # and the list of models, which may count
            with pytest.raises(ServiceBusyError) as caught:
                [client.segment(scene()) for _ in range(3)]
        with client_of(service, retries=1, deadline_s=500, sleep=waits.append) as client:
            with pytest.raises(ServiceBusyError):
                client.segment(scene())
    assert caught.value.status == 429
    (wait,) = waits
    assert 50 < wait <= 100 + 0.5, "a request each hundred seconds"


def test_masks_and_models_stay_together_while_the_model_is_swapped(tmp_path):
    from service_corpus import mask_of, scene
    from service_models import USER_KEY, shifted, swapping

    with swapping(tmp_path) as swap, client_of(swap.service, api_key=USER_KEY) as client:

        def images():
            for i in range(40):
                if i == 20:
                    assert swap.change(1).status_code == 200
                yield scene(seed=i)

        found = list(client.segment_many(images(), concurrency=4))
        digests = swap.digests
    assert {result.model_digest for _, result in found} == set(digests[:2])
    for image, result in found:
        np.testing.assert_array_equal(result.mask, shifted(mask_of(image), digests.index(result.model_digest)))


def test_a_real_interrupt_leaves_no_mask_without_its_row(service, tmp_path, monkeypatch):
    from service_corpus import jpeg, mask_of, rgb, scene

    engine, run = service.engine, service.engine.run

    def run_slowly(*args, **kwargs):
        time.sleep(0.1 if engine.calls > 10 else 0)  # so that the interrupt comes before the end
        return run(*args, **kwargs)

    monkeypatch.setattr(engine, "run", run_slowly)
    drive, output = tmp_path / "drive", tmp_path / "masks"
    drive.mkdir()
    for i in range(80):
        (drive / f"{i:03d}.jpg").write_bytes(jpeg(scene(200, 300, seed=i)))
    code = (
        "import signal, sys; from roadseg.client import Client\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's background leaves out
        "Client(sys.argv[1]).segment_folder(sys.argv[2], sys.argv[3], concurrency=3)"
    )
    command = [sys.executable, "-c", code, f"http://127.0.0.1:{service.port}", str(drive), str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(output.glob("*.png"))) < 5:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    monkeypatch.undo()
    rows = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()[1:]]
    there = {path.name for path in output.glob("*.png")}
    assert {row["mask"] for row in rows} == there and len(rows) == len(there) < 80
    with client_of(service) as client:
        summary = client.segment_folder(drive, output, resume=True)
    assert (summary.written, summary.skipped) == (80 - len(there), len(there))
    for path in drive.iterdir():
        mask = np.asarray(Image.open(output / f"{path.stem}.png"))
        np.testing.assert_array_equal(mask, mask_of(rgb(path.read_bytes())))
