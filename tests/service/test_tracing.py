"""Traces, with the SDK's own exporter in memory."""

import subprocess
import sys
from itertools import pairwise

import pytest
from service_corpus import png
from service_running import DIGEST, eventually, running

from roadseg.errors import ConfigError, MissingExtraError
from roadseg_service.observing.tracing import Tracing, make_tracing
from roadseg_service.settings import load_settings

export = pytest.importorskip(
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="pip install '.[tracing]' brings OpenTelemetry"
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in (*ENDPOINTS, "OTEL_SERVICE_NAME", "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


class Traced:
    """A service whose spans can be read."""

    def __init__(self, service, exporter, tracing):
        self.client = service.client
        self.engine = service.engine
        self._exporter = exporter
        self._tracing = tracing

    def spans(self, path):
        """The spans of the one request to a path, its own first, then those of its steps as they began."""

        def own():
            self._tracing._provider.force_flush()
            return [s for s in self._exporter.get_finished_spans() if s.attributes.get("url.path") == path]

        eventually(lambda: len(own()) == 1, "the request's span")
        (request,) = own()
        steps = [
            span
            for span in self._exporter.get_finished_spans()
            if span.parent is not None and span.parent.span_id == request.context.span_id
        ]
        return request, sorted(steps, key=lambda span: span.start_time)


@pytest.fixture
def traced():
    exporter = export.InMemorySpanExporter()
    tracing = Tracing(exporter)
    with running(tracing=tracing) as service:
        yield Traced(service, exporter, tracing)


def test_a_request_and_its_steps(traced):
    answer = traced.client.post("/segment", content=png(), headers={"X-Request-ID": "the-one"})
    request, steps = traced.spans("/segment")
    assert request.name == "POST /segment"
    assert request.kind.name == "SERVER"
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "url.path": "/segment",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "roadseg.request_id": "the-one",
        "http.route": "/segment",
        "http.request.body.size": len(png()),
        "http.response.body.size": len(answer.content),
        "http.response.status_code": 200,
        "roadseg.model.digest": DIGEST[:12],
    }
    assert request.resource.attributes["service.name"] == "roadseg"
    assert [step.name for step in steps] == ["upload", "decode", "queue", "network", "encode"]
    slack_ns = 1_000_000  # the request's own clock is the wall's
    assert request.start_time - slack_ns <= steps[0].start_time
    assert steps[-1].end_time <= request.end_time + slack_ns
    for one, following in pairwise(steps):
        assert one.end_time <= following.start_time + slack_ns, (one.name, following.name)
    assert {step.context.trace_id for step in steps} == {request.context.trace_id}


def test_the_clients_trace_is_taken_up(traced):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    traced.client.post("/segment", content=png(), headers=headers)
    request, steps = traced.spans("/segment")
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert all(f"{step.context.trace_id:032x}" == TRACE for step in steps)


@pytest.mark.parametrize(
    "given", ["", "x", "00-zz-zz-01", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", "-" * 9000]
)
def test_what_is_no_trace_begins_a_new_one(traced, given):
    assert traced.client.post("/segment", content=png(), headers={"traceparent": given}).status_code == 200
    request, _ = traced.spans("/segment")
    assert request.parent is None


def test_a_trace_that_is_not_sampled_stays_so(traced):
    traced.client.post("/segment", content=png(), headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    traced.client.get("/openapi.json")
    traced.spans("/openapi.json")
    assert not [s for s in traced._exporter.get_finished_spans() if f"{s.context.trace_id:032x}" == TRACE]


def test_errors_say_so(traced):
    assert traced.client.post("/segment", content=b"GIF89a").status_code == 415
    request, _ = traced.spans("/segment")
    assert (request.attributes["error.type"], request.status.status_code.name) == ("unsupported-image", "UNSET")
    traced.engine.failure = RuntimeError("secret")
    traced._exporter.clear()
    assert traced.client.post("/segment", content=png()).status_code == 500
    request, steps = traced.spans("/segment")
    assert (request.attributes["error.type"], request.status.status_code.name) == ("prediction-failed", "ERROR")
    assert "encode" not in [step.name for step in steps]
    assert "secret" not in str(request.to_json())


def test_an_unknown_path_names_no_span(traced):
    traced.client.get("/nothing/here")
    request, _ = traced.spans("/nothing/here")
    assert request.name == "GET"
    assert "http.route" not in request.attributes


def test_nothing_is_traced_or_imported_unless_it_is_asked_for():
    code = (
        "import sys; from roadseg_service import create_app, load_settings; create_app(load_settings()); "
        "assert not {'opentelemetry.sdk', 'opentelemetry.exporter'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert make_tracing(None) is None


@pytest.mark.parametrize(
    ("endpoint", "variable", "expected"),
    [
        ("http://collector:4318", None, "http://collector:4318/v1/traces"),
        ("http://collector:4318/base/", None, "http://collector:4318/base/v1/traces"),
        (None, ENDPOINTS[0], "http://elsewhere:1/v1/traces"),
        (None, ENDPOINTS[1], "http://elsewhere:1"),
        ("http://collector:4318", ENDPOINTS[0], "http://collector:4318/v1/traces"),
    ],
)
def test_where_spans_go(monkeypatch, endpoint, variable, expected):
    if variable is not None:
        monkeypatch.setenv(variable, "http://elsewhere:1")
    tracing = make_tracing(endpoint)
    try:
        (processor,) = tracing._provider._active_span_processor._span_processors
        assert processor.span_exporter._endpoint == expected
    finally:
        tracing.close()


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    for part in ("opentelemetry.exporter", "opentelemetry.sdk"):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.startswith(f"{part}.")]:
                patch.delitem(sys.modules, name)
            patch.setitem(sys.modules, part, None)
            with pytest.raises(MissingExtraError, match=rf"tracing needs the package '{part}'.*\[tracing\]"):
                make_tracing("http://collector:4318")


def test_an_endpoint_that_is_no_url_is_refused():
    with pytest.raises(ConfigError, match="otlp_endpoint"):
        load_settings(otlp_endpoint="collector:4318")
