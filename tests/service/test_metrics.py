"""/metrics against counts made by hand."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from service_asserts import mask_in
from service_corpus import jpeg, png, scene
from service_running import DIGEST, eventually, running

import roadseg
from roadseg_service.access import key_file


@pytest.fixture
def service():
    with running() as started:
        yield started


def scrape(service):
    """Every sample: (name, labels without their order) -> value."""
    text = service.client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(samples, name, /, **labels):
    return samples.get((name, frozenset(labels.items())), None)


def total(samples, name, /, **labels):
    """The sum of the samples with these labels, whatever their others."""
    return sum(v for (n, have), v in samples.items() if n == name and frozenset(labels.items()) <= have)


def test_requests_by_route_method_and_status(service):
    client = service.client
    for _ in range(3):
        assert client.post("/segment", content=png()).status_code == 200
    client.post("/segment", content=b"not an image")
    client.get("/segment")
    client.get("/livez")
    for path in ("/nothing", "/segment/", "/..%2fetc/passwd", "/v1/models/x", "/" + "a" * 500):
        client.get(path)
    client.request("BREW", "/segment")
    samples = scrape(service)

    def count(route, method, status):
        return value(samples, "roadseg_requests_total", route=route, method=method, status=status)

    assert count("/segment", "POST", "200") == 3
    assert count("/segment", "POST", "415") == 1
    assert count("/segment", "GET", "405") == 1
    assert count("/segment", "other", "405") == 1
    assert count("/livez", "GET", "200") == 1
    assert count("other", "GET", "404") == 5
    assert total(samples, "roadseg_requests_total", route="/segment") == 6
    assert {dict(labels)["route"] for name, labels in samples if name == "roadseg_requests_total"} == {
        "/segment",
        "/livez",
        "/readyz",
        "other",
    }


def test_strangers_cannot_grow_the_number_of_series(service):
    """A label's value is kept for ever: a scanner's paths and methods must not become values."""
    service.client.get("/nothing")
    before = {name for name in scrape(service) if name[0] == "roadseg_requests_total"}
    for i in range(50):
        service.client.request(f"METHOD{i}", f"/path/{i}?query={i}", headers={"X-Request-ID": str(i)})
    after = {name for name in scrape(service) if name[0] == "roadseg_requests_total"}
    assert len(after - before) <= 2  # the other method, and /metrics itself


def test_refusals_by_reason(service):
    client = service.client
    assert value(scrape(service), "roadseg_rejections_total", reason="queue-full") == 0  # there from the beginning
    for _ in range(2):
        client.post("/segment", content=b"GIF89a")
    client.post("/segment", content=b"x", headers={"Content-Type": "text/plain"})
    client.post("/segment?colour=red", content=png())
    client.post("/segment", content=bytes(2_000_001))
    client.get("/nothing")
    service.engine.failure = RuntimeError("broken")
    client.post("/segment", content=png())
    samples = scrape(service)
    reasons = {
        dict(labels)["reason"]: count
        for (name, labels), count in samples.items()
        if name == "roadseg_rejections_total" and count
    }
    assert reasons == {
        "unsupported-image": 2,
        "unsupported-content-type": 1,
        "invalid-parameter": 1,
        "body-too-large": 1,
        "http-404": 1,
        "prediction-failed": 1,
    }


def test_phases_and_batches(service):
    for size in ((24, 40), (24, 40), (50, 30)):
        assert service.client.post("/segment", content=jpeg(scene(*size))).status_code == 200
    samples = scrape(service)
    for phase in ("upload", "decode", "queue", "network", "encode", "total"):
        assert value(samples, "roadseg_phase_seconds_count", phase=phase) == 3, phase
    steps = sum(
        value(samples, "roadseg_phase_seconds_sum", phase=phase)
        for phase in ("upload", "decode", "queue", "network", "encode")
    )
    assert 0 < steps <= value(samples, "roadseg_phase_seconds_sum", phase="total")
    assert value(samples, "roadseg_batch_size_count") == 3
    assert value(samples, "roadseg_batch_size_sum") == 3
    assert value(samples, "roadseg_batch_size_bucket", le="1.0") == 3
    edges = [dict(labels)["le"] for name, labels in samples if name == "roadseg_batch_seconds_bucket"]
    assert min(float(edge) for edge in edges) == 0.001
    assert sorted(float(edge) for edge in edges)[-2:] == [60.0, float("inf")]


def test_files_of_a_batch(service):
    files = [("files", ("a.png", png())), ("files", ("b.png", b"GIF89a")), ("files", ("c.png", png(scene(30, 20))))]
    assert service.client.post("/segment/batch", files=files).status_code == 200
    samples = scrape(service)
    assert value(samples, "roadseg_requests_total", route="/segment/batch", method="POST", status="200") == 1
    assert value(samples, "roadseg_batch_file_rejections_total", reason="unsupported-image") == 1
    assert total(samples, "roadseg_batch_file_rejections_total") == 1
    assert total(samples, "roadseg_rejections_total") == 0
    for phase, count in (("upload", 1), ("decode", 3), ("network", 2), ("encode", 2), ("total", 1)):
        assert value(samples, "roadseg_phase_seconds_count", phase=phase) == count, phase
    assert value(samples, "roadseg_batch_size_sum") == 2


def test_a_known_wait_is_in_its_bucket(service):
    """A network that takes 0.3 s: the sample lies between the bucket's edges of 0.25 s and a slow machine's."""
    service.engine.gate.clear()
    with ThreadPoolExecutor(1) as other:
        url = f"{service.client.base_url}/segment"
        request = other.submit(httpx.post, url, content=png(), timeout=60, trust_env=False)
        assert service.engine.entered.wait(30)
        time.sleep(0.3)
        service.engine.gate.set()
        assert request.result().status_code == 200
    samples = scrape(service)
    for name, labels in (("roadseg_phase_seconds", {"phase": "network"}), ("roadseg_batch_seconds", {})):
        assert value(samples, f"{name}_bucket", le="0.25", **labels) == 0
        assert value(samples, f"{name}_bucket", le="60.0", **labels) == 1
        assert value(samples, f"{name}_sum", **labels) >= 0.3


def test_load_while_the_network_is_held():
    with running(max_queued=7, max_batch=1) as service, ThreadPoolExecutor(3) as others:
        service.engine.gate.clear()
        url = f"{service.client.base_url}/segment"
        held = [others.submit(httpx.post, url, content=png(), timeout=60, trust_env=False) for _ in range(3)]
        eventually(lambda: value(scrape(service), "roadseg_queue_depth") == 2, "one at work and two that wait")
        samples = scrape(service)
        assert value(samples, "roadseg_places_taken") == 3
        assert value(samples, "roadseg_places") == 7
        assert value(samples, "roadseg_requests_in_flight") == 4  # and this one
        assert value(samples, "roadseg_held_bytes") == service.admission.held_bytes > 3 * len(png())
        assert value(samples, "roadseg_held_bytes_limit") == service.admission.max_bytes
        service.engine.gate.set()
        assert all(mask_in(request.result()).shape == (24, 40) for request in held)
        eventually(lambda: value(scrape(service), "roadseg_places_taken") == 0, "the places")
        samples = scrape(service)
        assert value(samples, "roadseg_queue_depth") == value(samples, "roadseg_held_bytes") == 0
        assert value(samples, "roadseg_requests_in_flight") == 1


def test_model_build_and_process(service):
    samples = scrape(service)
    labels = {"engine": "fake", "device": "none", "precision": "exact", "taxonomy": "five/3"}
    assert value(samples, "roadseg_model_info", role="active", name="fake-nano", digest=DIGEST, **labels) == 1
    assert value(samples, "roadseg_build_info", version=roadseg.__version__) == 1
    assert value(samples, "roadseg_ready") == 1
    assert value(samples, "roadseg_draining") == value(samples, "roadseg_model_loading") == 0
    assert value(samples, "roadseg_model_changes_total", trigger="start", outcome="succeeded") == 1
    service.app.state.service.lifecycle.drain(1)
    samples = scrape(service)
    assert (value(samples, "roadseg_ready"), value(samples, "roadseg_draining")) == (0, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the process' numbers are read from /proc")
def test_memory_and_start_of_the_process(service):
    samples = scrape(service)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    import resource

    assert value(samples, "process_resident_memory_bytes") == pytest.approx(pages * resource.getpagesize(), rel=0.2)
    assert 0 < time.time() - value(samples, "process_start_time_seconds") < 24 * 3600


def test_before_the_model_is_loaded():
    def load():
        raise RuntimeError("never")

    with running(load, wait_until_ready=False) as service:
        eventually(
            lambda: value(scrape(service), "roadseg_model_changes_total", trigger="start", outcome="failed") == 1,
            "the failure",
        )
        samples = scrape(service)
        assert value(samples, "roadseg_ready") == 0
        assert not any(name == "roadseg_model_info" for name, _ in samples)


def test_a_file_of_keys_that_went_wrong_is_told_also_while_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(key_file, "LOOK_EVERY_S", 0.0)
    keys = tmp_path / "keys"
    keys.write_text("someone:user:a-key-for-tests-only\n")
    keys.chmod(0o600)
    with running(api_keys_file=str(keys)) as service:
        states = []
        for text in ("someone:user:a-key-for-tests-only\n", "nonsense", "someone:user:another-key-for-tests\n"):
            keys.write_text(text)
            states.append(value(scrape(service), "roadseg_keys_file_ok"))
        assert states == [1, 0, 1]


def test_two_services_of_one_process_count_apart(service):
    with running() as other:
        other.client.post("/segment", content=png())
        assert total(scrape(other), "roadseg_requests_total", route="/segment") == 1
        assert total(scrape(service), "roadseg_requests_total", route="/segment") == 0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (  # what Prometheus 3 sends
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("application/openmetrics-text;version=x;q=1", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_formats(service, accept, kind):
    answer = service.client.get("/metrics", headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
    families = list((parse_openmetrics if "openmetrics" in kind else parse_text)(answer.text))
    assert {"roadseg_requests", "roadseg_queue_depth"} <= {family.name for family in families}
    assert answer.text.endswith("# EOF\n") == ("openmetrics" in kind)


def test_the_devices_memory_is_told_where_torch_has_it(monkeypatch):
    class Cuda:
        @staticmethod
        def mem_get_info(device):
            assert device == "cuda:0"
            return 30, 100

        @staticmethod
        def memory_reserved(device):
            return 20

        @staticmethod
        def memory_allocated(device):
            return 7

    with running() as service:
        service.engine.device = "cuda:0"
        monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": Cuda}))
        samples = scrape(service)
        found = {
            dict(labels)["kind"]: count
            for (name, labels), count in samples.items()
            if name == "roadseg_device_memory_bytes" and dict(labels)["device"] == "cuda:0"
        }
        assert found == {"total": 100, "used": 70, "reserved": 20, "allocated": 7}
        monkeypatch.delitem(sys.modules, "torch")
        assert not any(name == "roadseg_device_memory_bytes" for name, _ in scrape(service))
        assert "torch" not in sys.modules  # reading the metrics does not load it


def test_refusals_for_lack_of_places():
    with running(max_queued=1) as service, ThreadPoolExecutor(1) as other:
        service.engine.gate.clear()
        url = f"{service.client.base_url}/segment"
        held = other.submit(httpx.post, url, content=png(), timeout=60, trust_env=False)
        eventually(lambda: service.admission.accepted == 1, "the place")
        for _ in range(2):
            assert service.client.post("/segment", content=png()).status_code == 429
        service.engine.gate.set()
        assert held.result().status_code == 200
        samples = scrape(service)
    found = {short: value(samples, "roadseg_queue_full_total", short=short) for short in ("places", "time", "memory")}
    assert found == {"places": 2, "time": 0, "memory": 0}
    assert value(samples, "roadseg_rejections_total", reason="queue-full") == 2
