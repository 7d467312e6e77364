"""Folders by the client: the record that `roadseg segment` keeps, by a service that goes, changes and refuses."""

import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image

from roadseg.errors import ConfigError, OutputError, RoadsegError, ServiceError, ServiceUnreachableError
from tests.client.scripted import BOTH, Script, answer, models, problem, scripted

SIZE = (2, 3)


@pytest.fixture
def drive(tmp_path):
    """Twelve images in two folders, one of each colour, and a file that is none."""
    folder = tmp_path / "drive"
    for i in range(12):
        path = folder / f"{'ab'[i % 2]}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), i, np.uint8)).save(path)
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder


class Thirds:
    """A service whose mask is the image's colour modulo 3; after so many it is broken."""

    def __init__(self, broken=None, after=10**6):
        self.segmented = 0
        self._broken, self._after = broken, after

    def __call__(self, request):
        if request.url.path == "/v1/models":
            return Script(listed=[models()])(request)
        self.segmented += 1
        if self.segmented > self._after:
            return Script(self._broken)(request)
        with Image.open(io.BytesIO(request.content)) as image:
            return self.mask(np.asarray(image))

    def mask(self, pixels):
        return answer(pixels[..., 0] % 3)


def rows(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def masks(output):
    found = sorted(output.rglob("*.png"))
    return {path.relative_to(output).as_posix(): np.asarray(Image.open(path)) for path in found}


def check_all_done(output):
    found = masks(output)
    assert sorted(found) == sorted(f"{'ab'[i % 2]}/{i:02d}.png" for i in range(12))
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, np.full(SIZE, int(name[2:4]) % 3))


@BOTH
def test_masks_lie_as_their_images_do_and_each_has_its_row(client_of, drive, tmp_path):
    output = tmp_path / "masks"
    summary = client_of(Thirds()).segment_folder(drive, output, concurrency=3)
    check_all_done(output)
    header, *done = rows(output)
    assert (summary.written, summary.failed, summary.skipped) == (12, 1, 0)
    assert header["model"] == "nano at http://service.test" and header["model_digest"] == "d1"
    assert {row["image"] for row in done if "error" not in row} == {
        str(p.relative_to(drive)) for p in drive.rglob("*.png")
    }
    assert [row["image"] for row in done if "error" in row] == ["damaged.jpg"]


@BOTH
def test_what_is_done_is_not_sent_again(client_of, drive, tmp_path):
    service = Thirds()
    client = client_of(service)
    client.segment_folder(drive, tmp_path / "masks")
    before = service.segmented
    with pytest.raises(OutputError, match="--resume"):
        client.segment_folder(drive, tmp_path / "masks")
    (tmp_path / "masks" / "a" / "04.png").unlink()
    summary = client.segment_folder(drive, tmp_path / "masks", resume=True)
    assert service.segmented == before + 1
    assert (summary.written, summary.skipped, summary.failed) == (1, 11, 1)
    check_all_done(tmp_path / "masks")


def test_overlays_lie_beside_the_masks(drive, tmp_path):
    scripted(Thirds()).segment_folder(drive / "a", tmp_path / "masks", overlay=True)
    assert len(list((tmp_path / "masks").glob("*_overlay.png"))) == 6


def test_after_an_interrupt_all_that_was_written_is_recorded_and_the_rest_can_be_done(drive, tmp_path, monkeypatch):
    from roadseg.client import folder

    class Interrupted(folder.Progress):
        def report(self, outcome):
            super().report(outcome)
            if self.reported == 4:
                raise KeyboardInterrupt

    service, output = Thirds(), tmp_path / "masks"
    client = scripted(service)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folder, "Progress", Interrupted)
        client.segment_folder(drive, output, concurrency=3)
    recorded = {row["mask"] for row in rows(output)[1:] if "error" not in row}
    assert recorded == set(masks(output)) and 3 <= len(recorded) <= 7
    assert not list(output.rglob(".*.part"))
    client.segment_folder(drive, output, resume=True)
    assert service.segmented == 12, "no image twice, none left out"
    check_all_done(output)


@BOTH
def test_a_service_that_is_gone_ends_the_run_with_what_was_done(client_of, drive, tmp_path):
    service, output = Thirds(httpx.ConnectError("refused"), after=2), tmp_path / "masks"
    with pytest.raises(ServiceUnreachableError, match="refused"):
        client_of(service, retries=0).segment_folder(drive, output, concurrency=1)
    assert len(masks(output)) == 2
    assert service.segmented == 2 + 8, "so many in a row are enough"
    client_of(Thirds()).segment_folder(drive, output, resume=True)
    check_all_done(output)


def test_one_refused_image_does_not_end_it(drive, tmp_path):
    class Refusing(Thirds):
        def mask(self, pixels):
            return problem(500, "prediction-failed", "NaN") if pixels[0, 0, 0] == 5 else super().mask(pixels)

    summary = scripted(Refusing()).segment_folder(drive, tmp_path / "masks")
    assert (summary.written, summary.failed) == (11, 2)


@BOTH
def test_a_folder_holds_masks_of_one_model(client_of, drive, tmp_path):
    output = tmp_path / "masks"
    with pytest.raises(ServiceError, match="model d2, and began with d1"):
        client_of(Thirds(answer(digest="d2"), after=3)).segment_folder(drive, output, concurrency=1)
    assert len(masks(output)) == 3
    newer = Script(answer(digest="d2"), listed=[models("d2")])
    with pytest.raises(OutputError, match="another run"):
        client_of(newer).segment_folder(drive, output, resume=True)


def test_two_images_for_one_mask_are_refused_before_anything_is_sent(drive, tmp_path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(drive / "a" / "02.jpg")
    service = Thirds()
    with pytest.raises(ConfigError, match=r"02\.(jpg|png) and .*02\.(jpg|png) would both be written"):
        scripted(service).segment_folder(drive, tmp_path / "masks")
    assert service.segmented == 0


def test_videos_are_refused(drive, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(RoadsegError, match="video"):
        scripted(Thirds()).segment_folder([drive, tmp_path / "a.mp4"], tmp_path / "masks")


def test_an_image_of_an_unforeseen_fault_is_one_failure(drive, tmp_path, monkeypatch):
    from roadseg.client import folder

    read = folder.read_frame

    def faulty(job, *rest):
        if job.relative == "a/04.png":
            raise MemoryError
        return read(job, *rest)

    monkeypatch.setattr(folder, "read_frame", faulty)
    summary = scripted(Thirds()).segment_folder(drive, tmp_path / "masks")
    assert (summary.written, summary.failed) == (11, 2)
    assert any("MemoryError" in row.get("error", "") for row in rows(tmp_path / "masks")[1:])


def test_an_output_that_cannot_be_written_ends_the_run(drive, tmp_path, monkeypatch):
    from roadseg.client import folder

    def full(*_):
        raise OutputError("cannot write: No space left on device") from OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_frame", full)
    service = Thirds()
    with pytest.raises(OutputError, match="No space left"):
        scripted(service).segment_folder(drive, tmp_path / "masks", concurrency=2)
    assert service.segmented <= 4
