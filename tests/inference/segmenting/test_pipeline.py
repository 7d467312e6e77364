"""Reading, segmenting and writing at once: what comes out, and what trouble does."""

import errno
import hashlib
import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.errors import EngineError, OutputError
from roadseg.ignore_regions import IgnoreRegions
from roadseg.inference.predictor import Predictor
from roadseg.inference.segmenting import pipeline as pipeline_module
from roadseg.inference.segmenting.frame import expected_pixels
from roadseg.inference.segmenting.jobs import FileJob
from roadseg.inference.segmenting.pipeline import Pipeline
from roadseg.inference.segmenting.plan import plan_files
from roadseg.inference.segmenting.products import Products
from tests.inference.segmenting.conftest import photo


def run(pipeline, jobs):
    outcomes = []
    pipeline.run(((job, None) for job in jobs), outcomes.append)
    return {outcome.relative: outcome for outcome in outcomes}


def png_16_bit(path):
    """A 16-bit RGB PNG, written by hand; its high bytes are a picture, its low bytes noise."""
    high = np.asarray(Image.open(photo(path))).copy()
    low = np.random.default_rng(3).integers(0, 256, high.shape, dtype=np.uint8)
    rows = np.stack([high, low], -1).reshape(len(high), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", high.shape[1], high.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    data = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return high


def test_each_frame_has_its_mask_and_a_row_that_tells_the_truth_of_it(drive, tmp_path, predictor):
    products = Products(overlay=True, confidence=True)
    jobs = list(plan_files([drive], tmp_path / "out", products=products))
    outcomes = run(Pipeline(predictor, products=products), jobs)
    assert outcomes.keys() == {"a.png", "night/a.jpg", "night/b.png"}
    for job in jobs:
        expected = predictor(job.image, confidence=True)
        row = outcomes[job.relative].row
        assert np.array_equal(np.asarray(Image.open(job.mask)), expected.mask)
        assert np.array_equal(np.asarray(Image.open(job.overlay)), expected.overlay())
        grey = np.asarray(Image.open(job.confidence))
        assert grey.dtype == np.uint8 and np.abs(grey / 255.0 - expected.confidence).max() < 0.00197
        assert row["image"] == job.relative and row["mask"] == job.mask.relative_to(tmp_path / "out").as_posix()
        assert row["sha256"] == hashlib.sha256(job.image.read_bytes()).hexdigest()
        assert row["mask_sha256"] == hashlib.sha256(job.mask.read_bytes()).hexdigest()
        assert row["mask_bytes"] == job.mask.stat().st_size and row["size"] == [40, 50]
        assert row["classes"] == expected.areas() and sum(row["classes"].values()) == 2000
        assert row["mean_confidence"] == pytest.approx(expected.confidence.astype(np.float64).mean(), abs=1e-6)
        assert row["seconds"] > 0 and row["exif_orientation"] == 1


def test_ignored_pixels_count_neither_as_a_class_nor_as_doubt(drive, tmp_path, predictor):
    regions = IgnoreRegions([{"polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]], "frames": "night/*"}])
    masked = Predictor(predictor.engine, predictor.header, predictor.digest, regions)
    outcomes = run(Pipeline(masked), plan_files([drive], tmp_path / "out"))
    row, whole = outcomes["night/b.png"].row, predictor(drive / "night" / "b.png", confidence=True)
    assert row["left_out_px"] == 1000 and sum(row["classes"].values()) == 1000
    assert row["mean_confidence"] == pytest.approx(whole.confidence[:20].astype(np.float64).mean(), abs=1e-6)
    assert outcomes["a.png"].row["left_out_px"] == 0


def test_what_cannot_be_read_is_a_row_and_does_not_stop_the_rest(drive, tmp_path, predictor, monkeypatch):
    (drive / "empty.jpg").touch()
    (drive / "page.jpg").write_bytes(b"<html>not found</html>")
    whole = io.BytesIO()
    Image.open(drive / "a.png").save(whole, "JPEG")
    (drive / "cut.jpg").write_bytes(whole.getvalue()[:-200])
    (drive / "folder.jpg").mkdir()
    high = png_16_bit(drive / "deep.png")
    locked = photo(drive / "locked.png")
    read = Path.read_bytes

    def refusing(path):
        if path == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    outcomes = run(Pipeline(predictor, batch_size=3), plan_files([drive], tmp_path / "out"))
    errors = {name: outcome.row["error"] for name, outcome in outcomes.items() if outcome.error}
    assert errors.keys() == {"empty.jpg", "page.jpg", "cut.jpg", "locked.png"}
    assert "empty.jpg is empty (0 bytes)" in errors["empty.jpg"]
    assert "is not a JPEG, PNG or WebP" in errors["page.jpg"]
    assert "truncated or damaged" in errors["cut.jpg"]
    assert "cannot read" in errors["locked.png"] and "Permission denied" in errors["locked.png"]
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {"a.png", "deep.png", "night/a.png", "night/b.png"}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "deep.png")), predictor(high).mask)


def test_batches_hold_images_of_one_size_and_change_nothing(tmp_path, predictor):
    sizes = [(40, 50), (40, 50), (40, 50), (24, 24), (40, 50), (24, 24), (24, 24)]
    for i, size in enumerate(sizes):
        photo(tmp_path / "drive" / f"{i}.png", i, size)
    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    assert all(outcome.error is None for outcome in run(Pipeline(predictor, batch_size=2), plan).values())
    counts = [(shape[0], shape[1:3]) for shape, _, _ in predictor.engine.calls]
    assert counts == [(2, (40, 50)), (1, (40, 50)), (1, (24, 24)), (1, (40, 50)), (2, (24, 24))]
    for job in plan:
        assert np.array_equal(np.asarray(Image.open(job.mask)), predictor(job.image).mask)


def failing(predictor, fails):
    """The engine refuses views of which `fails` says so."""
    run_engine = predictor.engine.run

    def engine_run(images, outputs, *, rescale=True):
        if fails(images):
            raise RuntimeError("out of memory on the device\nwith a second line")
        return run_engine(images, outputs, rescale=rescale)

    predictor.engine.run = engine_run
    return predictor


def test_a_batch_that_fails_is_tried_one_by_one(tmp_path, predictor):
    for i in range(6):
        photo(tmp_path / "drive" / f"{i}.png", i)
    bad = np.asarray(Image.open(tmp_path / "drive" / "4.png"))
    predictor = failing(predictor, lambda images: any(np.array_equal(image, bad) for image in images))
    outcomes = run(Pipeline(predictor, batch_size=3), plan_files([tmp_path / "drive"], tmp_path / "out"))
    assert [name for name, outcome in sorted(outcomes.items()) if outcome.error] == ["4.png"]
    assert "4.png: RuntimeError: out of memory on the device" in outcomes["4.png"].row["error"]


def test_an_engine_that_is_broken_stops_the_run_and_not_every_frame(tmp_path, predictor):
    for i in range(30):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    reported = []
    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    with pytest.raises(EngineError, match="failed on 8 images in a row, the last time with: RuntimeError: out of mem"):
        Pipeline(failing(predictor, lambda images: True)).run(((job, None) for job in plan), reported.append)
    assert len(reported) == 7 and not list((tmp_path / "out").glob("**/*"))


def test_a_full_disk_stops_the_run_and_leaves_no_half_file(tmp_path, predictor, monkeypatch):
    for i in range(12):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    write, lock, written = Path.write_bytes, threading.Lock(), []

    def filling(path, data):
        with lock:
            written.append(path)
            if len(written) > 4:
                write(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", filling)
    reported = []
    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    with pytest.raises(
        OutputError, match=r"cannot write .*: No space left on device; choose another place or make room"
    ):
        Pipeline(predictor).run(((job, None) for job in plan), reported.append)
    there = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert there == sorted(Path(outcome.row["mask"]).name for outcome in reported) and len(there) == 4
    assert len(written) < 12


def test_an_interrupt_finishes_what_is_under_way_and_reports_it(tmp_path, predictor):
    for i in range(20):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    calls = []

    def interrupting(images):
        calls.append(images)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return False

    reported = []
    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        Pipeline(failing(predictor, interrupting)).run(((job, None) for job in plan), reported.append)
    assert sorted(outcome.relative for outcome in reported) == [f"{i:02d}.png" for i in range(5)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{i:02d}.png" for i in range(5)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read_", "write_"))]


def test_frames_in_memory_are_bounded_by_their_bytes_from_the_first_one_on(tmp_path, predictor, monkeypatch):
    for i in range(20):
        photo(tmp_path / "drive" / f"{i:02d}.png", i, (8, 10) if i in (7, 8, 9) else (80, 100))
    monkeypatch.setattr(pipeline_module, "MEMORY_BYTES", 80 * 100 * 11 * 2)  # two that are being decoded or written
    read, lock, alive, most = pipeline_module.read_frame, threading.Lock(), set(), 0

    def reading(job, *arguments):
        nonlocal most
        with lock:
            alive.add(job.relative)
            most = max(most, sum(name not in ("07.png", "08.png", "09.png") for name in alive))
        return read(job, *arguments)

    monkeypatch.setattr(pipeline_module, "read_frame", reading)
    done = []

    def report(outcome):
        with lock:
            alive.remove(outcome.relative)
        done.append(outcome.relative)

    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    Pipeline(predictor, workers=8).run(((job, None) for job in plan), report)
    assert done == [f"{i:02d}.png" for i in range(20)]
    assert 2 <= most <= 4  # 22 bytes a pixel are one at 11 and three decoded ones at 3


def test_memory_is_foreseen_from_headers_and_from_the_manifest(tmp_path):
    job = FileJob(photo(tmp_path / "a.png", size=(40, 50)), tmp_path / "out" / "a.png", "a.png")
    assert expected_pixels(job, None) == expected_pixels(job, {"error": "cannot read it"}) == 2000
    job.image.write_bytes(job.image.read_bytes()[:100])  # a header and little more
    assert expected_pixels(job, None) == 2000
    job.image.write_bytes(b"x" * 12345)
    assert expected_pixels(job, None) == expected_pixels(job, {"size": "?"}) == 12345, "it will be read as a whole"
    job.image.unlink()
    assert expected_pixels(job, None) == 0
    assert expected_pixels(job, {"size": [30, 70]}) == 2100, "the file is not opened"


def test_one_image_that_takes_more_than_all_memory_runs_alone(tmp_path, predictor, monkeypatch):
    for i in range(5):
        photo(tmp_path / "drive" / f"{i}.png", i)
    monkeypatch.setattr(pipeline_module, "MEMORY_BYTES", 100)
    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    for batch_size in (1, 3):
        outcomes = run(Pipeline(predictor, batch_size=batch_size), plan)
        assert len(outcomes) == 5 and all(outcome.error is None for outcome in outcomes.values())


def png_header(width, height):
    """A PNG that says it is of a size, and has one row at most."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(3 * width))),
        (b"IEND", b""),
    )
    data = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_no_file_of_a_folder_ends_the_run_or_is_waited_for(tmp_path, predictor):
    good = photo(tmp_path / "drive" / "good.png")
    (tmp_path / "drive" / "bomb.png").write_bytes(png_header(30_000, 30_000))
    (tmp_path / "drive" / "wide.png").write_bytes(png_header(13_000, 13_000))
    (tmp_path / "drive" / "gone.jpg").symlink_to("../archive/gone.jpg")
    (tmp_path / "drive" / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "drive" / "pipe.jpg")
    with (tmp_path / "drive" / "disk.jpg").open("wb") as file:
        file.truncate(40 << 30)  # takes no room on the disk; read, it would take all memory
    names = ["bomb.png", "circle.jpg", "disk.jpg", "gone.jpg", "good.png", "pipe.jpg", "wide.png"]
    outcomes = run(Pipeline(predictor), [FileJob(tmp_path / "drive" / n, tmp_path / "out" / n, n) for n in names])
    errors = {name: outcome.row["error"] for name, outcome in outcomes.items() if outcome.error}
    assert outcomes["good.png"].row["sha256"] == hashlib.sha256(good.read_bytes()).hexdigest() and len(errors) == 6
    assert "bomb.png is 30000x30000 = 900000000 pixels; at most" in errors["bomb.png"]
    assert "wide.png is truncated or damaged" in errors["wide.png"]
    assert "gone.jpg (a link to ../archive/gone.jpg): No such file or directory" in errors["gone.jpg"]
    assert "circle.jpg (a link to circle.jpg): Too many levels of symbolic links" in errors["circle.jpg"]
    assert "pipe.jpg is no file but a pipe" in errors["pipe.jpg"]
    assert f"disk.jpg has {40 << 30} bytes; an image that can be decoded has at most" in errors["disk.jpg"]


def test_a_name_that_cannot_be_written_costs_its_frame_alone(tmp_path, predictor):
    names = ["a.png", "long" * 62 + "n.png", "taken.jpg", "under/x.jpg", "z.png"]
    jobs = []
    for i, name in enumerate(names):
        image = photo(tmp_path / "drive" / name, i)
        jobs.append(FileJob(image, (tmp_path / "out" / name).with_suffix(".png"), name))
    (tmp_path / "out" / "taken.png" / "x").mkdir(parents=True)
    (tmp_path / "out" / "under").touch()
    outcomes = run(Pipeline(predictor), jobs)
    errors = {name: outcome.row["error"] for name, outcome in outcomes.items() if outcome.error}
    assert list(errors) == names[1:4]
    for name, words in zip(names[1:4], ("File name too long", "Is a directory", "File exists"), strict=True):
        assert "cannot write" in errors[name] and words in errors[name]


def test_a_worker_that_fails_in_writing_costs_one_frame(drive, tmp_path, predictor, monkeypatch):
    make = pipeline_module.write_frame

    def failing_write(frame, result, products, seconds):
        if frame.job.relative == "night/a.jpg":
            raise MemoryError("no room for the PNG")
        return make(frame, result, products, seconds)

    monkeypatch.setattr(pipeline_module, "write_frame", failing_write)
    outcomes = run(Pipeline(predictor), plan_files([drive], tmp_path / "out"))
    assert [n for n, o in outcomes.items() if o.error] == ["night/a.jpg"]
    assert "MemoryError: no room for the PNG" in outcomes["night/a.jpg"].row["error"]


def test_a_frame_whose_redoing_fails_leaves_no_half_file_of_the_run_before(tmp_path, predictor):
    job = FileJob(tmp_path / "a.jpg", tmp_path / "out" / "a.png", "a.jpg")
    job.image.write_bytes(b"broken by now")
    job.mask.parent.mkdir()
    (tmp_path / "out" / ".a.png.part").write_bytes(b"half")
    assert run(Pipeline(predictor), [job])["a.jpg"].error is not None
    assert list((tmp_path / "out").iterdir()) == []
