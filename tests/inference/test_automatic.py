"""What runs a model file where no engine is named, and the cache of converted models."""

import logging
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import roadseg.inference.export.write
from roadseg.errors import EngineError, MismatchError
from roadseg.inference import automatic, converted
from roadseg.inference.artefact import ArtefactFacts, seal
from roadseg.inference.automatic import automatic_engine
from roadseg.inference.converted import cache_folder, entry_name
from roadseg.inference.engines import THREADS_VARIABLE, make_engine


class Converter:
    """Stands in for `export_model`, which takes long: it copies an artefact that was made before."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.precisions: list[str] = []
        self.before = lambda output: None

    def __call__(self, model, kind, precision, output):
        self.precisions.append(precision)
        self.before(Path(output))
        shutil.copytree(self.source, output)
        return seal(Path(output), ArtefactFacts(kind, precision, model.header, model.digest))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ROADSEG_CACHE", str(folder))
    monkeypatch.setattr(automatic, "_told", set())
    return folder


@pytest.fixture
def convert(cache, tiny_artefacts, monkeypatch) -> Converter:
    converter = Converter(tiny_artefacts("openvino", None).path)
    monkeypatch.setattr(roadseg.inference.export.write, "export_model", converter)
    return converter


@pytest.fixture
def model(tiny_models):
    return tiny_models[None]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_model_file_is_converted_once_and_then_read(model, cache, convert, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        engine = make_engine(model, "auto", "auto", "cpu")
        assert (engine.name, engine.precision, engine.device) == ("openvino", "f32", "cpu")
    assert convert.precisions == ["f32"]
    assert names(cache) == [entry_name(model.digest, "f32")]
    said = [record.message for record in caplog.records]
    assert sum("converting for OpenVINO, once" in line for line in said) == 1
    assert sum("engine openvino, f32: a CPU with OpenVINO installed" in line for line in said) == 1


def test_masks_are_those_of_torch(model, cache, convert):
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    found = make_engine(model, "auto", "auto", "cpu").run(image, ("mask",))["mask"]
    assert (found == make_engine(model, "torch", "f32", "cpu").run(image, ("mask",))["mask"]).mean() > 0.999


def test_only_the_precision_that_was_asked_for_is_converted(model, cache, convert, monkeypatch):
    monkeypatch.setattr("roadseg.inference.openvino_engine.check_precision", lambda *_: None)
    assert automatic_engine(model, "bf16", "cpu").precision == "bf16"
    assert convert.precisions == ["bf16"]


def test_a_precision_that_the_processor_lacks_is_not_converted_again_and_again(
    model, cache, convert, monkeypatch, caplog
):
    def lacks(core, device, precision):
        raise EngineError(f"device '{device.lower()}' does not compute in {precision}")

    monkeypatch.setattr("roadseg.inference.openvino_engine.check_precision", lacks)
    assert make_engine(model, "auto", "bf16", "cpu").name == "torch"
    assert any("does not compute in bf16" in record.message for record in caplog.records)
    with pytest.raises(EngineError, match="does not compute in bf16"):
        make_engine(model, "openvino", "bf16", "cpu")
    assert convert.precisions == []


def test_a_precision_that_needs_frames_names_the_way(model, cache):
    with pytest.raises(EngineError, match=r"`roadseg export .*safetensors --format openvino --precision int8 -o DIR`"):
        make_engine(model, "auto", "int8", "cpu")


def test_the_first_engine_has_torch_where_nothing_may_be_cached(model, monkeypatch):
    monkeypatch.setenv("ROADSEG_CACHE", "off")
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"


def test_another_device_is_torchs(model, cache, convert):
    with pytest.raises(EngineError, match="device 'cuda:99' cannot be used here"):
        make_engine(model, "auto", "auto", "cuda:99")
    assert convert.precisions == []


@pytest.mark.parametrize("missing", ["openvino", "onnx", "onnxscript"])
def test_without_a_package_torch_runs_it(model, cache, convert, monkeypatch, caplog, missing):
    caplog.set_level(logging.INFO)
    for module in (automatic, converted):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else find_spec(name))
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"
    assert convert.precisions == []
    assert any("installed" in record.message for record in caplog.records)


@pytest.mark.parametrize("damage", ["cut", "lost", "no json", "changed", "empty"])
def test_a_broken_entry_is_made_again(model, cache, convert, damage):
    make_engine(model, "auto", "auto", "cpu")
    entry = cache / entry_name(model.digest, "f32")
    weights = entry / "model.bin"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "lost":
        weights.unlink()
    elif damage == "no json":
        (entry / "artefact.json").write_text("{")
    elif damage == "changed":
        weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    else:
        shutil.rmtree(entry)
        entry.mkdir()
    assert make_engine(model, "auto", "auto", "cpu").name == "openvino"
    assert convert.precisions == ["f32", "f32"] and names(cache) == [entry.name]


def test_an_entry_of_another_model_is_not_used(model, tiny_models, cache, convert):
    """Somebody renames it, or two digests begin alike."""
    make_engine(tiny_models[64], "auto", "auto", "cpu")
    (cache / entry_name(tiny_models[64].digest, "f32")).rename(cache / entry_name(model.digest, "f32"))
    make_engine(model, "auto", "auto", "cpu")
    assert len(convert.precisions) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners of files")
def test_what_another_user_made_is_not_used(model, cache, convert, monkeypatch, caplog):
    make_engine(model, "auto", "auto", "cpu")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"
    assert any("belongs to another user" in record.message for record in caplog.records)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions")
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_may_write_to_is_not_used(model, cache, convert, mode):
    cache.mkdir()
    cache.chmod(mode)
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"
    assert convert.precisions == []


def test_a_link_in_place_of_an_entry_is_not_followed(model, cache, convert, tmp_path):
    make_engine(model, "auto", "auto", "cpu")
    entry = cache / entry_name(model.digest, "f32")
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"


def test_where_no_folder_can_be_made_torch_runs_it(model, cache, convert, caplog):
    cache.write_text("a file where the folder should be")
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"
    assert any("not run in OpenVINO" in record.message and str(cache) in record.message for record in caplog.records)


def test_a_full_disk_leaves_nothing_and_is_tried_again(model, cache, convert):
    def full(output: Path) -> None:
        output.mkdir()
        (output / "model.xml").write_text("half")
        raise OSError(28, "No space left on device", str(output))

    convert.before = full
    assert make_engine(model, "auto", "auto", "cpu").name == "torch"
    assert names(cache) == []
    convert.before = lambda output: None
    assert make_engine(model, "auto", "auto", "cpu").name == "openvino"


def test_what_does_not_compute_the_same_is_not_tried_again_and_again(model, cache, convert, caplog):
    caplog.set_level(logging.INFO)

    def mismatch(output: Path) -> None:
        raise MismatchError("a table\nthe openvino model differs")

    convert.before = mismatch
    for _ in range(2):
        assert make_engine(model, "auto", "auto", "cpu").name == "torch"
    assert convert.precisions == ["f32"]
    (failed,) = cache.iterdir()
    told = [record for record in caplog.records if "the openvino model differs" in record.message]
    assert any(str(failed) in record.message and record.levelno == logging.WARNING for record in told)
    failed.unlink()
    convert.before = lambda output: None
    assert make_engine(model, "auto", "auto", "cpu").name == "openvino"


@pytest.mark.parametrize(
    "note", ['{"versions": {"torch": "1.0"}, "reason": "long ago"}', "MismatchError: no JSON", "[]"]
)
def test_what_other_versions_could_not_convert_is_tried(model, cache, convert, note):
    cache.mkdir(mode=0o700)
    (cache / f"{entry_name(model.digest, 'f32')}.failed").write_text(note)
    assert make_engine(model, "auto", "auto", "cpu").name == "openvino"


def test_openvino_can_be_asked_for_and_then_nothing_else_runs_the_model(model, cache, convert):
    assert make_engine(model, "openvino", "auto", "cpu").name == "openvino"
    assert make_engine(model, "openvino", "f32", "auto").precision == "f32"
    assert convert.precisions == ["f32"]
    with pytest.raises(EngineError, match="--format openvino --precision int8 -o DIR"):
        make_engine(model, "openvino", "int8", "cpu")


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_streams_reach_openvino(model, cache, convert, monkeypatch, engine):
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert make_engine(model, engine, "f32", "cpu").streams == 1
    assert make_engine(model, engine, "f32", "cpu", streams=2).streams == 2
    assert make_engine(model, engine, "f32", "cpu", streams=9).streams == 3


def test_openvino_asked_for_says_why_it_cannot_be(model, cache, convert, monkeypatch):
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(EngineError, match=rf"{cache} belongs to another user, or other users may write to it"):
        make_engine(model, "openvino", "auto", "cpu")
    monkeypatch.setenv("ROADSEG_CACHE", "off")
    with pytest.raises(EngineError, match="nothing is converted for OpenVINO, because ROADSEG_CACHE is 'off'"):
        make_engine(model, "openvino", "auto", "cpu")


def test_a_wrong_number_of_threads_is_refused_before_anything_is_converted(model, cache, convert, monkeypatch):
    monkeypatch.setenv("ROADSEG_THREADS", "two")
    for engine in ("auto", "openvino"):
        with pytest.raises(EngineError, match="ROADSEG_THREADS is 'two'"):
            make_engine(model, engine, "auto", "cpu")
    assert convert.precisions == []


@pytest.mark.parametrize("device", ["/dev/nvidiactl", "/dev/dxg", "/dev/nvmap"])
def test_where_linux_may_have_cuda_torch_is_asked(monkeypatch, device):
    """Servers and desktops, Windows' subsystem for Linux, and Jetsons."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os.path, "exists", lambda path: path == device)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert automatic._has_cuda()
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert not automatic._has_cuda()


@pytest.mark.skipif(converted.fcntl is None, reason="folders cannot be locked")
def test_a_process_waits_while_another_one_converts(model, cache, convert, caplog):
    cache.mkdir(mode=0o700)
    handle = os.open(cache, os.O_RDONLY)  # a lock belongs to the opened folder: this one is as good as another process'
    converted.fcntl.flock(handle, converted.fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(make_engine, model, "auto", "auto", "cpu")
        while not any("waiting for another process" in record.message for record in caplog.records):
            assert not waiting.done()
            time.sleep(0.01)
        assert convert.precisions == []
        os.close(handle)
        assert waiting.result(60).name == "openvino"


def test_of_two_processes_that_convert_at_once_the_first_wins(model, cache, convert):
    entry = cache / entry_name(model.digest, "f32")

    def other_process(output: Path) -> None:
        shutil.copytree(convert.source, entry)
        seal(entry, ArtefactFacts("openvino", "f32", model.header, model.digest, details={"by": "the other"}))

    convert.before = other_process
    engine = make_engine(model, "auto", "auto", "cpu")
    assert engine._artefact.facts.details == {"by": "the other"}
    assert names(cache) == [entry.name]


def test_of_several_threads_one_converts(model, cache, convert):
    started = threading.Barrier(4)

    def make(_: int) -> str:
        started.wait()
        return make_engine(model, "auto", "auto", "cpu").name

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, range(4))) == ["openvino"] * 4
    assert convert.precisions == ["f32"]


def test_what_killed_conversions_left_is_removed_after_a_day(model, cache, convert):
    cache.mkdir(mode=0o700)
    entry = entry_name(model.digest, "f32")
    left = [cache / f".{entry}.{'0' * 32}", cache / f"..{entry}.{'1' * 32}.{'2' * 32}.part"]
    young, foreign, link = cache / f".{entry}.{'3' * 32}", cache / ".git", cache / f".{entry}.{'4' * 32}"
    for folder in (*left, young, foreign):
        folder.mkdir()
    link.symlink_to(foreign)
    for folder in (*left, foreign):
        os.utime(folder, (0, 0))
    make_engine(model, "auto", "auto", "cpu")
    assert not any(folder.exists() for folder in left)
    assert young.exists() and foreign.exists() and link.exists(), "a user may name a folder that holds other things"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ROADSEG_CACHE": "/a/b"}, "/a/b"),
        ({"ROADSEG_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/roadseg"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/roadseg"),  # as the XDG specification says
        ({"HOME": "/h"}, "/h/.cache/roadseg"),
        ({"ROADSEG_CACHE": "off"}, "None"),
    ],
)
def test_the_folder_is_the_users(monkeypatch, variables, expected):
    for name in ("ROADSEG_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == expected


def test_other_versions_have_other_entries(model, monkeypatch):
    mine = entry_name(model.digest, "f32")
    monkeypatch.setattr(converted, "_version", lambda package: "99.0")
    assert entry_name(model.digest, "f32") != mine
    assert entry_name(model.digest, "bf16") != entry_name(model.digest, "f32")


@pytest.mark.slow
def test_a_model_file_is_really_converted(model, cache):
    assert make_engine(model, "auto", "auto", "cpu").name == "openvino"
    (entry,) = cache.iterdir()
    assert (entry / "model.xml").is_file()
