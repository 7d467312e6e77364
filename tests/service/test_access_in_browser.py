"""What a real browser sends and shows when a page of another origin, or under another name, uses the service."""

import base64
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from page_driving import ARGUMENTS, find_chromium
from service_corpus import png
from service_running import DIGEST, running

KEY = "key-0123456789abcdef"

IMAGE = base64.b64encode(png()).decode()

SEND = """async ({ url, image, options }) => {
  const body = Uint8Array.from(atob(image), (character) => character.charCodeAt(0));
  try {
    const answer = await fetch(url, { method: "POST", body, ...options });
    return [answer.type, answer.status, answer.headers.get("X-Roadseg-Model-Digest")];
  } catch (error) {
    return [error.name];
  }
}"""


@pytest.fixture(scope="module")
def browser():
    """A headless browser, for which names of example.org lead to this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    executable, reason = find_chromium()
    if executable is None:
        pytest.skip(reason)
    rebound = "--host-resolver-rules=MAP *.example.org 127.0.0.1"
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=[*ARGUMENTS, rebound])
        yield started
        started.close()


class _Page(BaseHTTPRequestHandler):
    """A web server of somebody else."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><form method=post enctype=multipart/form-data>")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def other_origin():
    """The origin of a page elsewhere: another port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def opened(browser, url):
    """A page, and the statuses of what it had sent by POST or OPTIONS."""
    page = browser.new_page()
    answered = []
    page.on("response", lambda response: response.request.method != "GET" and answered.append(response.status))
    try:
        page.goto(url)
        yield page, answered
    finally:
        page.close()


def test_a_page_elsewhere_cannot_make_the_browser_use_the_service(browser, other_origin):
    with running() as service, opened(browser, other_origin) as (page, answered):
        url = f"http://127.0.0.1:{service.port}/segment"
        blind = {"mode": "no-cors", "headers": {"Content-Type": "text/plain"}}  # what is sent without asking first
        assert page.evaluate(SEND, {"url": url, "image": IMAGE, "options": blind})[0] == "opaque"
        assert answered == [403]
        page.evaluate("(url) => { document.forms[0].action = url; document.forms[0].submit(); }", url)
        page.wait_for_url(url)
        assert answered == [403, 403] and "cross-origin" in page.content()
        assert service.engine.calls == 0


def test_a_script_elsewhere_reads_answers_when_its_origin_is_listed(browser, other_origin, tmp_path):
    (tmp_path / "keys").write_text(f"maps:user:{KEY}")
    (tmp_path / "keys").chmod(0o600)
    with_key = {"headers": {"Authorization": f"Bearer {KEY}", "Content-Type": "image/png"}}
    for origins, expected in (("", ["TypeError"]), (other_origin, ["cors", 200, DIGEST])):
        with (
            running(api_keys_file=str(tmp_path / "keys"), cors_origins=origins) as service,
            opened(browser, other_origin) as (page, _),
        ):
            request = {"url": f"http://127.0.0.1:{service.port}/segment", "image": IMAGE, "options": with_key}
            assert page.evaluate(SEND, request) == expected
            without_key = {**request, "options": {"headers": {"Content-Type": "image/png"}}}
            assert page.evaluate(SEND, without_key) == (["cors", 401, None] if origins else ["TypeError"])
            assert service.engine.calls == bool(origins)


def test_a_name_that_leads_here_is_of_the_same_origin_and_gets_nothing(browser):
    with running() as service, opened(browser, f"http://evil.example.org:{service.port}/") as (page, answered):
        assert "unknown-host" in page.content()
        request = {"url": "/segment", "image": IMAGE, "options": {}}
        assert page.evaluate(SEND, request) == ["basic", 421, None]
        assert answered == [421] and service.engine.calls == 0
