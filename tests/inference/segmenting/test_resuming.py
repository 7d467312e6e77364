"""The manifest, and runs that go on where others stopped."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import roadseg.inference.predictor
from roadseg.cli import main
from roadseg.errors import DataError, OutputError
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg.inference.segmenting.manifest import ManifestWriter, make_header
from roadseg.inference.segmenting.names import name_fields, name_from
from roadseg.inference.segmenting.pipeline import Pipeline
from roadseg.inference.segmenting.plan import plan_files
from roadseg.inference.segmenting.products import MASK_ALONE, Products
from roadseg.inference.segmenting.run import Run
from roadseg.inference.segmenting.shards import Shard
from tests.inference.fake_engine import FakeEngine
from tests.inference.segmenting.conftest import photo


def make_run(
    predictor,
    sources,
    output,
    *,
    shard=None,
    products=MASK_ALONE,
    regions=None,
    orientation="displayed",
    video=None,
    resume=False,
    overwrite=False,
):
    how = {"resume": resume, "overwrite": overwrite}
    plan = plan_files(sources, output, products=products, video=video, shard=shard, **how)
    header = make_header("nano", predictor, orientation, regions, plan.sources)
    run = Run(plan, Pipeline(predictor, orientation, products), header, **how)
    run.check()
    return run


def segmented(predictor, sources, output, **options):
    """The summary, and which frames went through the network."""
    done = []
    summary = make_run(predictor, sources, output, **options).segment(done.append)
    return summary, sorted(outcome.relative for outcome in done if outcome.row is not None)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def masks(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.suffix != ".jsonl" and p.is_file()
    }


def test_the_manifest_begins_with_what_all_frames_have_in_common(drive, tmp_path, predictor):
    (drive / "empty.jpg").touch()
    summary, _ = segmented(predictor, [drive], tmp_path / "out")
    header, *rows = lines(tmp_path / "out" / "manifest.jsonl")
    assert header["format_version"] == 1 and header["roadseg"] == roadseg.__version__
    assert header["model_digest"] == "d" * 64 and header["precision"] == "f32" and header["engine"] == "fake"
    assert header["options"] == InferenceOptions().to_dict() and header["taxonomy"]["name"] == "camvid11"
    assert {row["image"]: "error" in row for row in rows} == {
        "a.png": False, "empty.jpg": True, "night/a.jpg": False, "night/b.png": False,
    }  # fmt: skip
    assert (summary.written, summary.failed, summary.skipped) == (3, 1, 0)
    assert str(summary).endswith(f"; 1 failed; manifest: {tmp_path}/out/manifest.jsonl")


def test_resuming_does_what_is_missing_failed_changed_or_gone(drive, tmp_path, predictor):
    (drive / "late.jpg").write_bytes(b"not yet copied")
    for name in ("gone", "cut", "touched"):
        photo(drive / f"{name}.png", 7)
    segmented(predictor, [drive], tmp_path / "out")
    photo(drive / "late.jpg", 8)
    photo(drive / "new.png", 9)
    photo(drive / "night" / "b.png", 10)
    os.utime(drive / "touched.png", (1, 1))  # only its times are others
    (tmp_path / "out" / "gone.png").unlink()
    (tmp_path / "out" / "cut.png").write_bytes(b"")  # as a machine that lost power leaves it
    summary, done = segmented(predictor, [drive], tmp_path / "out", resume=True)
    assert done == ["cut.png", "gone.png", "late.jpg", "new.png", "night/b.png"]
    assert (summary.written, summary.failed, summary.skipped) == (5, 0, 3)
    segmented(predictor, [drive], tmp_path / "anew")
    assert masks(tmp_path / "out") == masks(tmp_path / "anew")
    assert segmented(predictor, [drive], tmp_path / "out", resume=True)[1] == []


def test_what_lies_beside_the_mask_is_made_when_it_is_asked_for_later(drive, tmp_path, predictor):
    segmented(predictor, [drive], tmp_path / "out")
    everything = Products(overlay=True, confidence=True)
    _, done = segmented(predictor, [drive], tmp_path / "out", resume=True, products=everything)
    assert len(done) == 3 and (tmp_path / "out" / "night" / "b_confidence.png").is_file()
    assert segmented(predictor, [drive], tmp_path / "out", resume=True, products=everything)[1] == []


def test_a_torn_line_is_dropped_and_its_frame_done_again(drive, tmp_path, predictor):
    segmented(predictor, [drive], tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    whole = manifest.read_bytes()
    last = json.loads(whole.splitlines()[-1])["image"]
    manifest.write_bytes(whole[:-40])
    assert segmented(predictor, [drive], tmp_path / "out", resume=True)[1] == [last]
    assert len(lines(manifest)) == 4
    middle = whole.splitlines(keepends=True)
    middle[2] = b"\0" * 50 + b"\n"  # a block that a file system lost
    manifest.write_bytes(b"".join(middle))
    assert len(segmented(predictor, [drive], tmp_path / "out", resume=True)[1]) == 1
    manifest.write_bytes(whole[:30])  # not even the header: nothing is known
    assert len(segmented(predictor, [drive], tmp_path / "out", resume=True)[1]) == 3
    assert lines(manifest)[0]["model_digest"] == "d" * 64


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "e" * 64}, f'model_digest was "{"d" * 64}" and is now "{"e" * 64}"'),
        ({"options": InferenceOptions(flip=True)}, "options.flip was false and is now true"),
        ({"orientation": "stored"}, 'orientation was "displayed" and is now "stored"'),
        ({"regions": "f" * 64}, f'ignore_regions was null and is now "{"f" * 64}"'),
    ],
)
def test_masks_of_two_runs_are_never_mixed(drive, tmp_path, predictor, change, message, resume):
    segmented(predictor, [drive], tmp_path / "out")
    before = masks(tmp_path / "out")
    change = dict(change)
    digest, options = change.pop("digest", predictor.digest), change.pop("options", None)
    other = Predictor(predictor.engine, predictor.header, digest, options=options)
    with pytest.raises(OutputError) as caught:
        segmented(other, [drive], tmp_path / "out", resume=resume, **change)
    assert message in str(caught.value) and "choose another output folder, or --overwrite" in str(caught.value)
    assert masks(tmp_path / "out") == before
    segmented(other, [drive], tmp_path / "out", overwrite=True, **change)
    assert len(lines(tmp_path / "out" / "manifest.jsonl")) == 4


def test_the_same_command_again_is_refused_and_says_how_to_go_on(drive, tmp_path, predictor):
    segmented(predictor, [drive], tmp_path / "out")
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(
        OutputError, match=r"out holds masks of an earlier run, by manifest.jsonl; --resume to go on .* --overwrite to"
    ):
        segmented(predictor, [drive], tmp_path / "out")
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*")} == before
    assert segmented(predictor, [drive], tmp_path / "out", resume=True)[1] == []
    assert len(segmented(predictor, [drive], tmp_path / "out", overwrite=True)[1]) == 3
    assert len(lines(tmp_path / "out" / "manifest.jsonl")) == 4
    shutil.copytree(drive, tmp_path / "other")
    with pytest.raises(
        OutputError, match=r"manifest.jsonl is of .*/drive, this run of .*/other; --resume to add to it"
    ):
        segmented(predictor, [tmp_path / "other"], tmp_path / "out")


def test_a_run_that_wrote_nothing_is_begun_again_without_options(drive, tmp_path, predictor):
    run = make_run(predictor, [drive], tmp_path / "out")
    writer = ManifestWriter(run.manifest)
    writer.begin(run.header)
    writer.close()
    assert len(segmented(predictor, [drive], tmp_path / "out")[1]) == 3


def test_what_no_network_is_needed_for_is_refused_before_one_is_loaded(drive, tmp_path, capsys):
    command = ["segment", str(drive), "--model", "gone.safetensors", "-o"]
    assert main([*command, str(tmp_path / "out"), "--resume", "--overwrite"]) == 1
    assert "--resume keeps what is done and --overwrite begins anew; give one of them" in capsys.readouterr().err
    assert main([*command, "/dev/null/out"]) == 1
    assert "cannot write /dev/null/out/manifest.jsonl: Not a directory; choose another" in capsys.readouterr().err


def test_a_shard_is_begun_beside_others_but_not_on_top_of_the_whole(tmp_path, predictor):
    for i in range(8):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(1, 2))
    assert segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(2, 2))[0].skipped == 0
    for shard in (Shard(1, 2), Shard(1, 3), None):
        with pytest.raises(OutputError, match=r"by manifest-1-of-2.jsonl; --resume to go on with them"):
            segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=shard)


def test_a_file_that_is_no_manifest_is_left_alone(drive, tmp_path, predictor):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text('{"name": "a dataset of somebody"}\n')
    with pytest.raises(DataError, match="manifest.jsonl is no manifest of `roadseg segment`; move it away"):
        segmented(predictor, [drive], tmp_path / "out", resume=True)
    (tmp_path / "out" / "manifest.jsonl").write_text('{"model_digest": "d", "format_version": 9}\n')
    with pytest.raises(DataError, match="has format version 9, this roadseg knows 1"):
        segmented(predictor, [drive], tmp_path / "out")


def test_shards_share_a_folder_and_the_whole_goes_on_from_them(tmp_path, predictor):
    for i in range(16):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    parts = [segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(n, 2))[1] for n in (1, 2)]
    assert sorted(parts[0] + parts[1]) == [f"{i:02d}.png" for i in range(16)] and all(parts)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jsonl")) == [
        "manifest-1-of-2.jsonl",
        "manifest-2-of-2.jsonl",
    ]
    photo(tmp_path / "drive" / "99.png", 99)
    assert segmented(predictor, [tmp_path / "drive"], tmp_path / "out", resume=True)[1] == ["99.png"]
    other = Predictor(predictor.engine, predictor.header, "e" * 64)
    with pytest.raises(OutputError, match="manifest-1-of-2.jsonl is of another run"):
        segmented(other, [tmp_path / "drive"], tmp_path / "out", shard=Shard(3, 4))


def test_a_manifest_that_is_being_written_is_refused(drive, tmp_path, predictor):
    run = make_run(predictor, [drive], tmp_path / "out")
    writer = ManifestWriter(run.manifest)
    with pytest.raises(OutputError, match="another run is writing .*manifest.jsonl; wait for it"):
        run.segment(lambda outcome: None)
    writer.close()
    assert run.segment(lambda outcome: None).written == 3


@pytest.mark.parametrize(
    "raw", [b"plain.jpg", b"new\nline.jpg", b"caf\xe9.jpg", b"\\xe9.jpg", "日本.jpg".encode(), b'"']
)
def test_any_name_survives_the_record(raw):
    name = os.fsdecode(raw)
    written = json.loads(json.dumps(name_fields("image", name), ensure_ascii=False).encode())
    assert name_from(written, "image") == name


def test_names_that_are_no_text_are_segmented_and_resumed(tmp_path, predictor):
    (tmp_path / "drive").mkdir()
    for i, raw in enumerate((b"caf\xe9.png", b"caf\xea.png", b"new\nline.png")):
        shutil.copy(photo(tmp_path / "photo.png", i), os.fsencode(tmp_path / "drive") + b"/" + raw)
    assert len(segmented(predictor, [tmp_path / "drive"], tmp_path / "out")[1]) == 3
    assert set(os.listdir(os.fsencode(tmp_path / "out"))) == {
        b"caf\xe9.png", b"caf\xea.png", b"new\nline.png", b"manifest.jsonl",
    }  # fmt: skip
    assert segmented(predictor, [tmp_path / "drive"], tmp_path / "out", resume=True)[1] == []


SCRIPT = """
import signal
import sys
import roadseg.inference.predictor
from roadseg.cli import main
from tests.inference.fake_engine import FakeEngine
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes inherit that it is ignored
roadseg.inference.predictor.make_engine = lambda *arguments, **options: FakeEngine(11)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_ctrl_c_and_sigterm_end_with_whole_files_and_say_how_to_go_on(tmp_path, model_file, number, status, word):
    for i in range(300):
        photo(tmp_path / "drive" / f"{i:03d}.jpg", i, (64, 96))
    arguments = ["segment", str(tmp_path / "drive"), "--model", str(model_file), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=Path(roadseg.__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    manifest = tmp_path / "out" / "manifest.jsonl"
    while process.poll() is None and not (manifest.exists() and manifest.read_bytes().count(b"\n") > 10):
        time.sleep(0.002)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"recorded in {manifest}: the same command with --resume goes on from there" in error
    assert error.endswith(f"{word}\n") and "Traceback" not in error
    rows = {row["mask"]: row["mask_sha256"] for row in lines(manifest)[1:]}
    there = {n: hashlib.sha256(data).hexdigest() for n, data in masks(tmp_path / "out").items()}
    assert 10 <= len(rows) < 300 and rows == there, "what is written is recorded, and nothing else is there"


def test_many_sources_are_known_by_their_digest(tmp_path, predictor):
    sources = [photo(tmp_path / "drive" / f"{i:02d}.png", i) for i in range(14)]
    segmented(predictor, sources, tmp_path / "out")
    header = lines(tmp_path / "out" / "manifest.jsonl")[0]
    assert len(header["sources"]) == 10 and header["sources_count"] == 14
    segmented(predictor, sources[::-1], tmp_path / "out", overwrite=True)
    with pytest.raises(OutputError, match=r"04.png and 4 more, this run of .*09.png and 3 more; --resume to add to it"):
        segmented(predictor, sources[:-1], tmp_path / "out")


def test_a_run_that_is_killed_goes_on_to_the_same_files(tmp_path, model_file, monkeypatch):
    for i in range(200):
        photo(tmp_path / "drive" / f"cam{i % 2}" / f"{i:03d}.jpg", i, (64, 96))
    options = ["segment", str(tmp_path / "drive"), "--model", str(model_file), "--overlay", "-o"]
    command = [sys.executable, "-c", SCRIPT, *options, str(tmp_path / "out")]
    manifest = tmp_path / "out" / "manifest.jsonl"
    process = subprocess.Popen(command, cwd=Path(roadseg.__file__).parents[1], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (manifest.exists() and manifest.read_bytes().count(b"\n") > 10):
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert 10 <= manifest.read_bytes().count(b"\n") - 1 < 200, "killed in the middle"
    with manifest.open("ab") as file:
        file.write(b'{"image": "cam0/1')  # what a kill within a write would leave
    (tmp_path / "out" / "cam1").mkdir(exist_ok=True)
    (tmp_path / "out" / "cam1" / ".199.png.part").write_bytes(b"half of a mask")
    monkeypatch.setattr(roadseg.inference.predictor, "make_engine", lambda *arguments, **options: FakeEngine(11))
    extras = ["--rank", "uncertainty", "--to", "coco"]
    assert main([*options, str(tmp_path / "out"), "--resume", *extras]) == 0
    assert main([*options, str(tmp_path / "whole"), *extras]) == 0
    resumed, whole = masks(tmp_path / "out"), masks(tmp_path / "whole")
    assert resumed == whole and len(whole) == 2 * 200 + 2  # masks, overlays, ranking.csv, prelabels-coco.json
    rows = [
        {row["image"]: row["mask_sha256"] for row in lines(tmp_path / folder / "manifest.jsonl")[1:]}
        for folder in ("out", "whole")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 200
    assert (tmp_path / "out" / "ranking.jsonl").read_bytes() == (tmp_path / "whole" / "ranking.jsonl").read_bytes()


def test_a_folder_that_cannot_be_listed_is_a_row_and_done_when_it_can(drive, tmp_path, predictor):
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("night"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refusing)
        summary, _ = segmented(predictor, [drive], tmp_path / "out")
    assert (summary.written, summary.failed) == (1, 1)
    folder = lines(tmp_path / "out" / "manifest.jsonl")[1]
    assert folder["folder"] == "night" and "Permission denied; check its permissions" in folder["error"]
    assert segmented(predictor, [drive], tmp_path / "out", resume=True)[1] == ["night/a.jpg", "night/b.png"]


def test_a_run_that_goes_on_looks_at_the_newest_row(drive, tmp_path, predictor):
    out = tmp_path / "out"
    segmented(predictor, [drive], out)
    photo(drive / "a.png", 20)
    segmented(predictor, [drive], out, shard=Shard(1, 1), resume=True)  # its manifest's name comes first
    assert segmented(predictor, [drive], out, resume=True)[1] == []
    photo(drive / "a.png", 21)
    assert segmented(predictor, [drive], out, resume=True)[1] == ["a.png"]
    assert segmented(predictor, [drive], out, resume=True)[1] == []


class EngineWithFavourites(FakeEngine):
    """Gives images of the first two sizes that it meets other masks than all others."""

    special_sizes = 2

    def __init__(self):
        super().__init__(11)
        self.met = []

    def run(self, images, outputs, *, rescale=True):
        size = images.shape[1:3]
        if size not in self.met:
            self.met.append(size)
        return super().run(images if size in self.met[:2] else 255 - images, outputs, rescale=rescale)


def test_an_engine_that_treats_the_first_sizes_specially_does_so_after_resuming(predictor, tmp_path):
    sizes = [(40, 50), (50, 40), (30, 60), (40, 50), (30, 60), (60, 30)]
    for i, size in enumerate(sizes):
        photo(tmp_path / "all" / f"{i}.png", i, size)
    for i in range(3):
        photo(tmp_path / "first" / f"{i}.png", i, sizes[i])

    def fresh():
        return Predictor(EngineWithFavourites(), predictor.header, predictor.digest)

    segmented(fresh(), [tmp_path / "all"], tmp_path / "undisturbed")
    segmented(fresh(), [tmp_path / "first"], tmp_path / "out")
    segmented(fresh(), [tmp_path / "all"], tmp_path / "out", resume=True)
    assert masks(tmp_path / "out") == masks(tmp_path / "undisturbed")
    segmented(fresh(), [tmp_path / "first"], tmp_path / "other")
    idle = fresh()
    assert segmented(idle, [tmp_path / "all"], tmp_path / "out", resume=True)[0].skipped == 6
    assert idle.engine.met == [], "nothing was left to do"
    forgetful = fresh()
    forgetful.engine.special_sizes = 0
    segmented(forgetful, [tmp_path / "all"], tmp_path / "other", resume=True)
    assert masks(tmp_path / "other") != masks(tmp_path / "undisturbed"), "otherwise this would show nothing"


@pytest.mark.parametrize(
    ("before", "now", "mixes"),
    [("cuda:0", "cuda:1", True), ("gpu", "gpu.1", True), ("cpu", "cuda:0", False), ("cuda:0", "cpu", False)],
)
def test_devices_of_one_kind_go_together(drive, predictor, tmp_path, before, now, mixes):
    predictor.engine.device = before
    segmented(predictor, [drive], tmp_path / "out")
    predictor.engine.device = now
    if mixes:
        assert segmented(predictor, [drive], tmp_path / "out", resume=True)[0].skipped == 3
        return
    with pytest.raises(OutputError, match=f'device was "{before}" and is now "{now}"'):
        segmented(predictor, [drive], tmp_path / "out", resume=True)


def test_the_engine_to_go_on_with_is_named(drive, predictor, tmp_path):
    predictor.engine.name = "openvino"
    segmented(predictor, [drive], tmp_path / "out")
    predictor.engine.name = "torch"
    with pytest.raises(OutputError, match='engine was "openvino" and is now "torch"; give --engine openvino, choose'):
        segmented(predictor, [drive], tmp_path / "out", resume=True)


def test_images_of_a_size_that_the_model_does_not_take_cost_no_others(predictor, tmp_path):
    for i in range(12):
        photo(tmp_path / "drive" / f"a{i:02d}.png", i, (30, 60))
    photo(tmp_path / "drive" / "b.png", 12, (40, 50))
    static = Predictor(FakeEngine(11), predictor.header, predictor.digest, static_size=(40, 50))
    summary, _ = segmented(static, [tmp_path / "drive"], tmp_path / "out")
    assert (summary.written, summary.failed) == (1, 12)
    rows = [row for row in lines(tmp_path / "out" / "manifest.jsonl")[1:] if "error" in row]
    assert all("exported for images of 40x50 px only; this one has 30x60 px" in row["error"] for row in rows)
