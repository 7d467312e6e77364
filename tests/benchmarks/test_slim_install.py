"""The slim install's size, medians and refusals; no environment is made here."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import slim_install


def test_the_size_is_that_of_files_and_links_are_not_counted_twice(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 24)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "folder").symlink_to(tmp_path / "deep")
    assert slim_install.bytes_of_files(tmp_path) == 1024


def test_a_start_is_timed_from_before_the_process_and_checks_what_was_imported(tmp_path, monkeypatch):
    answer = {
        "done": 103.5,
        "loaded_mib": 90.0,
        "resident_mib": 120.0,
        "peak_mib": 130.0,
        "heavy": [],
        "engine": "onnx",
    }

    def run(command, **options):
        assert command[-3:] == [str(tmp_path / "onnx"), "720", "1280"] and options["cwd"] == tmp_path
        return SimpleNamespace(returncode=0, stdout="hello\n" + json.dumps(answer) + "\n", stderr="")

    monkeypatch.setattr(slim_install.subprocess, "run", run)
    monkeypatch.setattr(slim_install.time, "time", lambda: 101.0)
    found = slim_install.start(tmp_path / "python", tmp_path / "onnx")
    assert found["first_mask_s"] == 2.5 and found["resident_mib"] == 120.0
    answer["heavy"] = ["torch"]
    with pytest.raises(SystemExit, match="torch was imported"):
        slim_install.start(tmp_path / "python", tmp_path / "onnx")


def test_a_start_that_fails_shows_why(tmp_path, monkeypatch):
    ended = SimpleNamespace(returncode=1, stdout="", stderr="ModuleNotFoundError: torch")
    monkeypatch.setattr(slim_install.subprocess, "run", lambda *a, **k: ended)
    with pytest.raises(SystemExit, match="does not run without torch:\nModuleNotFoundError: torch"):
        slim_install.start(tmp_path / "python", tmp_path / "onnx")


def test_one_slow_start_does_not_move_the_summary():
    runs = [
        {"engine": "onnx", "first_mask_s": s, "loaded_mib": 1.0, "resident_mib": 2.0, "peak_mib": 3.0}
        for s in (0.5, 0.4, 9.0)
    ]
    found = slim_install.summary(runs)
    assert (found["first_mask_s"], found["starts"], found["engine"]) == (0.5, 3, "onnx")
