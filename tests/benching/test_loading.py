"""Opening what is measured: exports, threads, reasons, and a process a combination."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from roadseg.benching import loading, probe
from roadseg.benching.combinations import Combination, Runner
from roadseg.benching.loading import Workspace, reason_of, use_threads
from roadseg.benching.probe import probe_apart
from roadseg.benching.results import Memory
from roadseg.errors import EngineError, MismatchError

COMBINATION = Combination(Runner("model.safetensors", "torch", "f32", "cpu"), (16, 16), 1)


@pytest.fixture
def exports(monkeypatch):
    """What was exported; a second precision is refused."""
    module = pytest.importorskip("roadseg.inference.export.write")
    made = []

    def export_model(model, kind, precision, output, *, allow_mismatch=False, calibration=None):
        made.append((model.digest, kind, precision))
        assert (calibration is not None) == (precision == "int8")
        if precision == "bf16":
            raise EngineError(f"format '{kind}' has no precision 'bf16'")
        assert allow_mismatch, "a wrong engine would be refused where it should be seen in its row"
        output.mkdir()

    monkeypatch.setattr(module, "export_model", export_model)
    return made


def test_a_model_file_is_exported_once_for_each_engine_and_precision(model_file, exports):
    told = []
    with Workspace(told.append) as workspace:
        runners = [Runner(str(model_file), "onnx", "f32", "cpu"), Runner(str(model_file), "openvino", "f32", "cpu")]
        ready = [workspace.ready(runner) for runner in (*runners, *runners)]
        assert ready[0] == ready[2] and ready[1] == ready[3] and ready[0].model != ready[1].model
        assert all(os.path.isdir(runner.model) for runner in ready)
        assert (ready[0].engine, ready[0].precision, ready[0].device) == ("onnx", "f32", "cpu")
    assert [export[1:] for export in exports] == [("onnx", "f32"), ("openvino", "f32")] and len(told) == 2
    assert not os.path.exists(ready[0].model)


def test_an_export_that_is_refused_is_refused_again_without_trying(model_file, exports):
    with Workspace(lambda line: None) as workspace:
        for _ in range(2):
            with pytest.raises(EngineError, match="format 'onnx' has no precision 'bf16'"):
                workspace.ready(Runner(str(model_file), "onnx", "bf16", "cpu"))
    assert len(exports) == 1


def test_int8_is_calibrated_on_pictures_that_differ(model_file, exports, monkeypatch):
    write = pytest.importorskip("roadseg.inference.export.write")
    given = []
    monkeypatch.setattr(loading, "_CALIBRATED_SIZE", (24, 32))
    monkeypatch.setattr(write, "export_model", lambda *a, calibration, **k: given.extend(calibration.images))
    with Workspace(lambda line: None) as workspace:
        workspace.ready(Runner(str(model_file), "openvino", "int8", "cpu"))
    assert len({picture.tobytes() for picture in given}) == len(given) >= 8
    assert given[0].shape == (24, 32, 3)


def test_torch_runs_model_files_as_they_are(model_file, exports):
    with Workspace(lambda line: None) as workspace:
        for engine in ("torch", "auto"):
            runner = Runner(str(model_file), engine)
            assert workspace.ready(runner) == runner
    assert exports == []


def test_threads_reach_torch_the_engines_and_the_processes(monkeypatch):
    told = []
    for name in ("ROADSEG_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=told.append))
    use_threads(None)
    assert told == [] and os.environ["ROADSEG_THREADS"] == "7"
    use_threads(3)
    assert told == [3] and os.environ["ROADSEG_THREADS"] == os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineError("no device 'tpu'; known: cpu"), "no device 'tpu'; known: cpu"),
        (MismatchError("two\nlines"), "two"),
        (RuntimeError("\n\n  [E] bad node\nstack"), "RuntimeError: [E] bad node"),
        (MemoryError(), "MemoryError: no message"),
        (ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"), "the package 'tensorrt' is not installed"),
    ],
)
def test_a_reason_is_one_line(error, reason):
    assert reason_of(error) == reason


def test_a_reason_of_thousands_of_characters_is_cut():
    assert len(reason_of(RuntimeError("x" * 10_000))) == 300


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        ({"returncode": -4, "stdout": "", "stderr": ""}, "its process was ended by signal 4"),
        (
            {"returncode": 1, "stdout": "", "stderr": "warning\nImportError: libcuda.so.1\n\n"},
            "its process ended with status 1: ImportError: libcuda.so.1",
        ),
        ({"returncode": 0, "stdout": "", "stderr": ""}, "its process ended with status 0: no message"),
        ({"returncode": 0, "stdout": '{"unavailable": "no bf16"}\n', "stderr": "x"}, "no bf16"),
    ],
)
def test_how_a_process_ends_is_the_reason(monkeypatch, ended, message):
    monkeypatch.setattr(probe.subprocess, "run", lambda *a, **k: SimpleNamespace(**ended))
    with pytest.raises(EngineError, match=f"^{message}$"):
        probe_apart(COMBINATION)


def test_a_process_that_hangs_is_ended(monkeypatch):
    def run(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("probe", timeout)

    monkeypatch.setattr(probe.subprocess, "run", run)
    with pytest.raises(EngineError, match="did not finish a first run in 5 s"):
        probe_apart(COMBINATION, timeout_s=5)


def test_what_a_process_measures_is_its_last_line_whatever_the_runtime_prints(monkeypatch):
    found = Memory(200.0, 150.0, 40.0, None, 1.5, 0.25)
    out = "[runtime] hello\n" + json.dumps(found.__dict__) + "\n"
    monkeypatch.setattr(probe.subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=0, stdout=out, stderr=""))
    assert probe_apart(COMBINATION) == found


def test_a_probe_measures_the_combination_that_it_is_given(model_file, capsys, monkeypatch):
    """In this process, for the time's sake."""
    pytest.importorskip("torch")
    if not probe.memory.can_measure():
        pytest.skip("Linux tells a process its own peak; this system does not")
    shapes = []
    opened = loading.open_runner(Runner(str(model_file), "torch", "f32", "cpu"))
    run = opened.engine.run
    monkeypatch.setattr(
        opened.engine, "run", lambda images, outputs: shapes.append(images.shape) or run(images, outputs)
    )
    monkeypatch.setattr(probe, "open_runner", lambda runner: opened)
    combination = Combination(Runner(str(model_file), "torch", "f32", "cpu"), (32, 48), 2)
    command = []
    monkeypatch.setattr(
        probe.subprocess,
        "run",
        lambda arguments, **k: command.append(arguments) or SimpleNamespace(returncode=0, stdout="{}", stderr=""),
    )
    with pytest.raises(TypeError):  # the answer is empty; what was asked for is what is wanted here
        probe_apart(combination)
    probe.main(command[0][-1])
    found = Memory(**json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert shapes == [(2, 32, 48, 3)] * 2
    assert found.peak_mib >= found.ready_mib > 50 and found.run_mib >= 0 and found.device_mib is None
    assert found.first_s > 0


def test_a_probe_gives_the_reason_of_what_fails(model_file, capsys):
    asked = {"runner": {"model": str(model_file), "engine": "torch", "precision": "int8", "device": "cpu"}}
    probe.main(json.dumps(asked | {"size": [16, 16], "batch": 1}))
    assert "int8" in json.loads(capsys.readouterr().out)["unavailable"]


@pytest.mark.slow
def test_a_process_of_its_own_takes_what_torch_takes(model_file):
    found = probe_apart(Combination(Runner(str(model_file), "torch", "f32", "cpu"), (64, 64), 1))
    assert 100 < found.ready_mib <= found.peak_mib < 4096 and found.load_s > 0
