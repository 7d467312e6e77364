"""Starting the service: as a process, and what ends the start."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import opened, png, scene
from service_running import HEADER, eventually

import roadseg
import roadseg_service
import roadseg_service.serve
from roadseg import cli
from roadseg.errors import ConfigError, EngineError, MissingExtraError, ModelFileError
from roadseg.inference import bundled
from roadseg.inference.artefact import ArtefactFacts, seal
from roadseg.inference.package import write_model_file
from roadseg_service.serve import listen, main, url_of

ROOTS = [str(Path(module.__file__).parent.parent) for module in (roadseg, roadseg_service)]


def environment(**settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROADSEG_")}
    values = {f"ROADSEG_SERVICE_{name.upper()}": str(value) for name, value in settings.items()}
    return {**kept, **values, "PYTHONPATH": os.pathsep.join(ROOTS), "OMP_NUM_THREADS": "1", "ROADSEG_CACHE": "off"}


def start_and_fail(**settings):
    """Run `python -m roadseg_service`, which must end by itself."""
    command = [sys.executable, "-m", "roadseg_service"]
    return subprocess.run(command, env=environment(**settings), capture_output=True, text=True, timeout=60)


@pytest.fixture
def unloadable_model(tmp_path):
    """A well-formed model file, of an architecture that no zoo has."""
    path = tmp_path / "fake.safetensors"
    write_model_file(path, HEADER, {"weight": np.zeros(1, np.float32)})
    return path


@pytest.fixture
def taken_port():
    with listen("127.0.0.1", 0) as listener:
        yield listener.getsockname()[1]


def test_missing_model_ends_the_process(tmp_path):
    ended = start_and_fail(model=tmp_path / "none.safetensors", port=0)
    assert ended.returncode == 2
    assert f"no model file at {tmp_path}/none.safetensors; make one with" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_port_in_use_ends_the_process(unloadable_model, taken_port):
    ended = start_and_fail(model=unloadable_model, port=taken_port)
    assert ended.returncode == 2
    assert f"port {taken_port} on 127.0.0.1 is in use" in ended.stderr
    assert "0 picks a free one" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.fixture
def not_listening(monkeypatch):
    """What would be served, said in place of listening."""

    def listen_not(host, port):
        raise ConfigError("listening")

    monkeypatch.setattr(roadseg_service.serve, "listen", listen_not)


def test_the_command_without_a_model_serves_what_the_environment_names_else_the_bundled_one(
    unloadable_model, not_listening, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(bundled, "WEIGHTS", tmp_path / "weights")
    monkeypatch.delenv("ROADSEG_SERVICE_MODEL", raising=False)
    assert cli.main(["serve", "--port", "0"]) == 1
    assert f"the bundled model 'roadseg-nano' is not at {tmp_path}/weights" in capsys.readouterr().err
    (tmp_path / "weights").mkdir()
    unloadable_model.rename(tmp_path / "weights" / "roadseg-nano.safetensors")
    assert cli.main(["serve", "--port", "0"]) == 1
    assert capsys.readouterr().err == "error: listening\n"
    monkeypatch.setenv("ROADSEG_SERVICE_MODEL", "gone.safetensors")
    assert cli.main(["serve", "--port", "0"]) == 1
    assert "no model file at gone.safetensors" in capsys.readouterr().err
    assert cli.main(["serve", "--port", "0", "--model", "roadseg-nano"]) == 1
    assert capsys.readouterr().err == "error: listening\n"
    assert cli.main(["serve", "--port", "0", "--model", "roadseg-tiny"]) == 1
    assert "no bundled model 'roadseg-tiny'" in capsys.readouterr().err


def test_main_raises_what_the_command_line_reports(unloadable_model, taken_port, tmp_path):
    with pytest.raises(ConfigError, match=f"port {taken_port} on 127.0.0.1 is in use"):
        main(str(unloadable_model), "127.0.0.1", taken_port, device=None)
    with pytest.raises(ModelFileError, match="no model file"):
        main(str(tmp_path / "none.safetensors"), "127.0.0.1", 0)
    with pytest.raises(ModelFileError, match="training checkpoint"):
        (tmp_path / "last.ckpt").write_bytes(b"")
        main(str(tmp_path / "last.ckpt"), "127.0.0.1", 0)
    with pytest.raises(ConfigError, match="no setting 'colour'"):
        main(str(unloadable_model), "127.0.0.1", 0, colour="red")


@pytest.mark.parametrize(
    ("setting", "name", "message"),
    [
        ("engine", "x", "no engine 'x'; known: auto, torch, torch-compile, onnx, openvino, tensorrt"),
        ("precision", "f8", "no precision 'f8'; known: auto, f32, f16, bf16, int8"),
        ("device", "gpu", "no device 'gpu'; known: auto, cpu"),
        ("device", "cuda:99", "device 'cuda:99' cannot be used here"),
    ],
)
def test_what_no_engine_has_ends_the_start_before_it_listens(unloadable_model, monkeypatch, setting, name, message):
    def listen_too_early(host, port):
        raise AssertionError("listened")

    monkeypatch.setattr(roadseg_service.serve, "listen", listen_too_early)
    with pytest.raises(EngineError, match=message):
        main(str(unloadable_model), "127.0.0.1", 0, **{setting: name})


@pytest.fixture
def openvino_artefact(tmp_path):
    """A folder that is well-formed, and whose network is never read."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    for file in ("model.xml", "model.bin"):
        (folder / file).write_bytes(b"")
    seal(folder, ArtefactFacts("openvino", "f32", HEADER, "0" * 64))
    return folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "tensorrt"}, "engine 'tensorrt' does not run model files"),
        ({"engine": "onnx", "device": "cpu"}, "engine 'onnx' does not run model files"),
        ({"precision": "f16"}, "a model file does not run in f16"),
        ({"engine": "openvino", "precision": "int8"}, "a model file does not run in int8"),
        ({"engine": "torch", "precision": "f16"}, "the torch engine has no precision 'f16'"),
    ],
)
def test_an_engine_that_cannot_run_the_model_ends_the_start(unloadable_model, not_listening, settings, message):
    with pytest.raises(EngineError, match=message):
        main(str(unloadable_model), "127.0.0.1", 0, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "onnx"}, "was exported for the engine 'openvino' and cannot run in 'onnx'"),
        ({"engine": "torch"}, "was exported for the engine 'openvino'"),
        ({"precision": "bf16"}, "was exported in f32 and cannot run in bf16"),
    ],
)
def test_an_exported_model_in_another_engine_ends_the_start(openvino_artefact, not_listening, settings, message):
    with pytest.raises(EngineError, match=message):
        main(str(openvino_artefact), "127.0.0.1", 0, **settings)


@pytest.mark.parametrize("threads", ["abc", "0"])
def test_a_number_of_threads_that_is_none_ends_the_start(unloadable_model, not_listening, monkeypatch, threads):
    monkeypatch.setenv("ROADSEG_THREADS", threads)
    with pytest.raises(EngineError, match=f"ROADSEG_THREADS is '{threads}'; set it to a whole number from 1"):
        main(str(unloadable_model), "127.0.0.1", 0)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_engine_that_is_not_installed_ends_the_start(unloadable_model, not_listening, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingExtraError, match=f"the {engine} engine needs the package '{engine}'"):
        main(str(unloadable_model), "127.0.0.1", 0, engine=engine)


def test_the_runtime_of_an_exported_model_that_is_not_installed_ends_the_start(
    openvino_artefact, not_listening, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match="the openvino engine needs the package 'openvino'"):
        main(str(openvino_artefact), "127.0.0.1", 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_takes_nothing_ends_the_start_with_a_message(unloadable_model):
    command = [sys.executable, "-m", "roadseg_service"]
    with open("/dev/full", "w") as full:
        given = environment(model=unloadable_model, port=0)
        ended = subprocess.run(command, env=given, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == (
        "roadseg: error: cannot write to standard output (No space left on device), where the log goes; make room, or "
        "send it elsewhere\n"
    )


def test_unknown_precision_ends_the_process(unloadable_model):
    ended = start_and_fail(model=unloadable_model, port=0, precision="f8")
    assert ended.returncode == 2
    assert ended.stderr == "roadseg: error: no precision 'f8'; known: auto, f32, f16, bf16, int8\n"
    assert ended.stdout == ""


def test_checking_the_usual_devices_loads_no_runtime(unloadable_model, openvino_artefact):
    code = (
        "import sys; from roadseg_service import load_settings; from roadseg_service.serve import check_engine; "
        "from roadseg.inference.artefact import read_model; from pathlib import Path; "
        f"paths = [Path(path) for path in {[str(unloadable_model), str(openvino_artefact)]!r}]; "
        "[check_engine(load_settings(device=d), read_model(path)) for d in ('auto', 'cpu') for path in paths]; "
        "assert not {'torch', 'openvino', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


def test_an_artefacts_runtime_says_that_it_has_no_such_device_and_torch_is_not_asked(openvino_artefact):
    pytest.importorskip("openvino")
    code = (
        "import sys; from roadseg_service.serve import main; from roadseg.errors import EngineError\n"
        f"try: main({str(openvino_artefact)!r}, '127.0.0.1', 0, device='cuda')\n"
        "except EngineError as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60, capture_output=True)
    assert b"device 'cuda' cannot be used here: OpenVINO runs on" in done.stdout


def test_address_of_another_machine():
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1 port 0 .*address of this machine"):
        listen("192.0.2.1", 0)


def test_listening_before_it_is_announced():
    with listen("127.0.0.1", 0) as listener:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", url_of(listener))
        socket.create_connection(listener.getsockname(), timeout=10).close()


def test_ipv6_url():
    try:
        listener = listen("::1", 0)
    except ConfigError:
        pytest.skip("no IPv6 here")
    with listener:
        assert re.fullmatch(r"http://\[::1\]:[1-9]\d*", url_of(listener))


def test_process_serves_a_real_model_on_a_free_port(model_file):
    predictor = roadseg.load_predictor(model_file, device="cpu")
    call = f"from roadseg_service.serve import main; main({str(model_file)!r}, '127.0.0.1', 0)"
    command = [sys.executable, "-c", call]
    process = subprocess.Popen(command, env=environment(device="cpu"), stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.fullmatch(rf"roadseg: serving {re.escape(str(model_file))} on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        with httpx.Client(base_url=found[1], timeout=60, trust_env=False) as client:
            assert client.get("/livez").status_code == 200  # already, whatever the model does
            eventually(lambda: client.get("/readyz").status_code == 200, "the model")
            (model,) = client.get("/v1/models").json()["models"]
            assert (model["name"], model["digest"], model["engine"]) == ("nano", predictor.digest, "torch")
            data = png(scene(70, 110))
            response = client.post("/segment", content=data)
            expected = predictor(data)
            np.testing.assert_array_equal(mask_in(response), expected.mask)
            assert len(np.unique(expected.mask)) > 1
            assert opened(response.content).getpalette()[:3] == list(expected.taxonomy.classes[0].colour)
            assert_problem(client.post("/segment", content=b"x"), 415, "unsupported-image")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        assert '"message": "POST /segment 200"' in rest  # the log of requests
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
