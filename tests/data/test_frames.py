"""Tables of frames: what goes in comes out, and a million of them fit."""

import json
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from roadseg.data.frames import Frame, FrameTable

FRAMES = [
    Frame("a", "train/a.png", "trainannot/a.png", "0001TP", "train"),
    Frame("Zürich/überführung 北京 🚗", "é/1.png", "e\u0301/1.png", "Zürich", "val"),
    Frame("", "", "", "", ""),
    Frame("b\nc\x00d", "x.png", "y.png", "0001TP", "test"),
    Frame(os.fsdecode(b"latin-\xe9\xff"), os.fsdecode(b"\xe9.png"), "\udcff", os.fsdecode(b"\xe9"), "train"),
    Frame(json.loads(r'"lone \ud83d surrogate"'), "\udfff", "\ud800\udcff", "\ud800", "val"),
    Frame("a/" * 3000, "long", "l" * 10_000, "0001TP", "train"),
]


def test_frames_come_back_as_they_were_whatever_their_names_are_made_of():
    table = FrameTable(Path("root"), FRAMES)
    assert len(table) == len(FRAMES) and list(table) == FRAMES
    assert [table[i] for i in range(len(table))] == FRAMES and table[-1] == FRAMES[-1]
    assert [table.name(i) for i in range(len(table))] == [frame.name for frame in FRAMES]
    assert [table.image_path(i) for i in range(len(table))] == [Path("root", frame.image) for frame in FRAMES]
    assert [table.label_path(i) for i in range(len(table))] == [Path("root", frame.label) for frame in FRAMES]
    assert list(pickle.loads(pickle.dumps(table))) == FRAMES  # as a worker process gets it
    with pytest.raises(IndexError):
        table[len(FRAMES)]


@pytest.mark.skipif(os.name != "posix", reason="names that are no text are a thing of POSIX")
def test_a_file_whose_name_is_no_text_is_found_again(tmp_path):
    name = b"fa\xe7ade.png"  # Latin-1, from an old archive
    try:
        (tmp_path / os.fsdecode(name)).write_bytes(b"here")
    except OSError:
        pytest.skip("this file system allows only UTF-8 names")
    listed = os.listdir(tmp_path)[0]
    table = FrameTable(tmp_path, [Frame("facade", listed, listed, "d", "train")])
    assert table.image_path(0).read_bytes() == b"here" and os.fsencode(table[0].label) == name


def test_taking_keeps_the_order_given_and_repeats_what_is_repeated():
    table = FrameTable(Path("root"), FRAMES)
    order = [3, 0, 3, -1]
    taken = table.take(order)
    assert list(taken) == [FRAMES[i] for i in order] and taken.folder == Path("root")
    assert list(taken.take(np.array([2, 1]))) == [FRAMES[3], FRAMES[0]]  # positions are those of the smaller table
    assert list(table) == FRAMES  # which is left as it was
    with pytest.raises(IndexError):
        table.take([len(FRAMES)])


def test_where_keeps_what_is_wanted_in_order():
    table = FrameTable(Path("root"), FRAMES).take([6, 4, 0, 1])
    train = table.where(lambda frame: frame.split == "train" and frame.drive == "0001TP")
    assert list(train) == [FRAMES[6], FRAMES[0]]
    assert list(table.where(lambda frame: False)) == [] and len(table.where(lambda frame: False)) == 0


def test_drives_and_splits_are_those_of_the_frames_that_are_left():
    table = FrameTable(Path("root"), FRAMES)
    assert table.drives == sorted({frame.drive for frame in FRAMES}) and table.splits == ["", "test", "train", "val"]
    rest = table.take([3, 1])
    assert rest.drives == ["0001TP", "Zürich"] and rest.splits == ["test", "val"]
    assert table.take([]).drives == [] and table.take([]).splits == []


def test_an_empty_table_is_one():
    table = FrameTable(Path("root"), [])
    assert len(table) == 0 and list(table) == [] and table.drives == table.splits == []
    assert len(table.take([])) == 0 and len(table.where(lambda frame: True)) == 0


def test_a_frame_takes_less_than_400_bytes_even_while_the_table_is_built():
    count = 200_000

    def frames():
        for i in range(count):
            city, name = f"city_{i % 50:02d}", f"city_{i % 50:02d}_{i // 50:06d}_{i:06d}"
            image = f"leftImg8bit/train/{city}/{name}_leftImg8bit.png"
            yield Frame(name, image, f"gtFine/train/{city}/{name}_gtFine_labelIds.png", city, "train")

    tracemalloc.start()
    try:
        table = FrameTable(Path("root"), frames())
        kept, peak = tracemalloc.get_traced_memory()
        half = table.take(np.arange(0, count, 2))
        with_half = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    text = sum(len(t) for t in table[0][:3])
    assert text < kept / count < text + 60  # hardly more than the texts, each once
    assert peak / count < 400
    assert (with_half - kept) / count < 10  # the texts are shared
    assert half.name(1) == "city_02_000000_000002" and table.name(count - 1) == "city_49_003999_199999"
