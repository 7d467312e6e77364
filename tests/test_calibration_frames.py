"""Frames to make int8 models with, and others to judge them on."""

import logging

import numpy as np
import pytest
import yaml
from PIL import Image

from roadseg import load_taxonomy
from roadseg.calibration_frames import frames_at_hand, frames_from_data, frames_from_folder, shared_pictures
from roadseg.data import at_hand

HDMAP, CAMVID = load_taxonomy("hdmap-camvid"), load_taxonomy("camvid11")


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def at_home(camvid_root, monkeypatch):
    """A data root with a tiny CamVid: five validation frames."""
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    return camvid_root / "camvid"


@pytest.fixture
def config(camvid_root, tmp_path):
    """A configuration of the same."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": {"root": str(camvid_root), "datasets": [{"dataset": "camvid"}]}}))
    return path


def read(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_layers_are_chosen_by_other_frames_than_those_that_judge(at_home, caplog):
    calibration, judging = frames_from_folder(at_home / "train", HDMAP, 128, 128, 32)
    val = read(at_home / "val")
    assert same(calibration.images, read(at_home / "train"))
    assert same(judging.images, val[::2]) and same(calibration.frames.images, val[1::2])
    assert len(judging.truths) == 3 and len(calibration.frames.truths) == 2
    assert shared_pictures(judging.images, calibration.frames.images) == 0 and not caplog.records


def test_labels_stay_with_their_frames(at_home):
    calibration, judging = frames_from_folder(at_home / "train", HDMAP, 1, 128, 32)
    every = frames_at_hand(HDMAP, 128, 32)
    assert same(judging.truths, every.truths[::2]) and same(calibration.frames.truths, every.truths[1::2])


def test_frames_that_the_model_is_made_with_and_judged_on_are_told(at_home, caplog):
    with caplog.at_level(logging.WARNING):
        frames_from_folder(at_home / "val", HDMAP, 128, 128, 32)
    assert "3 frames of the 3 that the int8 model is judged on are among the calibration images" in caplog.text


def test_of_a_configuration_training_frames_measure_and_validation_frames_choose_and_judge(config, camvid_root):
    calibration, judging = frames_from_data(config, CAMVID, 4, 128)
    train, val = (read(camvid_root / "camvid" / split) for split in ("train", "val"))
    assert same(calibration.images, train[::2])
    assert same(judging.images, val[::2]) and same(calibration.frames.images, val[1::2])
    assert judging.source == "val of config.yaml" and judging.label_sets.taxonomy.name == "camvid11"


def test_one_frame_judges_and_chooses_nothing(config):
    calibration, judging = frames_from_data(config, CAMVID, 4, 1)
    assert calibration.frames is None and len(judging.images) == 1


def test_frames_of_a_taxonomy_of_ones_own_have_no_labels(at_home):
    own = HDMAP.subset("mine", 1, ["road", "sky"])
    frames = frames_at_hand(own, 2, 8)
    assert len(frames.images) == 2 and frames.truths is None and frames.label_sets is None


def test_without_data_there_are_scenes(tmp_path, monkeypatch):
    monkeypatch.setenv("ROADSEG_DATA", str(tmp_path))
    frames = frames_at_hand(HDMAP, 128, 2)
    assert frames.source == "synthetic" and len(frames.images) == len(frames.truths) == 2


def test_pictures_are_the_same_only_with_the_same_shape():
    flat = np.arange(48, dtype=np.uint8)
    wide, high = flat.reshape(2, 8, 3), flat.reshape(8, 2, 3)
    assert shared_pictures([wide, wide], [high]) == 0
    assert shared_pictures([wide, wide, high], [wide[:, ::-1][:, ::-1]]) == 2


def test_every_frame_with_fine_labels_is_used(real_data):
    if not (real_data / "camvid32").is_dir():
        pytest.skip("needs CamVid with its 32 labels")
    assert len(at_hand.frames_at_hand(HDMAP.name, root=real_data)) == 16
    assert len(at_hand.frames_at_hand(HDMAP.name, root=real_data, every_drive=True)) == 66
