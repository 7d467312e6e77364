"""Which mask goes where, and what a file that cannot be read does to the rest."""

import numpy as np
import pytest
from PIL import Image

import roadseg
from roadseg.errors import ConfigError
from roadseg.inference.files import plan_files, segment_files


@pytest.fixture
def drive(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("drive/a.png", "drive/night/a.jpg", "drive/night/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path / "drive"


def test_folders_keep_their_structure(drive, tmp_path):
    jobs = plan_files([drive, drive / "night" / "b.png"], tmp_path / "out")
    assert [job.mask.relative_to(tmp_path).as_posix() for job in jobs] == [
        "out/a.png", "out/night/a.png", "out/night/b.png", "out/b.png",
    ]  # fmt: skip
    assert jobs[0].overlay == tmp_path / "out" / "a_overlay.png"


def test_two_masks_of_one_name_are_refused_before_anything_is_written(drive, tmp_path):
    with pytest.raises(
        ConfigError, match=r"drive/a.png and .*night/a.jpg would both be written to .*out/a.png; rename"
    ):
        plan_files([drive / "a.png", drive / "night" / "a.jpg"], tmp_path / "out")


def test_an_image_named_twice_is_segmented_once(drive, tmp_path):
    assert len(plan_files([drive / "a.png", drive / "a.png"], tmp_path / "out")) == 1


def test_overlays_clash_only_where_they_are_written(drive, tmp_path):
    Image.open(drive / "a.png").save(drive / "a_overlay.png")
    assert len(plan_files([drive], tmp_path / "out")) == 4
    with pytest.raises(ConfigError, match="would both be written to .*a_overlay.png"):
        plan_files([drive], tmp_path / "out", overlay=True)


def test_an_output_never_replaces_an_input(drive):
    with pytest.raises(ConfigError, match=r"a.png would replace an input image; choose another output folder"):
        plan_files([drive], drive)


def test_a_broken_file_does_not_stop_the_rest(drive, tmp_path, model_file):
    (drive / "night" / "a.jpg").write_bytes(b"not an image")
    predictor = roadseg.load_predictor(model_file, device="cpu")
    outcomes = list(segment_files(predictor, plan_files([drive], tmp_path / "out"), overlay=True))
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert "night/a.jpg is not a JPEG, PNG or WebP" in str(outcomes[1].error)
    expected = predictor(drive / "night" / "b.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/night/b.png")), expected.mask)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/night/b_overlay.png")), expected.overlay())
    assert not (tmp_path / "out/night/a.png").exists()
