"""Videos in, masks out."""

import json
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from roadseg.errors import ConfigError, CorruptImageError, OutputError
from roadseg.inference.segmenting.products import Products
from roadseg.inference.segmenting.video_files import MaskVideoWriter, VideoReader
from tests.inference.segmenting.conftest import photo
from tests.inference.segmenting.test_resuming import make_run, masks

FPS = 12.5


def write_video(path, frames, size=(48, 64)):
    """Motion JPEG of smooth colours: whatever is decoded from it is what counts."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, size[::-1])
    assert video.isOpened()
    for i in range(frames):
        coarse = np.random.default_rng(i).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        video.write(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    video.release()
    return path


def frames_of(path):
    """As OpenCV decodes them."""
    video, frames = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        frames.append(read[1])
    return frames, video.get(cv2.CAP_PROP_FPS)


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "drive").mkdir()
    return write_video(tmp_path / "drive" / "clip.avi", 9)


def rows(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()[1:]]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_mask_video_holds_the_masks_of_the_frames_bit_by_bit(clip, tmp_path, predictor, batch_size):
    run = make_run(predictor, [clip], tmp_path / "out")
    run = replace(run, pipeline=replace(run.pipeline, batch_size=batch_size))
    counted = []
    summary = run.segment(lambda outcome: None, counted.append)
    sources, _ = frames_of(clip)
    masks, fps = frames_of(tmp_path / "out" / "clip.mkv")
    assert fps == FPS and len(masks) == len(sources) == sum(counted) == summary.written == 9
    expected = [predictor(frame[..., ::-1].copy(), confidence=True) for frame in sources]
    for mask, result in zip(masks, expected, strict=True):
        assert all(np.array_equal(mask[..., channel], result.mask) for channel in range(3))
    (row,) = rows(tmp_path / "out")
    assert (row["video"], row["mask"], row["frames"], row["fps"], row["size"]) == (
        "clip.avi",
        "clip.mkv",
        9,
        FPS,
        [48, 64],
    )
    assert row["classes"] == {
        name: sum(result.areas().get(name, 0) for result in expected) for name in row["classes"]
    } and sum(row["classes"].values()) == 9 * 48 * 64  # fmt: skip
    assert row["mean_confidence"] == pytest.approx(np.mean([r.confidence.mean() for r in expected]), abs=1e-5)
    assert not list((tmp_path / "out").glob(".*"))


def test_frames_are_numbered_from_0_and_resumed(clip, tmp_path, predictor):
    def run(**how):
        return make_run(predictor, [clip], tmp_path / "out", video="frames", **how).segment(lambda outcome: None)

    assert run().written == 9
    sources, _ = frames_of(clip)
    folder = tmp_path / "out" / "clip"
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:06d}.png" for i in range(9)]
    for i, frame in enumerate(sources):
        mask = np.asarray(Image.open(folder / f"{i:06d}.png"))
        assert np.array_equal(mask, predictor(frame[..., ::-1].copy()).mask)
    assert run(resume=True).skipped == 1
    (folder / "000004.png").unlink()
    assert run(resume=True).written == 9
    drawn = [folder / "000009.png", folder / "000004_overlay.png", folder / "notes.txt"]
    for path in drawn:
        path.write_bytes(b"by hand")
    write_video(clip, 5)
    assert run(resume=True).written == 5
    left = [f"{i:06d}.png" for i in range(5)] + [path.name for path in drawn]
    assert sorted(p.name for p in folder.iterdir()) == sorted(left), "no frame of the longer one, all that is not its"
    assert all(path.read_bytes() == b"by hand" for path in drawn)
    write_video(clip, 7)
    assert run(overwrite=True).written == 7
    assert len(list(folder.iterdir())) == 7 + len(drawn)


def test_videos_that_are_broken_are_rows_and_leave_nothing(tmp_path, predictor):
    folder = tmp_path / "drive"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mkv").write_bytes(b"this is no video" * 100)
    whole = write_video(folder / "cut.avi", 60).read_bytes()
    (folder / "cut.avi").write_bytes(whole[: len(whole) // 3])
    videos = sorted(folder.iterdir())
    summary = make_run(predictor, videos, tmp_path / "out").segment(lambda outcome: None)
    assert summary.failed == 3
    errors = {row["video"]: row["error"] for row in rows(tmp_path / "out")}
    assert "empty.mp4 is no video that can be decoded here: empty, damaged, cut off" in errors["empty.mp4"]
    assert "text.mkv is no video that can be decoded here" in errors["text.mkv"]
    assert "cut.avi is cut off: the file ends before its own lengths say" in errors["cut.avi"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]


def test_an_interrupted_video_leaves_no_half_file(clip, tmp_path, predictor):
    run_engine, calls = predictor.engine.run, []

    def interrupting(images, outputs, *, rescale=True):
        calls.append(images)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run_engine(images, outputs, rescale=rescale)

    predictor.engine.run = interrupting
    with pytest.raises(KeyboardInterrupt):
        make_run(predictor, [clip], tmp_path / "out").segment(lambda outcome: None)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]
    assert make_run(predictor, [clip], tmp_path / "out", resume=True).segment(lambda outcome: None).written == 9


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (48, 63), (1, 1)])
def test_every_class_id_survives_in_any_size(tmp_path, size):
    path = tmp_path / "mask.mkv"
    masks = [np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8) for i in range(3)]
    writer = MaskVideoWriter(path, 30000 / 1001, size)
    for mask in masks:
        writer.add(mask)
    with pytest.raises(OutputError, match="of 4 frames it holds 3; choose another place or make room"):
        writer.close(4)
    frames, fps = frames_of(path)
    assert fps == pytest.approx(30000 / 1001, abs=0.01)
    for frame, mask in zip(frames, masks, strict=True):
        assert np.array_equal(frame[: size[0], : size[1], 0], mask)
        assert (frame[size[0] :] == 255).all() and (frame[:, size[1] :] == 255).all()


def test_colours_are_rgb(tmp_path):
    video = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (64, 48))
    video.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order: red
    video.release()
    with VideoReader(tmp_path / "red.avi", "displayed") as reader:
        (frame,) = reader
    red, green, blue = frame.reshape(-1, 3).mean(0)
    assert red > 240 and green < 15 and blue < 15


def segment(predictor, sources, output, **how):
    return make_run(predictor, sources, output, **how).segment(lambda outcome: None)


def test_frames_never_mix_with_masks_of_earlier_runs(clip, tmp_path, predictor):
    for i in range(3):
        photo(tmp_path / "images" / "clip" / f"{i:06d}.jpg", i)
    drive, images, out = clip.parent, tmp_path / "images", tmp_path / "out"
    segment(predictor, [images], out)
    before = masks(out)
    with pytest.raises(ConfigError, match=r"frames of .*clip.avi would be written to .*out/clip, where an earlier"):
        segment(predictor, [drive], out, video="frames", resume=True)
    assert masks(out) == before
    segment(predictor, [drive], tmp_path / "other", video="frames")
    before = masks(tmp_path / "other")
    with pytest.raises(
        ConfigError, match=r"clip/000000.jpg would be written to .*other/clip, where the frames of the video clip.avi"
    ):
        segment(predictor, [images], tmp_path / "other", resume=True)
    assert masks(tmp_path / "other") == before
    segment(predictor, [drive], out, video="mask", resume=True)
    assert len(masks(out)) == 4


@pytest.mark.parametrize("output", ["frames", "mask"])
def test_a_video_that_is_broken_by_now_leaves_no_mask_of_its_former_self(clip, tmp_path, predictor, output):
    segment(predictor, [clip], tmp_path / "out", video=output, products=Products(overlay=True, confidence=True))
    clip.write_bytes(clip.read_bytes()[:-3000])
    summary = segment(predictor, [clip], tmp_path / "out", video=output, resume=True)
    assert summary.failed == 1 and list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "manifest.jsonl"]


def test_frames_and_a_mask_video_of_one_video_are_never_there_together(clip, tmp_path, predictor):
    everything = {"frames": [f"clip/{i:06d}.png" for i in range(9)], "mask": ["clip.mkv"]}
    for output in ("frames", "mask", "frames"):
        segment(predictor, [clip], tmp_path / "out", video=output, resume=True)
        assert sorted(masks(tmp_path / "out")) == everything[output]


def test_an_interrupt_among_frames_leaves_no_frame_and_what_a_kill_left_is_removed(clip, tmp_path, predictor):
    run_engine, calls = predictor.engine.run, []

    def interrupting(images, outputs, *, rescale=True):
        calls.append(images)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return run_engine(images, outputs, rescale=rescale)

    predictor.engine.run = interrupting
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        segment(predictor, [clip], out, video="frames")
    assert [p.name for p in out.iterdir()] == ["manifest.jsonl"]
    photo(out / ".part.clip" / "000077.png")
    segment(predictor, [clip], out, video="frames", resume=True)
    assert sorted(masks(out)) == [f"clip/{i:06d}.png" for i in range(9)]


def test_a_mask_video_that_cannot_take_its_name_stops_the_run_and_leaves_nothing(clip, tmp_path, predictor):
    run = make_run(predictor, [clip], tmp_path / "out")
    (tmp_path / "out" / "clip.mkv" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*out/clip.mkv: Is a directory; choose another place"):
        run.segment(lambda outcome: None)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["clip.mkv", "manifest.jsonl"]


def test_a_mask_video_that_lost_frames_on_a_full_disk_leaves_no_file(clip, tmp_path, predictor, monkeypatch):
    add = MaskVideoWriter.add
    added = []
    monkeypatch.setattr(MaskVideoWriter, "add", lambda self, mask: len(added) > 4 or added.append(add(self, mask)))
    with pytest.raises(OutputError, match="of 9 frames it holds 5; choose another place or make room"):
        segment(predictor, [clip], tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]


def encoded(path, codec, frames=60):
    """Grey frames at 10 a second; in the container that the ending stands for."""
    video = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    assert video.isOpened()
    for i in range(frames):
        video.write(np.full((48, 64, 3), 4 * i, np.uint8))
    video.release()
    return path


def patched(path, mark, offset, value):
    """Bytes behind a mark in a file, replaced."""
    data = bytearray(path.read_bytes())
    at = data.index(mark) + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


def slow_motion(path):
    """A Matroska file of half the frame rate that its track states: the estimate of its frames is twice as many."""
    return patched(path, bytes.fromhex("2ad7b183"), 4, (2_000_000).to_bytes(3, "big"))


def trimmed(path):
    """An MP4 whose edit list (ISO/IEC 14496-12, 8.6.6) plays half of its frames: so phones cut without encoding."""
    data = path.read_bytes()
    duration = struct.unpack_from(">I", data, data.index(b"elst") + 12)[0]
    return patched(path, b"elst", 12, struct.pack(">I", duration // 2))


@pytest.mark.parametrize(
    ("name", "codec", "change", "frames"),
    [
        ("a.mkv", "MJPG", slow_motion, 60),
        ("a.mp4", "mp4v", trimmed, 30),
        ("a.webm", "VP80", None, 60),
        ("a.ts", "mp4v", None, 60),
        ("a.mpg", "MPG2", None, 60),
        ("a.avi", "MJPG", None, 60),
    ],
)
def test_a_whole_video_is_never_called_incomplete_by_an_estimate(tmp_path, name, codec, change, frames):
    path = encoded(tmp_path / name, codec)
    if change:
        change(path)
    with VideoReader(path, "displayed") as reader:
        assert sum(1 for _ in reader) == frames
        assert change is None or reader.said == 2 * frames  # what an estimate would have made of it


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "MJPG"), ("a.webm", "VP80"), ("a.mp4", "mp4v"), ("a.avi", "MJPG")]
)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_video_that_is_cut_off_is_told_from_its_own_lengths(tmp_path, name, codec, share):
    data = encoded(tmp_path / name, codec).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CorruptImageError, match=f"{name} is cut off: the file ends before its own lengths say"):
        VideoReader(tmp_path / name, "displayed")


def test_what_somebody_appended_to_a_video_does_not_cut_it_off(tmp_path):
    for name, codec in (("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "MJPG")):
        path = encoded(tmp_path / name, codec, 5)
        path.write_bytes(path.read_bytes() + b"\xff" * 100)
        with VideoReader(path, "displayed") as reader:
            assert sum(1 for _ in reader) == 5
