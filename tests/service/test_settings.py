"""Settings from arguments and the environment."""

import re
from pathlib import Path

import pytest
from pydantic import create_model

from roadseg.errors import ConfigError
from roadseg_service import ServiceSettings, load_settings
from roadseg_service.access.addresses import proxy_warnings
from roadseg_service.setting_fields import default_in_words, field_extra, range_of, setting
from roadseg_service.settings import variable_warnings

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "operating.md"


def test_defaults():
    settings = load_settings(model="a/road-nano.safetensors")
    assert (settings.host, settings.port, settings.max_body_bytes) == ("127.0.0.1", 8000, 32 * 1024 * 1024)
    assert (settings.max_pixels, settings.max_queued) == (50_000_000, 64)
    assert (settings.engine, settings.precision, settings.device) == ("auto", "auto", "auto")
    assert settings.model_name == "road-nano"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("models/city-v1.2", "city-v1.2"),
        ("models/city-v1.2/", "city-v1.2"),
        ("city-v1.2.safetensors", "city-v1.2"),
        ("/model", "model"),
        ("weights.bin", "weights.bin"),
        ("roadseg-nano", "roadseg-nano"),
    ],
)
def test_a_models_name_is_the_paths_last_part_and_only_the_ending_of_model_files_is_left_out(model, name):
    assert load_settings(model=model).model_name == name


@pytest.mark.parametrize(
    ("host", "asked", "served"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
        ("localhost", False, False),
    ],
)
def test_pages_with_scripts_of_others_are_served_to_this_machine_alone_unless_asked_for(host, asked, served):
    assert load_settings(host=host, allow_anonymous=True, api_docs=asked).serves_api_docs is served


def test_networks_of_proxies_that_hold_everybody_are_warned_of():
    wide = ("0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/7")
    assert [text.split()[2] for text in proxy_warnings(wide)] == [f"{network}:" for network in wide]
    assert proxy_warnings(("10.0.0.0/8", "192.168.0.0/16", "10.1.2.3", "fc00::/7", "::1")) == []


def test_environment_and_arguments(monkeypatch):
    monkeypatch.setenv("ROADSEG_SERVICE_MODEL", "m.safetensors")
    monkeypatch.setenv("ROADSEG_SERVICE_MAX_PIXELS", "1234")
    monkeypatch.setenv("ROADSEG_SERVICE_PORT", "9000")
    monkeypatch.setenv("ROADSEG_SERVICE_UNHEARD_OF", "ignored")
    settings = load_settings(port=9001, host=None)
    assert (settings.model, settings.max_pixels, settings.port) == ("m.safetensors", 1234, 9001)
    assert settings.host == "127.0.0.1"


def test_without_a_model_the_bundled_one_is_served(monkeypatch):
    monkeypatch.delenv("ROADSEG_SERVICE_MODEL", raising=False)
    for settings in (load_settings(), load_settings(model=None)):
        assert (settings.model, settings.model_name) == ("roadseg-nano", "roadseg-nano")
    with pytest.raises(ConfigError, match="'model' is '': .*ROADSEG_SERVICE_MODEL"):
        load_settings(model="")


def test_unknown_argument():
    with pytest.raises(ConfigError, match=r"no setting 'max_pixel'; known: .*max_pixels"):
        load_settings(model="m", max_pixel=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 70000),
        ("port", -1),
        ("max_pixels", 0),
        ("max_pixels", 10**9),
        ("max_queued", "many"),
        ("upload_timeout_s", 0),
        ("deadline_s", float("nan")),
        ("deadline_s", float("inf")),
        ("rate_limit_requests_per_s", 0),
        ("rate_limit_requests_per_s", 1e-320),
        ("rate_limit_bytes_per_s", 0.5),
        ("rate_limit_bytes_per_s", -1),
        ("rate_limit_burst", 0),
    ],
)
def test_value_out_of_range(name, value):
    option = "--" + name.replace("_", "-")
    named = rf"option {option}, variable ROADSEG_SERVICE_{name.upper()}"
    with pytest.raises(ConfigError, match=rf"'{name}' is '?{value}'?: .*allowed: .*{named}"):
        load_settings(model="m", **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", 70000, "at most 65535|0 to 65535"),
        ("max_pixels", 0, "1 to 178956970"),
        ("max_queued", -3, "at least 1"),
        ("deadline_s", 0, "more than 0"),
        ("batch_wait_ms", 1001, "0 to 1000"),
    ],
)
def test_an_error_names_the_bound(name, value, message):
    with pytest.raises(ConfigError, match=f"allowed: ({message}) "):
        load_settings(**{name: value})


def test_all_errors_are_told_at_once(monkeypatch):
    monkeypatch.setenv("ROADSEG_SERVICE_PORT", "http")
    with pytest.raises(ConfigError, match=r"'port' is 'http'.*; 'max_queued' is 0"):
        load_settings(max_queued=0)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "fe80::1", "example.org", "::ffff:192.0.2.7", "127.1", "0", "localhost.org"]
)
def test_an_address_that_others_reach_needs_keys_or_a_word(host):
    with pytest.raises(ConfigError) as caught:
        load_settings(host=host)
    for part in (f"host is '{host}'", "api_keys_file", "allow_anonymous=true"):
        assert part in str(caught.value)
    assert load_settings(host=host, allow_anonymous=True).host == host
    assert load_settings(host=host, api_keys_file="keys").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
def test_the_loopback_needs_neither(host):
    assert load_settings(host=host).api_keys_file is None


def test_keys_that_are_named_but_not_there_are_not_forgotten():
    with pytest.raises(ConfigError, match="'api_keys_file' is ''"):
        load_settings(host="0.0.0.0", api_keys_file="")


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("https://maps.example.org/", "ends with a slash"),
        ("https://maps.example.org/map", "is more than scheme, host and port"),
        ("https://maps.example.org?x", "is more than scheme, host and port"),
        ("https://me@maps.example.org", "is more than scheme, host and port"),
        ("maps.example.org", "has no scheme"),
        ("localhost:3000", "has no scheme"),
        ("//maps.example.org", "has no scheme"),
        ("ftp://maps.example.org", "has the scheme 'ftp'"),
        ("HTTPS://maps.example.org", "has the scheme 'HTTPS'"),
        ("https://Maps.example.org", "in lower case"),
        ("https://strasse-ß.example.org", "in lower case"),
        ("https://maps.example.org:443", "names port 443"),
        ("http://maps.example.org:80", "names port 80"),
        ("https://maps.example.org:", "has no host name"),
        ("https://maps.example.org:99999", "cannot be read"),
        ("https://*.example.org", "has no host name"),
        ("https://", "has no host name|ends with a slash"),
        ("null", "has no scheme"),
        ("https://a.org,*", "allows every origin"),
    ],
)
def test_origins_that_no_browser_sends_are_refused(origin, message):
    with pytest.raises(ConfigError, match=f"'cors_origins' .*({message}).*--cors-origins"):
        load_settings(cors_origins=origin)


def test_lists_have_commas_between(monkeypatch):
    monkeypatch.setenv(
        "ROADSEG_SERVICE_CORS_ORIGINS", "https://a.example.org, http://[::1]:3000 ,http://10.0.0.1:8080,"
    )
    settings = load_settings(trusted_proxies="10.0.0.0/8,::1", allowed_hosts=["a.example.org"])
    assert settings.cors_origins == ("https://a.example.org", "http://[::1]:3000", "http://10.0.0.1:8080")
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.allowed_hosts == ("a.example.org",)


def test_every_origin_without_a_key_must_be_meant():
    with pytest.raises(ConfigError, match=r"cors_origins is '\*' and no API keys .*allow_anonymous=true"):
        load_settings(cors_origins="*")
    assert load_settings(cors_origins="*", allow_anonymous=True).cors_origins == ("*",)
    assert load_settings(cors_origins="*", api_keys_file="keys").cors_origins == ("*",)


def test_metrics_cannot_need_a_key_that_nobody_has():
    with pytest.raises(ConfigError, match="metrics_need_key is true and there are no keys; .*api_keys_file"):
        load_settings(metrics_need_key=True, allow_anonymous=True)


@pytest.mark.parametrize("proxy", ["*", "proxy.example.org", "10.0.0.1/8", "10.0.0", "10.0.0.1:80"])
def test_proxies_are_addresses(proxy):
    with pytest.raises(ConfigError, match="is no address or network, such as"):
        load_settings(trusted_proxies=proxy)


@pytest.mark.parametrize("name", ["https://a.org", "a.org:8000", "a.org/x", "*.a.org", "A.org", "a..org", "-"])
def test_allowed_hosts_are_names(name):
    with pytest.raises(ConfigError, match="is no host name; write each as in"):
        load_settings(allowed_hosts=name)


def test_misspelt_variables_are_warned_of_by_name_alone():
    environment = {
        "ROADSEG_SERVICE_MAX_PIXEL": "secret",
        "roadseg_service_max_pixels": "1",
        "ROADSEG_SERVICE_PORT": "1",
        "ROADSEG_SERVICE_API_KEY_FILE": "secret",
        "ROADSEG_SERVICE_QQQQQQQQ": "secret",
        "ROADSEG_DATA": "x",
    }
    first, second, third = variable_warnings(environment)
    assert "ROADSEG_SERVICE_API_KEY_FILE names no setting" in first
    assert first.endswith("did you mean ROADSEG_SERVICE_API_KEYS_FILE?")
    assert second.endswith("did you mean ROADSEG_SERVICE_MAX_PIXELS?")
    assert third.endswith("roadseg serve --help lists them all")
    assert "secret" not in first + second + third


def test_the_variables_of_a_kubernetes_service_are_recognised(monkeypatch):
    """A Service called roadseg puts these into every pod of its namespace."""
    linked = {
        "ROADSEG_SERVICE_HOST": "10.96.0.17",
        "ROADSEG_SERVICE_PORT": "80",
        "ROADSEG_PORT": "tcp://10.96.0.17:80",
        "ROADSEG_PORT_80_TCP": "tcp://10.96.0.17:80",
        "ROADSEG_SERVICE_PORT_HTTP": "80",
    }
    for name, value in linked.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match="host is '10.96.0.17', .*Service called roadseg; set enableServiceLinks: false"
    ):
        load_settings()
    assert load_settings(host="127.0.0.1", port=8000).port == 8000
    assert len(variable_warnings(linked)) == 2 and variable_warnings({"ROADSEG_PORT": "80"}) == []


@pytest.mark.parametrize(
    ("kind", "bounds", "words"),
    [
        (int, {"gt": 0}, "at least 1"),
        (float, {"gt": 0}, "more than 0"),
        (int, {"ge": 0, "le": 9}, "0 to 9"),
        (int, {"gt": 0, "le": 9}, "1 to 9"),
        (float, {"gt": 0, "le": 0.5}, "more than 0 and at most 0.5"),
        (int, {"le": 9}, "at most 9"),
        (str, {"min_length": 1}, None),
    ],
)
def test_bounds_in_words(kind, bounds, words):
    model = create_model("Model", field=(kind, setting(None, "group", "text", **bounds)))
    assert range_of(model.model_fields["field"]) == words


def test_every_setting_says_what_it_does_and_where_help_lists_it():
    for name, field in ServiceSettings.model_fields.items():
        assert field.description and field_extra(field, "group"), name
        if field.annotation in {int, float, int | None, float | None} and name != "port":
            assert field_extra(field, "unit"), f"{name} has no unit"


def test_the_documented_settings_are_the_real_ones():
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \| (.*?) \| (.*?) \| (.+) \|$", DOCUMENTATION.read_text(encoding="utf-8"), re.M
    )
    documented = {name: (default.strip("`"), *rest) for name, default, *rest in rows}
    real = {
        name: (
            default_in_words(field),
            (field_extra(field, "unit") or "").lower(),
            range_of(field) or "",
            field.description,
        )
        for name, field in ServiceSettings.model_fields.items()
    }
    assert documented == real
    assert [name for name, *_ in rows] == list(real)
