"""`roadseg serve`: its help, which value wins, and what ends the start."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from service_running import HEADER

import roadseg
import roadseg_service.serve
from roadseg import cli
from roadseg.inference.package import write_model_file
from roadseg_service.serve import listen
from roadseg_service.setting_fields import default_in_words, field_extra, option_of, range_of
from roadseg_service.settings import ServiceSettings, load_settings

ROOTS = [str(Path(module.__file__).parent.parent) for module in (roadseg, roadseg_service)]


@pytest.fixture
def help_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # a line for each option
    with pytest.raises(SystemExit, match="0"):
        cli.main(["serve", "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ServiceSettings.model_fields)
def test_help_has_every_setting_with_its_unit_bounds_and_default(name, help_text):
    field = ServiceSettings.model_fields[name]
    found = re.search(rf"^  {option_of(name)}[ ,][^\n]*(\n {{20,}}[^\n]+)?", help_text, re.M)
    assert found
    for part in (field.description, f"default: {default_in_words(field)})", range_of(field) or ""):
        assert part in found[0]
    unit = field_extra(field, "unit") or ""
    assert unit in found[0]


def test_help_groups_settings_and_tells_of_variables_and_precedence(help_text):
    titles = re.findall(r"^(\w[^\n]*):$", help_text, re.M)
    assert titles[:4] == ["options", "model", "address", "access"] and len(titles) > 7
    assert "ROADSEG_SERVICE_MAX_PIXELS=1000000" in help_text and "option wins over the variable" in help_text


def test_help_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["serve", "--help"])
    options = capsys.readouterr().out.partition("model:\n")[2]
    assert max(map(len, options.splitlines())) <= 80


def modules_of(*arguments):
    """What is loaded after a command has shown its help."""
    code = (
        "import sys; from roadseg import cli\n"
        f"try: cli.main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_of_the_program_loads_nothing_of_the_service():
    loaded = modules_of("--help")
    assert not [name for name in loaded if name.startswith(("roadseg_service", "pydantic", "fastapi", "numpy"))]


def test_help_of_serve_loads_the_settings_and_no_server():
    loaded = modules_of("serve", "--help")
    assert "roadseg_service.settings" in loaded
    assert not {"fastapi", "starlette", "uvicorn", "torch", "roadseg_service.app"} & loaded


@pytest.fixture
def served(monkeypatch):
    """Settings that the command would have served with."""
    taken = []
    monkeypatch.setattr(roadseg_service.serve, "run", taken.append)
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(f"ROADSEG_SERVICE_{name.upper()}", raising=False)
    return taken


def test_without_options_or_variables_the_defaults_hold(served):
    assert cli.main(["serve"]) == 0
    assert served == [load_settings()]


def test_an_option_wins_over_a_variable_and_that_over_the_default(served, monkeypatch):
    monkeypatch.setenv("ROADSEG_SERVICE_MAX_PIXELS", "1111")
    monkeypatch.setenv("ROADSEG_SERVICE_PORT", "2222")
    monkeypatch.setenv("ROADSEG_SERVICE_HOST", "127.0.0.9")
    monkeypatch.setenv("ROADSEG_SERVICE_API_DOCS", "no")
    assert cli.main(["serve", "--max-pixels", "3333"]) == 0
    assert cli.main(["serve", "--port", "8000", "--host", "127.0.0.1", "--api-docs"]) == 0  # though these are defaults
    first, second = served
    assert (first.max_pixels, first.port, first.host, first.api_docs) == (3333, 2222, "127.0.0.9", False)
    assert (second.max_pixels, second.port, second.host, second.api_docs) == (1111, 8000, "127.0.0.1", True)


def test_every_setting_can_be_given_as_an_option(served):
    texts = {str: "text", int: "3", float: "3.5"}
    special = {"host": "localhost", "cors_origins": "https://a.org,https://b.org", "allowed_hosts": "a.org"}
    special |= {"warm_up_sizes": "64x48"}
    special |= {
        "trusted_proxies": "10.0.0.1",
        "max_pixels": "1000",
        "max_held_bytes": "99999",
        "otlp_endpoint": "http://127.0.0.1:4318",
    }
    arguments = []
    for name, field in ServiceSettings.model_fields.items():
        if field.annotation in {bool, bool | None}:
            arguments.append(option_of(name).replace("--", "--no-", 1))
            continue
        kind = next((kind for kind in texts if field.annotation in {kind, kind | None}), None)
        text = special.get(name) or (texts[kind] if kind else get_args(field.annotation)[-1])
        arguments += [option_of(name), text]
    assert cli.main(["serve", *arguments]) == 0
    (settings,) = served
    assert (settings.cors_origins, settings.allowed_hosts) == (("https://a.org", "https://b.org"), ("a.org",))
    assert (settings.api_docs, settings.batch_wait_ms, settings.rate_limit_burst) == (False, 3.5, 3)
    assert set(settings.model_fields_set) == set(ServiceSettings.model_fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "http"], "--port: 'port' is 'http': .*allowed: 0 to 65535 .*variable ROADSEG_SERVICE_PORT"),
        (["--port", "65536"], "--port: 'port' is '65536': .*65535"),
        (["--max-pixels", "0"], "--max-pixels: 'max_pixels' is '0': .*1 to 178956970"),
        (["--deadline-s", "nan"], "--deadline-s: 'deadline_s' is 'nan'"),
        (["--cors-origins", "a.org"], "--cors-origins: .*'a.org' has no scheme"),
        (["--max-pixel", "5"], "there is no option --max-pixel; did you mean --max-pixels[?]"),
        (["--max-pixel=5"], "there is no option --max-pixel; did you mean --max-pixels[?]"),
        (["--no-such", "1"], "there is no option --no-such; roadseg serve --help lists all"),
        (["--api-keys", "keys"], "there is no option --api-keys; did you mean --api-keys-file[?]"),  # an abbreviation
        (["model.safetensors"], "unrecognised argument 'model.safetensors'; roadseg serve --help"),
    ],
)
def test_wrong_options_end_with_status_2_and_the_setting_and_its_bound(arguments, message, capsys, served):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["serve", *arguments])
    assert re.search(message, capsys.readouterr().err)
    assert served == []


def test_a_misspelt_option_is_told_with_the_usage_of_the_command_and_without_its_value(capsys, served):
    for arguments in (["--api-key", "s3cret"], ["--api-key=s3cret"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["serve", *arguments])
        error = capsys.readouterr().err
        assert error.startswith("usage: roadseg serve [OPTION ...]\n") and "s3cret" not in error
    assert served == []


def test_what_does_not_go_together_ends_with_status_1(capsys):
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: service settings: host is '0.0.0.0', which other machines may reach")
    assert "api_keys_file" in error and "allow_anonymous=true" in error


def test_a_misspelt_variable_is_warned_of_at_the_start(unloadable, monkeypatch, caplog):
    monkeypatch.setattr(roadseg_service.serve, "listen", listen)
    monkeypatch.setattr(roadseg_service.serve, "configure_logs", lambda *_: None)
    monkeypatch.setattr(roadseg_service.serve, "_end_threads", lambda *_: None)  # it would end the tests, too
    monkeypatch.setattr(roadseg_service.serve, "make_server", lambda *_: SimpleNamespace(run=lambda sockets: None))
    monkeypatch.setenv("ROADSEG_SERVICE_MAX_QUEUE", "12")
    assert cli.main(["serve", "--port", "0", "--model", str(unloadable)]) == 0
    assert "ROADSEG_SERVICE_MAX_QUEUE names no setting and is ignored; did you mean ROADSEG_SERVICE_MAX_QUEUED?" in (
        caplog.text
    )


def test_a_misspelt_variable_is_named_with_the_error_that_it_leads_to(monkeypatch, capsys):
    monkeypatch.setenv("ROADSEG_SERVICE_API_KEY_FILE", "keys")
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 1
    assert "did you mean ROADSEG_SERVICE_API_KEYS_FILE?" in capsys.readouterr().err


def test_a_wrong_file_of_keys_ends_the_start_before_it_listens(unloadable, monkeypatch, tmp_path, capsys):
    keys = tmp_path / "keys"
    keys.write_text("alice:user:short")
    keys.chmod(0o600)
    assert cli.main(["serve", "--model", str(unloadable), "--api-keys-file", str(keys), "--host", "0.0.0.0"]) == 1
    assert "line 1: 'alice' has a key of 5 characters; use 16 or more" in capsys.readouterr().err


@pytest.fixture
def unloadable(tmp_path, monkeypatch):
    """A well-formed model file, where listening is an error."""

    def listen_too_early(host, port):
        raise AssertionError("listened")

    monkeypatch.setattr(roadseg_service.serve, "listen", listen_too_early)
    path = tmp_path / "fake.safetensors"
    write_model_file(path, HEADER, {"weight": np.zeros(1, np.float32)})
    return path


def test_without_the_extra_the_error_says_which():
    code = "import sys; sys.modules['pydantic_settings'] = None; from roadseg import cli; sys.exit(cli.main(['serve']))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "'.[serve]'" in done.stderr and "Traceback" not in done.stderr
