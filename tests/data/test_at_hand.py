"""Frames to look at: CamVid where it is, with its finest labels; synthetic scenes where it is not."""

from pathlib import Path

import numpy as np

from roadseg.data import open_frames
from roadseg.data.at_hand import CAMVID_DRIVE, frames_at_hand


def test_without_data_they_are_the_validation_scenes_in_the_classes_asked_for(tmp_path: Path):
    frames = frames_at_hand("hdmap-camvid", scenes=2, size=(48, 64), root=tmp_path)
    expected = open_frames("synthetic", "val", taxonomy="hdmap-camvid", val_frames=2, size=(48, 64))
    assert frames.source.name == "synthetic" and len(frames) == 2
    for i in range(2):
        for found, wanted in zip(frames[i], expected[i], strict=True):
            np.testing.assert_array_equal(found, wanted)
    trained_on = open_frames("synthetic", "train", train_frames=2, size=(48, 64))
    assert not {frames.name(i) for i in range(2)} & {trained_on.name(i) for i in range(2)}


def test_camvid_is_taken_where_it_lies(camvid_root: Path, tmp_path: Path, monkeypatch):
    frames = frames_at_hand("hdmap-camvid", root=camvid_root)
    assert frames.source.name == "camvid" and len(frames) == 5
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    assert [frames_at_hand("hdmap-camvid").name(i) for i in range(5)] == [frames.name(i) for i in range(5)]
    (tmp_path / "camvid").mkdir(exist_ok=True)  # an empty folder is no dataset
    assert frames_at_hand("hdmap-camvid", scenes=1, size=(8, 8), root=tmp_path).source.name == "synthetic"


def test_the_finest_labels_are_preferred_and_are_of_the_held_out_drive(real_data: Path):
    frames = frames_at_hand("hdmap-camvid", root=real_data)
    assert frames.source.name == "camvid32" and len(frames) == 16
    assert {frames.source.frames.drive(i) for i in range(len(frames))} == {CAMVID_DRIVE}
    marking = frames.label_sets.taxonomy.id_of("lane_marking")
    assert any((frames[i][1] == marking).any() for i in range(len(frames)))
