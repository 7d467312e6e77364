"""Rows in manifests: which counts, and what reading and writing them takes."""

import json
import os
import resource
import time

import pytest

from roadseg.errors import OutputError
from roadseg.inference.segmenting.done import Recorded, frame_name
from roadseg.inference.segmenting.manifest import ManifestWriter, read_rows
from roadseg.inference.segmenting.told import told_files


def manifest_of(path, *rows, **header):
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in ({"model_digest": "d", "format_version": 1, **header}, *rows))
    )
    return path


def test_of_rows_in_several_manifests_the_one_that_was_finished_last_counts(tmp_path):
    one = manifest_of(
        tmp_path / "manifest-1-of-2.jsonl",
        {"image": "a", "n": 1, "finished": 10.0},
        {"image": "b", "n": 2, "finished": 40.0},  # a run that went on after the whole
        {"image": "c", "n": 3, "finished": 11.0},  # a clock that was set back
        {"image": "b", "n": 4, "finished": 12.0},
        began=5.0,
    )
    two = manifest_of(
        tmp_path / "manifest.jsonl",
        {"image": "a", "n": 5, "finished": 30.0},
        {"image": "b", "n": 6, "finished": 31.0},
        {"image": "c", "n": 7, "finished": 32.0},
        began=20.0,
    )
    for paths in ([one, two], [two, one]):
        recorded = Recorded(paths)
        assert [recorded.last(name)["n"] for name in "abc"] == [5, 4, 3]
        recorded.close()


def test_manifests_without_times_count_in_the_order_in_which_they_were_begun_or_changed(tmp_path):
    paths = [manifest_of(tmp_path / f"manifest-{n}-of-2.jsonl", {"image": "a", "n": n}) for n in (1, 2)]
    for latest in (1, 2):
        for n, path in enumerate(paths, 1):
            os.utime(path, (100 + 100 * (n == latest),) * 2)
        recorded = Recorded(paths)
        assert recorded.last("a")["n"] == latest
        recorded.close()
    manifest_of(paths[0], {"image": "a", "n": 1}, began=time.time() + 10)
    recorded = Recorded(paths)
    assert recorded.last("a")["n"] == 1
    recorded.close()


def test_manifests_of_more_shards_than_a_process_may_have_files_open(tmp_path):
    paths = [manifest_of(tmp_path / f"manifest-{n}-of-300.jsonl", {"image": f"{n}.jpg", "n": n}) for n in range(1, 301)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        recorded = Recorded(paths)
        for n in (*range(1, 301), 7, 299):
            assert recorded.last(f"{n}.jpg")["n"] == n
        recorded.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_manifest_that_another_machine_writes_anew_is_not_misread(tmp_path):
    path = manifest_of(tmp_path / "manifest.jsonl", {"image": "a", "n": 1}, {"image": "b", "n": 2})
    recorded = Recorded([path])
    path.write_text("{}\n" * 4)
    assert recorded.last("a") is None and recorded.last("b") is None
    recorded.close()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg"])
def test_a_row_leads_nowhere_outside_the_folder(name):
    assert list(told_files({"image": name, "mask_sha256": "0", "overlay": True})) == []
    assert list(told_files({"video": name, "output": "frames", "frames": 3})) == []


def test_names_of_equal_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("roadseg.inference.segmenting.done._key", lambda name: 7)
    path = tmp_path / "manifest.jsonl"
    rows = [{"image": "a", "n": 1}, {"image": "b", "n": 2}, {"image": "a", "n": 3}, {"folder": "x"}, {"video": "v"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in ({"model_digest": "d", "format_version": 1}, *rows)))
    recorded = Recorded([path])
    assert recorded.last("a") == rows[2] and recorded.last("b") == rows[1] and recorded.last("v") == rows[4]
    assert recorded.last("x") is None and len(recorded) == 4
    recorded.close()
    assert [frame_name(row) for _, row in read_rows(path)] == ["a", "b", "a", None, "v"]


def test_a_row_that_does_not_fit_on_the_disk_is_taken_back(tmp_path, monkeypatch):
    writer = ManifestWriter(tmp_path / "m.jsonl")
    writer.begin({"model_digest": "d"})
    writer.append({"image": "a"})
    before = (tmp_path / "m.jsonl").read_bytes()
    file = writer._file

    class Full:
        def write(self, data):
            file.write(data[:5])
            raise OSError(28, "No space left on device")

        truncate, seek, close = file.truncate, file.seek, file.close

    monkeypatch.setattr(writer, "_file", Full())
    with pytest.raises(OutputError, match="m.jsonl: No space left on device; choose another place or make room"):
        writer.append({"image": "b"})
    assert (tmp_path / "m.jsonl").read_bytes() == before
