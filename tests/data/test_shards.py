"""Shards give what the files they were made of give: from a folder, from a web server, in worker processes."""

import hashlib
import json
import os
import pickle
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from roadseg.data import shard_writer
from roadseg.data.class_table import ClassTable, SourceLabel
from roadseg.data.datasets.camvid import open_camvid
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.mapped import MappedFrames
from roadseg.data.sampling import EpochSampler, SampleKey
from roadseg.data.shards import ShardedFrames, write_shards
from roadseg.errors import ConfigError, DataError, OutputError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy
from tests.conftest import write_frame

webdataset = pytest.importorskip("webdataset", reason="needs the package webdataset to write shards")


@pytest.fixture
def camvid(camvid_root: Path) -> LabelledFrames:
    """16 frames, of 64x96 but one, which is a JPEG of 40x56."""
    write_frame(camvid_root, "train", "frame_007", 7, (40, 56))
    png = camvid_root / "camvid" / "train" / "frame_007.png"
    Image.open(png).save(png.with_suffix(".jpg"), quality=90)
    png.unlink()
    return open_camvid(camvid_root / "camvid")


@pytest.fixture
def shards(camvid, tmp_path) -> Path:
    """In shards of 5, 5, 5 and 1 frames."""
    write_shards(camvid, tmp_path / "shards", frames_per_shard=5)
    return tmp_path / "shards"


@pytest.fixture
def server(shards, monkeypatch):
    """A web server for the shards: its URL, and how often each file was asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked: Counter[str] = Counter()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked[self.path.rpartition("/")[2]] += 1
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=shards.parent)) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/shards", asked
        http.shutdown()


def assert_same(one, other, positions=None) -> None:
    assert [f._replace(image="", label="") for f in one.frames] == [
        f._replace(image="", label="") for f in other.frames
    ]
    for i in range(len(other.frames)) if positions is None else positions:
        size = other.image_size(i)
        assert one.image_size(i) == size
        assert np.array_equal(one.read_image(i), other.read_image(i))
        labels = one.read_labels(i, size)
        assert labels.dtype == other.read_labels(i, size).dtype
        assert np.array_equal(labels, other.read_labels(i, size))


def test_shards_give_the_frames_of_the_files(camvid, shards):
    opened = ShardedFrames(shards)
    assert_same(opened, camvid)
    assert (opened.name, opened.collection, opened.classes) == (camvid.name, camvid.collection, camvid.classes)
    assert opened.read_image(7, reduction=4).shape == camvid.read_image(7, reduction=4).shape == (10, 14, 3)
    assert_same(ShardedFrames(f"file://{shards}"), camvid)
    opened.verify()
    with pytest.raises(DataError, match=r"000000000.label.png have the shape \(64, 96\), their image \(96, 64\)"):
        opened.read_labels(0, (96, 64))


def test_a_model_trains_on_shards_as_on_files(camvid, shards):
    taxonomy = load_taxonomy("hdmap-camvid")
    sets = LabelSets.collect(taxonomy, camvid.classes.sets_in(taxonomy).values())
    files, streamed = MappedFrames(camvid, sets), MappedFrames(ShardedFrames(shards), sets)
    for i in range(len(files)):
        for one, other in zip(files[i], streamed[i], strict=True):
            assert np.array_equal(one, other)


def test_the_files_in_the_tars_are_the_images_as_they_were_and_index_pngs(camvid, shards, tmp_path):
    with tarfile.open(shards / "shard-000001.tar") as tar:
        assert tar.getnames()[6:9] == ["000000007.jpg", "000000007.json", "000000007.label.png"]
        if hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3 have none
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(tmp_path / "x")
    assert (tmp_path / "x" / "000000007.jpg").read_bytes() == camvid.frames.image_path(7).read_bytes()
    label = np.asarray(Image.open(tmp_path / "x" / "000000007.label.png"))
    assert np.array_equal(label, np.asarray(Image.open(camvid.frames.label_path(7))))
    assert json.loads((tmp_path / "x" / "000000007.json").read_text()) == {
        "name": "frame_007", "drive": "frame", "split": "train", "height": 40, "width": 56,
    }  # fmt: skip


def test_the_library_itself_reads_the_shards(camvid, shards):
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"])["name"] for sample in samples] == [frame.name for frame in camvid.frames]
    assert samples[0]["png"] == camvid.frames.image_path(0).read_bytes()


def test_the_index_holds_true_digests_and_the_same_frames_give_the_same_bytes(camvid, shards, tmp_path):
    index = json.loads((shards / "index.json").read_text())
    assert [entry["frames"] for entry in index["shards"]] == [5, 5, 5, 1]
    for entry in [*index["shards"], index["frames"]]:
        data = (shards / entry["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    again = write_shards(camvid, tmp_path / "again", frames_per_shard=5)
    assert again.read_bytes() == (shards / "index.json").read_bytes()
    assert sorted(p.name for p in shards.iterdir()) == [
        "frames.jsonl", "index.json", *(f"shard-00000{i}.tar" for i in range(4)),
    ]  # fmt: skip


def test_taking_frames_keeps_their_shards_and_blocks_say_where_these_meet(camvid, shards):
    opened = ShardedFrames(shards)
    assert opened.blocks.tolist() == [0, 5, 10, 15, 16]
    order = [15, 3, 4, 5, 0]
    taken = opened.take(order)
    assert_same(taken, camvid.take(order))
    assert taken.blocks.tolist() == [0, 1, 3, 4, 5]
    assert_same(taken.take([4, 1]), camvid.take([0, 3]))
    assert opened.take([]).blocks.tolist() == [0] and len(opened) == 16


def test_labels_of_16_bits_and_odd_names_survive(tmp_path):
    names = ["a.b/c d", "ü" * 60 + "/" + "x" * 120, "z\udcff"]
    ids = np.array([[0, 255, 256], [1000, 40000, 65535]])
    for i in range(3):
        Image.new("RGB", (3, 2), (i, 0, 0)).save(tmp_path / f"{i}.PNG")
    frames = [Frame(name, f"{i}.PNG", "l", "dr/ive", "test") for i, name in enumerate(names)]
    table = ClassTable("mine", (SourceLabel(65535, "x", (1, 2, 3), {"hdmap": ("road", "wall")}, 7),), "here", "mine")
    source = LabelledFrames("mine", FrameTable(tmp_path, frames), table, lambda *_: ids.astype(np.int32), "ours")
    write_shards(source, tmp_path / "s")
    opened = ShardedFrames(tmp_path / "s")
    assert [frame.name for frame in opened.frames] == names
    assert (opened.classes, opened.collection) == (table, "ours")
    for i in range(3):
        assert opened.read_labels(i, (2, 3)).dtype == np.uint16
        assert np.array_equal(opened.read_labels(i, (2, 3)), ids)
        assert opened.read_image(i)[0, 0].tolist() == [i, 0, 0]
    ids[0, 0] = -1
    with pytest.raises(DataError, match="holds label ids from -1 to 65535; shards hold 0 to 65535"):
        write_shards(source, tmp_path / "t")


def test_writing_goes_on_where_it_was_stopped(camvid, tmp_path, monkeypatch):
    folder, original = tmp_path / "s", shard_writer._files_of
    written = []

    def stop_at_12(source, position):
        written.append(position)
        if position == 12 and written.count(12) == 1:
            raise KeyboardInterrupt
        return original(source, position)

    monkeypatch.setattr(shard_writer, "_files_of", stop_at_12)
    with pytest.raises(KeyboardInterrupt):
        write_shards(camvid, folder, 5)
    (folder / ".shard-000002.tar.1.part").write_text("of a process that was killed")
    with pytest.raises(DataError, match="index.json: No such file or directory; is this a folder of shards?"):
        ShardedFrames(folder)
    write_shards(camvid, folder, 5)
    assert written == [*range(13), *range(10, 16)]
    assert_same(ShardedFrames(folder), camvid)
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_a_folder_that_holds_something_else_is_left_alone(camvid, shards, tmp_path):
    with pytest.raises(OutputError, match="holds finished shards, and nothing is overwritten; choose another folder"):
        write_shards(camvid, shards, 5)
    (shards / "index.json").unlink()
    for source, count in ((camvid, 4), (camvid.take([*range(15, -1, -1)]), 5)):
        with pytest.raises(OutputError, match="shard-000000.tar is there already and holds other frames"):
            write_shards(source, shards, count)
    (shards / "shard-000000.tar").write_bytes(b"no tar")
    with pytest.raises(OutputError, match="shard-000000.tar is there already and holds other frames"):
        write_shards(camvid, shards, 5)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write shards to .*file"):
        write_shards(camvid, tmp_path / "file")


def test_what_cannot_be_written_is_refused_by_name(camvid, tmp_path):
    with pytest.raises(ConfigError, match="frames_per_shard is 0"):
        write_shards(camvid, tmp_path / "s", 0)
    with pytest.raises(DataError, match="dataset 'camvid' has no frames"):
        write_shards(camvid.take([]), tmp_path / "s")
    camvid.frames.image_path(3).unlink()
    with pytest.raises(DataError, match="cannot read .*frame_003.png: No such file"):
        write_shards(camvid, tmp_path / "s")
    assert list((tmp_path / "s").glob("*.tar")) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("shard-000002.tar", lambda p: p.unlink(), "cannot read .*shard-000002.tar: No such file"),
        (
            "shard-000002.tar",
            lambda p: p.write_bytes(p.read_bytes()[:20000]),
            "shard-000002.tar ends before byte .*cut off",
        ),
        ("frames.jsonl", cut, "frames.jsonl ends before byte"),
        (
            "frames.jsonl",
            lambda p: p.write_text(p.read_text().replace("train", "valid")),
            "jsonl is not as it was written",
        ),
        ("index.json", lambda p: p.write_text("{"), r"index.json is damaged, or no index of shards \(JSONDecodeError"),
        ("index.json", lambda p: p.write_text("[]"), "index.json is damaged"),
        (
            "index.json",
            lambda p: p.write_text(p.read_text().replace("shard-000001", "../../etc/x")),
            "file is '../../etc",
        ),
        (
            "index.json",
            lambda p: p.write_text(p.read_text().replace('"version": 1', '"version": 2')),
            "has version 2; this",
        ),
        (
            "index.json",
            lambda p: p.write_text(p.read_text().replace('"frames": 5', '"frames": 4')),
            "does not fit its index",
        ),
    ],
)
def test_damage_is_named(shards, file, spoil, message):
    spoil(shards / file)
    with pytest.raises(DataError, match=message):
        opened = ShardedFrames(shards)
        for i in range(len(opened)):
            opened.read_labels(i, opened.image_size(i))
            opened.read_image(i)


def test_a_changed_byte_is_found_when_shards_are_verified(shards):
    data = bytearray((shards / "shard-000001.tar").read_bytes())
    data[5000] ^= 1
    (shards / "shard-000001.tar").write_bytes(data)
    with pytest.raises(DataError, match="shard-000001.tar is not as it was written: its SHA-256 is not"):
        ShardedFrames(shards).verify()


class Reading(Dataset):
    """What a training view does: read the frame of a key."""

    def __init__(self, source) -> None:
        self.source = source

    def __getitem__(self, key: SampleKey):  # noqa: D105
        image = self.source.read_image(key.frame)
        return os.getpid(), key, image.tobytes(), self.source.read_labels(key.frame, image.shape[:2]).tobytes()


@pytest.mark.parametrize("rank", [0, 1])
def test_workers_and_ranks_read_from_a_server_what_the_files_hold(camvid, server, tmp_path, rank):
    url, asked = server
    sampler = EpochSampler(16, seed=3, rank=rank, world_size=2)
    sampler.set_epoch(4)
    opened = ShardedFrames(url, cache=tmp_path / "cache")
    opened.read_image(0)  # before the fork
    loader = DataLoader(Reading(opened), batch_size=2, sampler=sampler, num_workers=2, collate_fn=list)
    samples = [sample for batch in loader for sample in batch]
    assert [key for _, key, *_ in samples] == list(sampler)
    assert len({pid for pid, *_ in samples}) == 2
    reading = Reading(camvid)
    assert all(sample[1:] == reading[sample[1]][1:] for sample in samples)
    assert max(asked.values()) == 1  # one process fetches, the others wait for it


def test_a_copy_in_another_process_reads_the_same_and_frames_from_the_middle_on(camvid, server, tmp_path):
    opened = pickle.loads(pickle.dumps(ShardedFrames(server[0], cache=tmp_path / "cache")))
    assert_same(opened, camvid, range(9, 16))
    assert server[1]["shard-000000.tar"] == 0  # not touched, so not fetched


def test_the_cache_stays_within_its_bound_and_forgets_what_was_not_read_for_longest(camvid, shards, server, tmp_path):
    url, asked = server
    cache, size = tmp_path / "cache", (shards / "shard-000000.tar").stat().st_size
    largest = max(p.stat().st_size for p in shards.glob("*.tar"))
    opened = ShardedFrames(url, cache=cache, cache_bytes=2 * largest + 100)
    order = np.random.default_rng(0).permutation(16)
    for i in order:
        assert np.array_equal(opened.read_image(i), camvid.read_image(i))
        kept = list((cache / "files").iterdir())
        assert sum(p.stat().st_size for p in kept) <= 2 * largest + 100
    assert [p for p in (cache / "incoming").iterdir() if p.suffix == ".part"] == []
    thrashed = sum(asked[f"shard-00000{i}.tar"] for i in range(4))
    asked.clear()
    starts = opened.blocks
    for block in np.random.default_rng(1).permutation(4):  # shuffled by blocks, each shard is fetched at most once
        for i in range(starts[block], starts[block + 1]):
            opened.read_image(i)
    assert max(asked.values()) == 1 and sum(asked.values()) <= 4 < thrashed
    with pytest.raises(ConfigError, match=f"has {size} bytes, and the cache keeps {size - 1}; raise cache_bytes"):
        ShardedFrames(url, cache=tmp_path / "other", cache_bytes=size - 1).read_image(0)


def test_what_was_read_last_outlives_what_was_fetched_last(shards, server, tmp_path):
    url, asked = server
    largest = max(p.stat().st_size for p in shards.glob("*.tar"))
    opened = ShardedFrames(url, cache=tmp_path / "cache", cache_bytes=2 * largest + 100)
    (tmp_path / "cache" / "files").rename(tmp_path / "listing")  # so that two shards fit beside nothing else
    for frame in (0, 5, 1, 10, 2):  # of shards 0, 1, 0, 2, 0: the third pushes 1 out, not 0
        opened.read_image(frame)
    assert [asked[f"shard-00000{i}.tar"] for i in range(4)] == [1, 1, 1, 0]
    opened.read_image(6)
    assert asked["shard-000001.tar"] == 2


def test_threads_wait_for_one_download(camvid, server, tmp_path):
    opened = ShardedFrames(server[0], cache=tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(opened.read_image, [*range(16)] * 3))
    assert all(np.array_equal(image, camvid.read_image(i % 16)) for i, image in enumerate(images))
    assert max(server[1].values()) == 1


def test_a_file_that_changed_on_the_server_is_refused_and_not_kept(shards, server, tmp_path):
    opened = ShardedFrames(server[0], cache=tmp_path / "cache")
    data = (shards / "shard-000001.tar").read_bytes()
    (shards / "shard-000001.tar").write_bytes(data[:-1] + b"x")
    with pytest.raises(
        DataError, match=r"shard-000001.tar is not the file that the index names: \d+ bytes with SHA-256"
    ):
        opened.read_image(6)
    (shards / "shard-000001.tar").write_bytes(data)
    assert opened.read_image(6).shape == (64, 96, 3)


def test_addresses_that_cannot_work_are_refused(server, tmp_path):
    with pytest.raises(
        DataError, match=r"cannot fetch .*/none/index.json: .*exit 22.*; check the address and the netw"
    ):
        ShardedFrames(f"{server[0]}/none", cache=tmp_path / "c")
    with pytest.raises(ConfigError, match="need a folder to be cached in; set cache"):
        ShardedFrames(server[0])
    for url in ("pipe:touch owned", "s3://bucket/shards", "ftp://host/shards"):
        with pytest.raises(ConfigError, match="give a folder, or a URL that begins with https:, http: or file:"):
            ShardedFrames(url, cache=tmp_path / "c")
    with pytest.raises(DataError, match="cannot read .*is this a folder of shards"):
        ShardedFrames(str(tmp_path / "nowhere"))


def test_an_image_with_an_exif_orientation_is_refused_as_it_is_from_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (4, 2)).save(tmp_path / "a.png")
    table = ClassTable("mine", (SourceLabel(0, "x"),))
    frames = LabelledFrames("mine", FrameTable(tmp_path, [Frame("turned", "a.jpg", "a.png", "d", "train")]), table)
    write_shards(frames, tmp_path / "s")
    with pytest.raises(DataError, match=r"\(turned\) carries the EXIF orientation 6"):
        ShardedFrames(tmp_path / "s").read_image(0)
