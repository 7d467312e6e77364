"""Who is let in: keys, pages of other origins, foreign host names; with real requests."""

import hashlib
import logging
import socket

import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import running
from starlette.routing import Route

from roadseg_service.access.policy import Need, need_of
from roadseg_service.app import ROUTERS

USER, ADMIN = "user-key-0123456789", "admin-key-0123456789"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("access") / "keys"
    path.write_text(f"fleet:user:{USER}\nboss:admin:sha256:{hashlib.sha256(ADMIN.encode()).hexdigest()}\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture(scope="module")
def closed(keys):
    """A service that asks for keys."""
    with running(api_keys_file=keys) as service:
        yield service


@pytest.mark.parametrize(
    "headers",
    [
        bearer(USER),
        bearer(ADMIN),
        {"Authorization": f"bEARER   {USER}"},
        {"X-API-Key": USER},
        {"X-API-Key": USER, "Authorization": f"Bearer {USER}"},
        {"X-API-Key": USER, "Authorization": "Basic bWU6bWU="},  # that of a proxy between
    ],
)
def test_a_key_lets_in(closed, headers):
    assert (mask_in(closed.client.post("/segment", content=png(), headers=headers)) == mask_of(scene())).all()
    assert closed.client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "detail", "challenge"),
    [
        ({}, "this service asks for an API key; send", 'Bearer realm="roadseg"'),
        ({"Authorization": "Bearer"}, "is not one", 'Bearer realm="roadseg", error="invalid_token"'),
        ({"Authorization": f"Basic {USER}"}, "asks for an API key", 'Bearer realm="roadseg"'),
        ({"Authorization": USER}, "asks for an API key", 'Bearer realm="roadseg"'),
        ({"X-API-Key": ""}, "is not one", 'Bearer realm="roadseg", error="invalid_token"'),
        (bearer(USER[:-1]), "is not one of this service's", 'Bearer realm="roadseg", error="invalid_token"'),
        (bearer(USER.upper()), "is not one of this service's", 'Bearer realm="roadseg", error="invalid_token"'),
        (
            bearer(hashlib.sha256(ADMIN.encode()).hexdigest()),
            "is not one",
            'Bearer realm="roadseg", error="invalid_token"',
        ),
        (bearer(f"{USER},{USER}"), "is not one", 'Bearer realm="roadseg", error="invalid_token"'),
        ({"X-API-Key": "\u00e9" * 16}, "is not one", 'Bearer realm="roadseg", error="invalid_token"'),
        (
            {**bearer(USER), "X-API-Key": ADMIN},
            "brings 2 different API keys",
            'Bearer realm="roadseg", error="invalid_request"',
        ),
    ],
)
def test_without_a_right_key_nobody_is_let_in(closed, headers, detail, challenge):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    calls = closed.engine.calls
    for answer in (
        closed.client.post("/segment", content=png(), headers=encoded),
        closed.client.get("/v1/models", headers=encoded),
        closed.client.get("/nothing-here", headers=encoded),
    ):
        problem = assert_problem(answer, 401, "key-required", detail)
        assert answer.headers["WWW-Authenticate"] == challenge
        assert USER not in str(problem)
    assert closed.engine.calls == calls


def test_two_authorizations_are_refused(closed):
    headers = [("Authorization", f"Bearer {USER}"), ("Authorization", f"Bearer {ADMIN}")]
    assert_problem(closed.client.get("/v1/models", headers=headers), 401, "key-required", "2 different")


def test_probes_the_page_and_the_description_are_open(closed):
    for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
        assert closed.client.get(path).status_code == 200
    assert closed.client.head("/livez").status_code == 200
    for path in ("/", "/page/nothing.js", "/metrics"):
        assert closed.client.get(path).status_code in {200, 404}
    assert_problem(closed.client.post("/livez"), 401, "key-required")


def test_metrics_can_be_closed(keys):
    with running(api_keys_file=keys, metrics_need_key=True) as service:
        assert_problem(service.client.get("/metrics"), 401, "key-required")
        assert service.client.get("/metrics", headers=bearer(USER)).status_code == 200


def test_the_description_says_which_operations_need_a_key(closed, client, keys):
    document = closed.client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["header"]["name"]) == ("bearer", "X-API-Key")
    paths = document["paths"]
    for operation in (paths["/segment"]["post"], paths["/v1/models"]["get"], paths["/v1/models"]["post"]):
        assert operation["security"] == [{"bearer": []}, {"header": []}] and "401" in operation["responses"]
    assert "security" not in paths["/livez"]["get"]
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]
    with running(api_keys_file=keys, allow_anonymous=True) as service:
        paths = service.client.get("/openapi.json").json()["paths"]
    assert {} in paths["/segment"]["post"]["security"] and {} not in paths["/v1/models"]["post"]["security"]


def test_anonymous_requests_beside_keys(keys):
    with running(api_keys_file=keys, allow_anonymous=True, metrics_need_key=True) as service:
        client = service.client
        for headers in ({}, bearer(USER)):
            mask_in(client.post("/segment", content=png(), headers=headers))
        assert_problem(
            client.post("/segment", content=png(), headers=bearer("wrong")), 401, "key-required", "is not one"
        )
        assert_problem(client.post("/v1/models"), 401, "key-required", "asks for an API key")
        assert_problem(client.post("/v1/models", headers=bearer(USER)), 403, "admin-only")
        assert_problem(client.get("/metrics"), 401, "key-required")
        assert client.get("/metrics", headers=bearer(USER)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/rollback"])
def test_a_users_key_is_no_admins(closed, path):
    assert_problem(closed.client.post(path, headers=bearer(USER)), 403, "admin-only", f"POST {path} needs an admin key")
    assert closed.client.post(path, headers=bearer(ADMIN), json={}).status_code not in {401, 403}


@pytest.mark.parametrize("settings", [{}, {"allow_anonymous": True}])
def test_without_a_file_of_keys_nobody_is_an_admin(settings):
    with running(**settings) as service:
        for headers in ({}, bearer(ADMIN)):
            answer = service.client.post("/v1/models", headers=headers, json={"model": "x"})
            assert_problem(answer, 403, "admin-only", "this service has no file of API keys")
        mask_in(service.client.post("/segment", content=png(), headers=bearer("any key is fine")))


def test_without_an_admins_key_in_the_file_the_refusal_says_so(tmp_path):
    (tmp_path / "keys").write_text(f"fleet:user:{USER}")
    (tmp_path / "keys").chmod(0o600)
    with running(api_keys_file=str(tmp_path / "keys")) as service:
        answer = service.client.post("/v1/models", headers=bearer(USER))
        assert_problem(answer, 403, "admin-only", "and this service has none; 'fleet' has a user's")


def test_keys_are_asked_for_before_the_body_comes(closed):
    head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", closed.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 401")  # and no 100 Continue
    assert closed.admission.tickets == 0


def test_every_route_is_open_by_name_or_needs_a_key():
    found = {
        (method, route.path, need_of(method, route.path, True))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert len(found) > 8
    opened = {path for method, path, need in found if need is Need.NOTHING}
    assert opened <= {"/", "/livez", "/readyz", "/openapi.json", "/docs"} | {
        p for p in opened if p.startswith("/page/")
    }
    assert {method for method, _, need in found if need is Need.NOTHING} <= {"GET", "HEAD"}
    admins = {(method, path) for method, path, need in found if need is Need.ADMIN_KEY}
    assert admins == {("POST", "/v1/models"), ("POST", "/v1/models/rollback")}


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("GET", "/", Need.NOTHING),
        ("GET", "/page/page.js", Need.NOTHING),
        ("POST", "/page/page.js", Need.CALLER),
        ("GET", "/pages", Need.CALLER),
        ("GET", "/livez/", Need.CALLER),
        ("GET", "//", Need.CALLER),
        ("OPTIONS", "/segment", Need.CALLER),
        ("GET", "/v1/models", Need.CALLER),
        ("DELETE", "/v1/models/nano", Need.ADMIN_KEY),
        ("PUT", "/v1/models", Need.ADMIN_KEY),
        ("POST", "/v1/models/", Need.ADMIN_KEY),
        ("POST", "/v1/modelsque", Need.CALLER),
        ("get", "/livez", Need.CALLER),
    ],
)
def test_what_a_request_needs(method, path, need):
    assert need_of(method, path) is need


FORM = {"file": ("a.png", png(), "image/png")}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},  # a sandboxed frame, or a local file
        {"Origin": "http://localhost:1"},  # another port of this machine is another origin
        {"Origin": "https://evil.example.org", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "nonsense"},
    ],
)
def test_what_a_page_of_another_origin_has_a_browser_send_is_refused(service, headers):
    """A form's POST, which browsers send without asking first."""
    calls = service.engine.calls
    answer = service.client.post("/segment", files=FORM, headers=headers)
    assert_problem(answer, 403, "cross-origin", headers.get("Origin", "another origin"), "cors_origins")
    assert service.engine.calls == calls
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_pages_own_calls_and_programs_are_let_through(service):
    own = f"http://127.0.0.1:{service.port}"
    for headers in (
        {},
        {"Origin": own},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://roadseg.example.org", "Sec-Fetch-Site": "same-origin"},  # behind a proxy that changes Host
        {"Sec-Fetch-Site": "none"},
    ):
        mask_in(service.client.post("/segment", files=FORM, headers=headers))
    assert service.client.get("/v1/models", headers={"Origin": "https://evil.example.org"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example.org", "evil.example.org:80", "localhost.evil.org", "127.0.0.1.evil.org", "", "[::1"]
)
def test_a_name_that_was_made_to_lead_here_is_not_answered(service, host):
    """DNS rebinding: the page is of the same origin then, and could read every answer."""
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    answer = service.client.post("/segment", files=FORM, headers=headers)
    assert_problem(answer, 421, "unknown-host", "not known as", "allowed_hosts")
    assert service.client.get("/v1/models", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:8000", "192.0.2.1:80", "localhost."])
def test_own_names_and_addresses_are_answered(service, host):
    assert service.client.get("/livez", headers={"Host": host}).status_code == 200


def test_names_can_be_allowed():
    with running(allowed_hosts="roadseg.example.org") as service:
        statuses = {
            host: service.client.get("/livez", headers={"Host": host}).status_code
            for host in (
                "roadseg.example.org",
                "ROADSEG.example.org:8443",
                "localhost",
                "example.org",
                "a.roadseg.example.org",
            )
        }
    assert list(statuses.values()) == [200, 200, 200, 421, 421]


def test_beyond_the_loopback_any_name_is_answered_unless_some_are_listed():
    with running(host="0.0.0.0", allow_anonymous=True) as service:  # it is bound to 127.0.0.1 all the same
        assert service.client.get("/livez", headers={"Host": "anything.example.org"}).status_code == 200
    with running(host="0.0.0.0", allow_anonymous=True, allowed_hosts="a.example.org") as service:
        assert service.client.get("/livez", headers={"Host": "b.example.org"}).status_code == 421


def test_no_log_has_a_key(closed, caplog):
    caplog.set_level(logging.DEBUG)
    for key in (USER, ADMIN, "wrong-key-0123456789"):
        closed.client.get("/v1/models", headers=bearer(key))
        closed.client.post("/segment", content=b"no image", headers={"X-API-Key": key})
        closed.client.get("/v1/models", headers={**bearer(key), "X-API-Key": "another"})
    # httpcore is this test's own client.
    text = "\n".join(str(vars(record)) for record in caplog.records if not record.name.startswith("http"))
    assert "/v1/models" in text and "fleet" in text  # requests are logged, with the names of keys
    for secret in (USER, ADMIN, "wrong-key", "another", hashlib.sha256(USER.encode()).hexdigest()):
        assert secret not in text


def test_keys_rotate_while_requests_come(tmp_path, monkeypatch):
    monkeypatch.setattr("roadseg_service.access.key_file.LOOK_EVERY_S", 0.0)
    path = tmp_path / "keys"
    path.write_text(f"fleet:user:{USER}")
    path.chmod(0o600)
    with running(api_keys_file=str(path)) as service:
        get = service.client.get
        assert get("/v1/models", headers=bearer(USER)).status_code == 200
        path.write_text(f"fleet:user:{ADMIN}")
        assert get("/v1/models", headers=bearer(USER)).status_code == 401
        assert get("/v1/models", headers=bearer(ADMIN)).status_code == 200
