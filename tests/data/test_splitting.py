"""Whole drives in one split, and what leaks when they are not."""

from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest

from roadseg.data.datasets.camvid import open_camvid
from roadseg.data.datasets.camvid32 import open_camvid32
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.splitting import DriveSplit, read_split, split_by_drive, write_split
from roadseg.errors import ConfigError, DataError, OutputError


def table(**frames_of: int) -> FrameTable:
    """Frames named DRIVE_NUMBER."""
    frames = [
        Frame(f"{drive}_{i:04d}", "a.png", "b.png", drive, "train") for drive, n in frames_of.items() for i in range(n)
    ]
    return FrameTable(Path("x"), frames)


def missed(sizes: dict[str, int], split: dict[str, list[str]], shares: dict[str, float]) -> float:
    total = sum(sizes.values())
    return sum(abs(sum(sizes[d] for d in split[name]) - share * total) for name, share in shares.items())


def test_whole_drives_come_as_near_to_the_share_as_they_can():
    # 0.3 of 100 frames: no drive has 30, but 18 + 12 have
    split = split_by_drive([("c", table(a=50, b=20, c=18, d=12))], 0.3, seed=0)
    assert split == {"train": ["a", "b"], "val": ["c", "d"], "test": []}


@pytest.mark.parametrize("seed", range(5))
def test_with_few_drives_no_other_way_is_nearer(seed):
    rng = np.random.default_rng(seed)
    sizes = {f"d{i}": int(n) for i, n in enumerate(rng.integers(1, 40, 7))}
    shares = {"val": 0.2, "test": 0.15}
    split = split_by_drive([("c", table(**sizes))], 0.2, seed, test_share=0.15)
    assert sorted(chain.from_iterable(split.values())) == sorted(sizes)
    ways = [
        {name: [d for d, s in zip(sizes, way, strict=True) if s == name] for name in ("train", "val", "test")}
        for way in product(("train", "val", "test"), repeat=7)
        if len(set(way)) == 3
    ]
    assert missed(sizes, split, shares) == pytest.approx(min(missed(sizes, way, shares) for way in ways))


def test_with_many_drives_the_shares_are_met_closely_and_the_seed_chooses():
    rng = np.random.default_rng(0)
    sizes = {f"d{i}": int(n) for i, n in enumerate(rng.integers(1, 60, 300))}
    frames = [("c", table(**sizes))]
    split = split_by_drive(frames, 0.1, seed=1, test_share=0.2)
    assert sorted(chain.from_iterable(split.values())) == sorted(sizes)
    total = sum(sizes.values())
    assert sum(sizes[d] for d in split["val"]) / total == pytest.approx(0.1, abs=60 / total)
    assert sum(sizes[d] for d in split["test"]) / total == pytest.approx(0.2, abs=60 / total)
    assert split_by_drive(frames, 0.1, seed=1, test_share=0.2) == split
    assert split_by_drive(frames, 0.1, seed=2, test_share=0.2)["val"] != split["val"]


def test_a_split_smaller_than_every_drive_still_gets_one():
    split = split_by_drive([("c", table(**{f"d{i}": 10 for i in range(40)}))], 0.001, seed=0, test_share=0.001)
    assert [len(split[name]) for name in ("train", "val", "test")] == [38, 1, 1]
    assert split_by_drive([("c", table(a=90, b=10))], 0.001, seed=0) == {"train": ["a"], "val": ["b"], "test": []}


def test_the_seed_decides_between_drives_of_one_size():
    frames = [("c", table(a=10, b=10, c=10, d=10))]
    assert {split_by_drive(frames, 0.25, seed)["val"][0] for seed in range(30)} == {"a", "b", "c", "d"}


def test_a_picture_that_two_datasets_of_a_collection_label_counts_once():
    coarse, fine = table(a=60, b=25), table(b=25, c=15)
    # Counted twice, b would be 50 of 125 frames and the nearest to a share of 0.4
    assert split_by_drive([("c", coarse), ("c", fine)], 0.4, 0)["val"] == ["b", "c"]


def test_drives_of_one_name_in_two_collections_are_told_apart():
    split = split_by_drive([("here", table(x=30, y=10)), ("there", table(x=50, z=10))], 0.5, 0)
    assert sorted([split["train"], split["val"]]) == [["here/x", "y", "z"], ["there/x"]]
    chosen = DriveSplit(val=("there/x",), test=("z",))
    assert [chosen.split_of(*place) for place in (("here", "x"), ("there", "x"), ("there", "z"), ("here", "y"))] == [
        "train",
        "val",
        "test",
        "train",
    ]


@pytest.mark.parametrize(
    ("frames_of", "test_share", "message"),
    [
        ({"only": 9}, 0.0, r"1 drive \(only\) cannot be split into train, val: one would stay empty"),
        ({}, 0.0, r"0 drives \(no frames\) cannot be split"),
        ({"a": 5, "b": 5}, 0.2, r"2 drives \(a, b\) cannot be split into train, val and test: one would stay empty"),
    ],
)
def test_too_few_drives_are_refused(frames_of, test_share, message):
    with pytest.raises(DataError, match=message):
        split_by_drive([("c", table(**frames_of))], 0.2, 0, test_share)


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.5), (0.2, -0.1), (float("nan"), 0.0)])
def test_shares_that_leave_nothing_are_refused(val, test):
    with pytest.raises(ConfigError, match=f"val_share is {val} and test_share {test}"):
        split_by_drive([("c", table(a=5, b=5, c=5))], val, 0, test)


def test_camvid_split_by_drive_does_not_leak(real_data):
    camvid, fine = open_camvid(real_data / "camvid").frames, open_camvid32(real_data / "camvid32").frames
    split = split_by_drive([("camvid", camvid), ("camvid", fine)], 0.2, seed=0)
    assert split["val"] == ["0006R0"]  # 101 of 468 frames, the nearest to a fifth
    train, val = ({f.name for f in [*camvid, *fine] if f.drive in split[name]} for name in ("train", "val"))
    assert len(train) == 367 and len(val) == 101 and not train & val


def test_a_split_file_reads_as_it_was_written(tmp_path):
    split = DriveSplit(("0001", "0016E5", "städte/köln"), ("1e5", "null"), 7, "camvid, camvid32")
    path = tmp_path / "new" / "split.yaml"
    write_split(path, split)
    assert read_split(path) == split
    assert [p.name for p in path.parent.iterdir()] == ["split.yaml"]
    path.write_text("{version: 1, val: [0016E5]}", encoding="utf-8")
    assert read_split(path) == DriveSplit(("0016E5",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: [a", "is not a YAML file"),
        ("- a", "expected a mapping with version and val"),
        ("{version: 1, val: [a], train: [b]}", "expected a mapping with version and val"),
        ("{version: 2, val: [a]}", "has version 2; this roadseg reads version 1"),
        ("{version: true, val: [a]}", "has version True"),
        ("{version: 1, val: [0001]}", r"val is \[1\]; use a list of drive names, in quotes where they look like num"),
        ("{version: 1, val: abc}", "val is 'abc'; use a list"),
        ("{version: 1, val: []}", "val names no drive"),
        ("{version: 1, val: [a, b], test: [b]}", "b is in val and in test"),
        ("{version: 1, val: [a], seed: x}", "seed is 'x'; use a whole number"),
    ],
)
def test_wrong_split_files_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_split(path)
    assert str(path) in str(caught.value)


def test_missing_and_unwritable_split_files_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot read split file .*none.yaml: No such file"):
        read_split(tmp_path / "none.yaml")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write split file .*file/x.yaml"):
        write_split(tmp_path / "file" / "x.yaml", DriveSplit(("a",)))
