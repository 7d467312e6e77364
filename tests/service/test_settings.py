"""Settings from arguments and the environment."""

import pytest

from roadseg.errors import ConfigError
from roadseg_service import load_settings


def test_defaults():
    settings = load_settings(model="a/road-nano.safetensors")
    assert (settings.host, settings.port, settings.max_body_bytes) == ("127.0.0.1", 8000, 32 * 1024 * 1024)
    assert (settings.max_pixels, settings.max_queued) == (50_000_000, 64)
    assert (settings.engine, settings.precision, settings.device) == ("auto", "auto", "auto")
    assert settings.model_name == "road-nano"


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
    ],
)
def test_value_out_of_range(name, value):
    with pytest.raises(ConfigError, match=rf"'{name}' is '?{value}'?: .*ROADSEG_SERVICE_{name.upper()}"):
        load_settings(model="m", **{name: value})
