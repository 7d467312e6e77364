"""Which mask goes where, and what is refused before anything is written."""

import os
import tracemalloc

import pytest
from PIL import Image

from roadseg.errors import ConfigError, DataError, OutputError
from roadseg.images import find_images
from roadseg.inference.segmenting.jobs import FileJob, VideoJob
from roadseg.inference.segmenting.plan import plan_files
from roadseg.inference.segmenting.probing import probe_output
from roadseg.inference.segmenting.products import Products
from roadseg.inference.segmenting.shards import Shard, parse_shard
from tests.inference.segmenting.conftest import photo

OVERLAY = Products(overlay=True)


def names(plan):
    return [job.relative for job in plan]


def test_folders_keep_their_structure(drive, tmp_path):
    plan = plan_files([drive, drive / "night" / "b.png"], tmp_path / "out")
    jobs = list(plan)
    assert [job.mask.relative_to(tmp_path).as_posix() for job in jobs] == [
        "out/a.png", "out/night/a.png", "out/night/b.png", "out/b.png",
    ]  # fmt: skip
    assert [job.name for job in jobs] == ["a", "night/a", "night/b", "b"]
    assert jobs[0].overlay == tmp_path / "out" / "a_overlay.png" and len(plan) == 4


def test_the_walk_finds_what_a_plain_search_finds_in_the_order_of_paths(tmp_path):
    for name in ("b/x.jpg", "b.jpg", "b-1/y.PNG", "a.webp", "c/d/e.jpeg", "c/d.png", "B.jpg", "z.txt", "c/é.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "c" / "folder.jpg").mkdir()
    (tmp_path / "c" / "folder.jpg" / "inside.jpg").touch()
    plain = [p for p in tmp_path.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"} and p.is_file()]
    assert find_images([tmp_path]) == sorted(plain) and len(plain) == 9


def test_links_that_lead_in_circles_end_and_those_that_lead_nowhere_are_not_hidden(drive, tmp_path):
    (drive / "loop").symlink_to(drive)
    (drive / "self.jpg").symlink_to(drive / "self.jpg")
    (drive / "gone.jpg").symlink_to(drive / "nowhere.jpg")
    (drive / "linked.png").symlink_to(drive / "night" / "b.png")
    (drive / "elsewhere.jpg").symlink_to(drive / "night")
    assert names(plan_files([drive], tmp_path / "out")) == [
        "a.png", "gone.jpg", "linked.png", "night/a.jpg", "night/b.png", "self.jpg",
    ]  # fmt: skip
    named = [path for path in sorted(drive.glob("*.jpg")) if path.name != "elsewhere.jpg"]
    assert names(plan_files(named, tmp_path / "other")) == ["gone.jpg", "self.jpg"]


def test_a_pipe_is_not_waited_for(drive, tmp_path):
    os.mkfifo(drive / "pipe.jpg")
    assert len(plan_files([drive], tmp_path / "out")) == 3
    with pytest.raises(DataError, match="pipe.jpg is no file; give image files"):
        plan_files([drive / "pipe.jpg"], tmp_path / "out")


def test_two_masks_of_one_name_are_refused_before_anything_is_written(drive, tmp_path):
    with pytest.raises(
        ConfigError, match=r"drive/a.png and .*night/a.jpg would both be written to .*out/a.png; rename"
    ):
        plan_files([drive / "a.png", drive / "night" / "a.jpg"], tmp_path / "out")
    photo(drive / "night" / "a.png")
    with pytest.raises(ConfigError, match=r"night/a.jpg and .*night/a.png would both be written to .*out/night/a.png"):
        plan_files([drive], tmp_path / "out")


def test_shards_refuse_a_clash_between_their_frames(drive, tmp_path):
    photo(drive / "night" / "a.png")
    for number in (1, 2):
        with pytest.raises(ConfigError, match="would both be written to"):
            plan_files([drive], tmp_path / "out", shard=Shard(number, 2))


def test_an_image_named_twice_is_segmented_once(drive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(plan_files([drive / "a.png", "drive/a.png", drive, "drive/../drive"], tmp_path / "out")) == 3


def test_overlays_clash_only_where_they_are_written(drive, tmp_path):
    Image.open(drive / "a.png").save(drive / "a_overlay.png")
    assert len(plan_files([drive], tmp_path / "out")) == 4
    with pytest.raises(ConfigError, match="would both be written to .*a_overlay.png"):
        plan_files([drive], tmp_path / "out", products=OVERLAY)


def test_an_output_never_replaces_an_input(drive):
    with pytest.raises(ConfigError, match=r"a.png would replace an input image; choose another output folder"):
        plan_files([drive], drive)


def test_masks_never_lie_among_the_images_that_are_searched(tmp_path):
    photo(tmp_path / "drive" / "a.jpg")
    with pytest.raises(ConfigError, match=r"drive is searched for images, and the next time .* such as .*drive/masks"):
        plan_files([tmp_path / "drive"], tmp_path / "drive")
    assert len(plan_files([tmp_path / "drive" / "a.jpg"], tmp_path / "drive")) == 1  # nothing is searched


def test_masks_below_the_images_are_not_taken_for_images(drive, tmp_path):
    plan = plan_files([drive], drive / "masks")
    photo(drive / "masks" / "a.png")
    (drive / "masks" / "manifest.jsonl").touch()
    assert names(plan) == names(plan_files([drive], drive / "masks")) == ["a.png", "night/a.jpg", "night/b.png"]
    with pytest.raises(ConfigError, match=r"drive/night lies in a folder .* holds images, such as .*a.jpg"):
        plan_files([drive], drive / "night")  # passing over it would leave frames out unseen


def test_masks_that_nobody_knows_of_are_not_replaced(drive, tmp_path):
    drawn = photo(tmp_path / "out" / "night" / "b.png")
    with pytest.raises(OutputError, match=r"night/b.png is there, and no manifest in .*out tells of it; .*--overwrite"):
        plan_files([drive], tmp_path / "out")
    assert len(plan_files([drive], tmp_path / "out", overwrite=True)) == 3
    drawn.unlink()
    assert len(plan_files([drive], tmp_path / "out")) == 3


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_done(drive, tmp_path, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("night"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    plan = plan_files([drive], tmp_path / "out")
    (unlisted,) = plan.unlisted
    assert names(plan) == ["a.png"] and unlisted.relative == "night"
    assert "night: Permission denied; check its permissions" in str(unlisted.error)
    with pytest.raises(DataError, match="cannot list .*night: Permission denied"):
        find_images([drive])


def test_planning_holds_little_a_frame(tmp_path):
    (tmp_path / "drive").mkdir()
    for i in range(4000):
        (tmp_path / "drive" / f"frame_{i:07d}.jpg").touch()
    tracemalloc.start()
    plan = plan_files([tmp_path / "drive"], tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    jobs = sum(1 for _ in plan)
    walking = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (jobs, len(plan)) == (4000, 4000)
    assert max(peak, walking) / 4000 < 150  # the name of a folder's file, and 8 bytes; a job is five times as much


def test_shards_cover_everything_once_and_stay_when_frames_are_added(tmp_path):
    for i in range(60):
        (tmp_path / "drive" / f"{i}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / "drive" / f"{i}.jpg").touch()
    plans = [plan_files([tmp_path / "drive"], tmp_path / "out", shard=Shard(n, 3)) for n in (1, 2, 3)]
    before = [set(names(plan)) for plan in plans]
    assert [len(plan) for plan in plans] == [len(part) for part in before]
    assert sorted(n for part in before for n in part) == sorted(f"{i}.jpg" for i in range(60)) and min(map(len, before))
    (tmp_path / "drive" / "0a.jpg").touch()
    for plan, part in zip(plans, before, strict=True):
        assert set(names(plan)) - {"0a.jpg"} == part


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "\u0661/\u0662"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="use NUMBER/TOTAL, from 1/1"):
        parse_shard(text)
    assert parse_shard("2/8") == Shard(2, 8) and Shard(2, 8).file_name("a.jsonl") == "a-2-of-8.jsonl"


def test_videos_are_taken_when_they_are_asked_for_or_named(drive, tmp_path):
    (drive / "clip.MP4").touch()
    assert len(plan_files([drive], tmp_path / "out")) == 3
    for video, mask in (("mask", "out/clip.mkv"), ("frames", "out/clip")):
        first = next(job for job in plan_files([drive], tmp_path / "out", video=video) if isinstance(job, VideoJob))
        assert first == VideoJob(drive / "clip.MP4", tmp_path / mask, "clip.MP4", video)
    named = plan_files([drive / "clip.MP4", drive / "a.png"], tmp_path / "out")
    assert [type(job) for job in named] == [VideoJob, FileJob]
    (drive / "clip.avi").touch()
    with pytest.raises(ConfigError, match="would both be written to .*clip.mkv"):
        plan_files([drive], tmp_path / "out", video="mask")


@pytest.mark.parametrize("name", [b"new\nline.jpg", b"caf\xe9.jpg", b" .jpg", "日本.jpg".encode(), b"a.b.c.jpg"])
def test_any_file_name_has_a_mask(tmp_path, name):
    folder = tmp_path / "drive"
    folder.mkdir()
    (folder / os.fsdecode(name)).touch()
    (job,) = plan_files([folder], tmp_path / "out")
    assert os.fsencode(job.mask.name) == name[:-4] + b".png" and os.fsencode(job.relative) == name


def test_the_frames_of_a_video_have_their_folder_for_themselves(drive, tmp_path):
    (drive / "night.mp4").touch()  # its frames would go to out/night, as do the masks of night/a.jpg
    with pytest.raises(
        ConfigError, match=r"drive/night.mp4 and .*drive/night/.* would both be written to .*out/night;"
    ):
        plan_files([drive], tmp_path / "out", video="frames")
    with pytest.raises(ConfigError, match="would both be written to"):
        plan_files([drive], tmp_path / "out", video="frames", shard=Shard(1, 2))
    assert len(plan_files([drive], tmp_path / "out", video="mask")) == 4
    (drive / "night.mp4").rename(drive / "day.mp4")
    assert len(plan_files([drive], tmp_path / "out", video="frames")) == 4
    (drive / "day").mkdir()
    (drive / "day" / "b.avi").touch()  # a folder of frames within a folder of frames
    with pytest.raises(ConfigError, match=r"drive/day.mp4 and .*drive/day/b.avi would both be written to .*out/day;"):
        plan_files([drive], tmp_path / "out", video="frames")


def test_frames_of_a_video_never_lie_among_its_unfinished_ones(drive, tmp_path):
    (drive / "clip.mp4").touch()
    photo(drive / ".part.clip" / "000000.jpg")  # where frames of clip.mp4 are until they are whole
    with pytest.raises(ConfigError, match=r"clip.mp4 and .*000000.jpg would both be written to .*out/.part.clip"):
        plan_files([drive], tmp_path / "out", video="frames")


def test_frames_of_a_video_never_replace_inputs(tmp_path):
    (tmp_path / "clip.mp4").touch()
    photo(tmp_path / "clip" / "000000.png")
    with pytest.raises(ConfigError, match=r"clip would replace an input image; choose another output folder"):
        plan_files([tmp_path / "clip.mp4", tmp_path / "clip" / "000000.png"], tmp_path, video="frames")


def test_a_mask_where_others_need_a_folder_is_refused(drive, tmp_path):
    photo(drive / "a.png.d" / "x.jpg")
    photo(drive / "b.png" / "x.jpg")
    assert len(plan_files([drive], tmp_path / "out")) == 5
    photo(drive / "b.jpg")  # its mask is out/b.png, and that of b.png/x.jpg is out/b.png/x.png
    with pytest.raises(ConfigError, match=r"drive/b.jpg and .*b.png/x.jpg would both be written to .*out/b.png;"):
        plan_files([drive], tmp_path / "out")


def test_names_that_differ_in_case_alone_clash_where_the_disk_takes_them_for_one(drive, tmp_path, monkeypatch):
    photo(drive / "Night" / "A.jpg")
    assert len(plan_files([drive], tmp_path / "out")) == 4
    monkeypatch.setattr("roadseg.inference.segmenting.plan.probe_output", lambda output: True)
    with pytest.raises(ConfigError, match=r"Night/A.jpg and .*night/a.jpg would both be written to .*out/Night/A.png"):
        plan_files([drive], tmp_path / "out")


def test_the_disk_of_the_output_is_asked_whether_case_counts(tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    assert probe_output(tmp_path / "out" / "deep") == (tmp_path / "X").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    lexists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: lexists(os.path.join(*os.path.split(path.lower()))))
    assert probe_output(tmp_path / "out")


def test_an_output_that_cannot_be_written_is_refused_before_the_folders_are_gone_through(drive, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*out/manifest.jsonl: Read-only file system; choose another"):
        plan_files([drive], tmp_path / "out")
    assert not (tmp_path / "out").exists()
