"""CORS: closed unless origins are listed; with real requests, as browsers send them."""

import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import png
from service_running import running

MAPS = "https://maps.example.org"
KEY = "key-0123456789abcdef"

PREFLIGHT = {"Origin": MAPS, "Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A service for the scripts of one origin, with a key."""
    path = tmp_path_factory.mktemp("cors") / "keys"
    path.write_text(f"maps:user:{KEY}")
    path.chmod(0o600)
    with running(api_keys_file=str(path), cors_origins=MAPS) as service:
        yield service


def test_by_default_no_origin_is_told_anything(client):
    for answer in (
        client.get("/v1/models", headers={"Origin": MAPS}),
        client.options("/segment", headers=PREFLIGHT),
        client.post("/segment", content=png(), headers={"Origin": MAPS}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert client.options("/segment", headers=PREFLIGHT).status_code >= 400


def test_a_listed_origins_preflight_needs_no_key(listed):
    asked = "authorization, content-type, x-api-key, x-request-id, if-none-match"
    answer = listed.client.options("/segment", headers={**PREFLIGHT, "Access-Control-Request-Headers": asked})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == MAPS
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST"
    allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert set(asked.split(", ")) <= allowed
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "https://maps.example.org.evil.org"},
        {"Origin": "http://maps.example.org"},
        {"Origin": "https://maps.example.org:8443"},
        {"Origin": "null"},
        {"Access-Control-Request-Method": "DELETE"},
        {"Access-Control-Request-Headers": "x-anything"},
    ],
)
def test_other_preflights_are_refused_as_problems(listed, headers):
    answer = listed.client.options("/segment", headers={**PREFLIGHT, **headers})
    assert_problem(answer, 403, "cross-origin", "Disallowed CORS", "cors_origins")
    if "Origin" in headers:
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_listed_origin_may_read_answers_and_their_headers(listed):
    headers = {"Origin": MAPS, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {KEY}"}
    answer = listed.client.post("/segment", content=png(), headers=headers)
    mask_in(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == MAPS
    assert "Origin" in answer.headers["Vary"] and "Accept" in answer.headers["Vary"]
    exposed = {name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
    own = {name for name in answer.headers if name.startswith("x-") or name in {"etag", "server-timing"}}
    assert own and own <= exposed


def test_a_listed_origin_may_read_refusals_too(listed):
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {KEY}"}, 422)):
        answer = listed.client.post("/segment?nothing=1", content=png(), headers={"Origin": MAPS, **headers})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == MAPS


def test_an_origin_that_is_not_listed_stays_out_with_a_key(listed):
    headers = {"Origin": "https://evil.example.org", "Authorization": f"Bearer {KEY}"}
    answer = listed.client.post("/segment", content=png(), headers=headers)
    assert_problem(answer, 403, "cross-origin")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_origin_may_when_that_is_meant_and_no_cookies_are_asked_for():
    with running(cors_origins="*", allow_anonymous=True) as service:
        headers = {"Origin": "https://anyone.example.org", "Sec-Fetch-Site": "cross-site"}
        answer = service.client.post("/segment", content=png(), headers=headers)
        mask_in(answer)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        preflight = service.client.options("/segment", headers={**PREFLIGHT, **headers})
        assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (200, "*")
