"""What requests leave behind, above all those that fail."""

import gc
import logging
import platform
import socket
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from raw_http import connect, request
from service_asserts import assert_problem, mask_in
from service_corpus import jpeg, png, scene
from service_running import eventually, running

from roadseg_service import pipeline, upload
from roadseg_service.scheduling.giving_back import give_back_freed
from roadseg_service.settings import BYTES_PER_PIXEL


@contextmanager
def without_garbage_collection():
    """Nothing but the end of its last use ends an object."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def decoded(monkeypatch):
    """Weak references to the pixels of all images that were decoded."""
    references, decode = [], upload.decode_inspected

    def noted(*arguments, **options):
        image = decode(*arguments, **options)
        references.append(weakref.ref(image.pixels))
        return image

    monkeypatch.setattr(upload, "decode_inspected", noted)
    return references


def alive(references):
    return sum(reference() is not None for reference in references)


def post(service, data=None, **options):
    return service.client.post("/segment", content=data or png(), **options)


def fails_in_the_network(service):
    service.engine.failure = RuntimeError  # a new one for each
    assert_problem(post(service), 500, "prediction-failed")


def runs_out_of_memory(service):
    service.engine.failure = MemoryError
    assert_problem(post(service), 503, "out-of-memory")


def fails_in_encoding(service):
    from roadseg.inference.result import SegmentationResult

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationResult, "png", lambda self: 1 / 0)
        assert post(service).status_code == 500


def succeeds(service):
    assert mask_in(post(service)).shape == (24, 40)


def succeeds_with_json(service):
    assert post(service, headers={"Accept": "application/json"}).status_code == 200


def expires(service):
    service.engine.gate.clear()
    assert_problem(post(service), 504, "deadline-exceeded")
    service.engine.gate.set()
    eventually(lambda: service.admission.held_bytes == 0, "the end of what ran")


def leaves(service):
    service.engine.gate.clear()
    service.engine.entered.clear()
    with connect(service.port) as leaving:
        leaving.sendall(request("POST", "/segment", body=png()))
        assert service.engine.entered.wait(30)
    eventually(lambda: service.admission.accepted == 0, "its end")
    service.engine.gate.set()
    eventually(lambda: service.admission.held_bytes == 0, "the end of what ran")


@pytest.mark.parametrize(
    "act",
    [fails_in_the_network, runs_out_of_memory, fails_in_encoding, succeeds, succeeds_with_json, expires, leaves],
)
def test_no_image_outlives_its_request(decoded, act):
    with running(deadline_s=0.5 if act is expires else 30) as service:
        with without_garbage_collection():
            for _ in range(3):
                act(service)
            eventually(lambda: alive(decoded) == 0, "the images to go")
        assert len(decoded) == 3
        assert (service.admission.tickets, service.admission.accepted, service.admission.held_bytes) == (0, 0, 0)


def resident_bytes():
    import psutil

    return psutil.Process().memory_info().rss


def test_three_hundred_failing_requests_leave_memory_as_it_was(monkeypatch):
    pytest.importorskip("psutil")
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest keeps all records, and with them the errors
    with running(max_pixels=4_000_000) as service, ThreadPoolExecutor(4) as clients:
        service.engine.failure = RuntimeError  # a new one for each
        good, torn = jpeg(scene(700, 1000)), jpeg(scene(700, 1000))[:9_000]  # 2.1 MB of pixels

        def fail(i):
            return post(service, torn if i % 3 == 0 else good).status_code

        def fail_often(count):
            assert set(clients.map(fail, range(count))) == {422, 500}
            return resident_bytes()

        before = fail_often(40)
        after = fail_often(300)
        assert after - before < 60_000_000  # 200 images would be 420 MB
        assert service.admission.held_bytes == 0


def test_uploads_that_together_exceed_the_memory_are_refused_and_it_is_all_given_back():
    bound = 20_000_000
    with running(max_held_bytes=bound) as service, ExitStack() as stack:
        others = [stack.enter_context(connect(service.port)) for _ in range(6)]
        for other in others:
            other.sendall(request("POST", "/segment", "Content-Length: 2000000") + bytes(1_500_000))
        eventually(lambda: service.admission.held_bytes == 9_000_000, "their bytes")
        response = post(service, bytes(1_900_000))
        assert_problem(response, 429, "queue-full", "bytes of memory", f"of the {bound // 2}")
        assert int(response.headers["Retry-After"]) >= 1
        assert mask_in(post(service, png(scene(500, 500)))).shape == (500, 500)  # 3 MB, which uploads leave
        for other in others:
            other.close()
        eventually(lambda: service.admission.held_bytes == 0, "the memory")
        succeeds(service)
        assert service.admission.refused["memory"] >= 1


def test_an_image_that_others_leave_no_memory_for_is_refused_before_it_is_decoded(decoded):
    with running(max_held_bytes=4_000_000 + BYTES_PER_PIXEL * 1_000_000) as service, ThreadPoolExecutor(1) as client:
        service.engine.gate.clear()
        first = client.submit(post, service, png(scene(900, 1000)))
        assert service.engine.entered.wait(30)
        assert_problem(
            post(service, png(scene(800, 900))), 429, "queue-full", f"needs {BYTES_PER_PIXEL * 720_000} bytes"
        )
        assert len(decoded) == 1
        service.engine.gate.set()
        assert mask_in(first.result()).shape == (900, 1000)
        assert mask_in(post(service, png(scene(800, 900)))).shape == (800, 900)


def test_the_file_that_is_cut_from_a_form_is_counted_beside_the_body():
    with running() as service, ThreadPoolExecutor(1) as client:
        service.engine.gate.clear()
        data = png()
        files = {"file": ("a.png", data)}
        body = service.client.build_request("POST", "/segment", files=files).read()
        held = client.submit(service.client.post, "/segment", files=files)
        assert service.engine.entered.wait(30)
        assert service.admission.held_bytes == 2 * len(body) + BYTES_PER_PIXEL * 24 * 40
        service.engine.gate.set()
        assert mask_in(held.result()).shape == (24, 40)


def test_what_a_burst_of_large_images_left_is_given_back_when_nothing_is_left_to_do(monkeypatch):
    trimmed = threading.Event()
    monkeypatch.setattr(pipeline, "give_back_freed", trimmed.set)
    monkeypatch.setattr(pipeline, "WORTH_BYTES", BYTES_PER_PIXEL * 500 * 500)
    with running() as service:
        succeeds(service)
        assert mask_in(post(service, png(scene(300, 300)))).shape == (300, 300)
        assert not trimmed.is_set()
        assert mask_in(post(service, png(scene(500, 500)))).shape == (500, 500)
        assert trimmed.wait(30)


@pytest.mark.skipif(sys.platform != "linux", reason="the process' numbers are read from /proc")
def test_freed_memory_goes_back_to_the_system():
    pytest.importorskip("psutil")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("it is glibc that keeps it")
    blocks = [bytearray(100_000) for _ in range(3000)]  # small ones, which glibc does not map one by one
    before = resident_bytes()
    keep = blocks[-1]
    del blocks
    give_back_freed()
    assert before - resident_bytes() > 200_000_000
    assert len(keep) == 100_000


def test_what_is_refused_gives_its_memory_back(service):
    for data, status in [(b"GIF89a nonsense", 415), (png()[:300], 422), (b"\xff\xd8\xff" + bytes(100), 422)]:
        assert post(service, data).status_code == status
    assert post(service, headers={"Content-Type": "text/html"}).status_code == 415
    with socket.create_connection(("127.0.0.1", service.port)) as leaving:
        leaving.sendall(request("POST", "/segment", "Content-Length: 100") + b"abc")
        eventually(lambda: service.admission.held_bytes == 3, "the upload")
    eventually(lambda: service.admission.held_bytes == service.admission.tickets == 0, "its end")
