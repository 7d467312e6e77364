"""Synthetic scenes: exact labels, true perspective, the same bytes everywhere."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from roadseg.data.synthetic import (
    SYNTHETIC_TAXONOMY,
    Label,
    Scene,
    SyntheticRoadDataset,
    render_scene,
)
from roadseg.data.synthetic.photograph import reduce_mask
from roadseg.errors import ConfigError
from roadseg.taxonomy import load_taxonomy

SIZE = (256, 384)


def digest(scene: Scene) -> str:
    return hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()


def test_taxonomy_is_the_one_of_the_labels():
    taxonomy = load_taxonomy(SYNTHETIC_TAXONOMY)
    assert taxonomy.version == 1
    assert taxonomy.names == [label.name.lower() for label in Label]
    assert [int(label) for label in Label] == list(range(len(taxonomy)))


def test_scene_has_the_promised_arrays(scenes):
    for scene in scenes:
        assert scene.image.shape == (*SIZE, 3) and scene.image.dtype == np.uint8
        assert scene.mask.shape == SIZE and scene.mask.dtype == np.uint8
        assert scene.mask.max() < len(Label)
        assert scene.image.std() > 8


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (33, 47), (300, 40), (40, 700)])
def test_any_size_is_rendered(size):
    scene = render_scene(3, size)
    assert scene.image.shape == (*size, 3)
    assert scene.mask.shape == size
    assert scene.mask.max() < len(Label)


# --- the same bytes everywhere


def test_same_seed_same_bytes_in_any_thread(scenes):
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda seed: render_scene(seed, SIZE), range(4)))
    assert [digest(s) for s in again] == [digest(s) for s in scenes[:4]]


def test_same_bytes_in_another_process_which_never_imports_torch(scenes):
    program = (
        "import hashlib, sys; from roadseg.data.synthetic import render_scene; s = render_scene(5, (256, 384));"
        "print(hashlib.sha256(s.image.tobytes() + s.mask.tobytes()).hexdigest(), 'torch' in sys.modules,"
        " 'PIL' in sys.modules, 'albumentations' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest(scenes[5]), "False", "False", "False"]


def test_seeds_differ(scenes):
    assert len({digest(scene) for scene in scenes}) == len(scenes)


def test_global_random_state_neither_matters_nor_changes(scenes):
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    scene = render_scene(1, SIZE)
    assert np.array_equal(before, np.random.get_state()[1])
    assert digest(scene) == digest(scenes[1])


# --- what is in the scenes


def test_every_scene_has_road_marking_and_sky(scenes):
    for seed, scene in enumerate(scenes):
        missing = {Label.ROAD, Label.LANE_MARKING, Label.SKY} - set(np.unique(scene.mask).tolist())
        assert not missing, f"seed {seed} lacks {missing}"


def test_all_classes_occur_often(scenes):
    present = np.stack([np.bincount(s.mask.ravel(), minlength=len(Label)) > 0 for s in scenes]).mean(axis=0)
    assert (present > 0.3).all(), dict(zip(Label, present, strict=True))


def test_class_shares_are_those_of_a_street(scenes):
    share = np.stack([np.bincount(s.mask.ravel(), minlength=len(Label)) / s.mask.size for s in scenes])
    mean = share.mean(axis=0)
    assert 0.25 < mean[Label.ROAD] < 0.4
    assert share[:, Label.ROAD].min() > 0.12 and share[:, Label.ROAD].max() < 0.5
    assert 0.005 < mean[Label.POLE] < 0.02
    assert 0.008 < mean[Label.LANE_MARKING] < 0.04
    assert 0.15 < mean[Label.SKY] < 0.4
    assert 0.0002 < mean[Label.STREET_LIGHT] < 0.003
    assert 0.001 < mean[Label.TRAFFIC_SIGN] < 0.01


# --- labels and picture agree


def test_picture_edges_lie_on_mask_edges(scenes):
    ratios = []
    for scene in scenes:
        grey = scene.image.astype(np.float32).mean(axis=2)
        gradient = np.abs(np.diff(grey, axis=1))[:-1] + np.abs(np.diff(grey, axis=0))[:, :-1]
        mask = scene.mask
        edge = (mask[:-1, 1:] != mask[:-1, :-1]) | (mask[1:, :-1] != mask[:-1, :-1])
        ratios.append(gradient[edge].mean() / gradient[~edge].mean())
        shifted = np.roll(edge, (4, 4), axis=(0, 1))
        assert gradient[edge].mean() > 1.3 * gradient[shifted & ~edge].mean()
    assert np.mean(ratios) > 3.0
    assert min(ratios) > 1.5


def test_markings_are_brighter_than_the_road_they_lie_on(scenes):
    for scene in scenes:
        grey = scene.image.astype(np.float32).mean(axis=2)
        assert grey[scene.mask == Label.LANE_MARKING].mean() > 1.2 * grey[scene.mask == Label.ROAD].mean()


def test_half_covered_pixel_goes_to_the_thin_class():
    # Ranks: the highest that covers at least two of four subpixels wins; a single subpixel never does.
    blocks = np.array([[0, 9, 0, 9, 5, 5], [0, 9, 0, 0, 9, 7]], np.uint8)
    one_by_one = reduce_mask(np.arange(13, dtype=np.uint8)[None], 1)[0]
    assert reduce_mask(blocks, 2).tolist() == [[one_by_one[9], one_by_one[0], one_by_one[7]]]


@pytest.mark.parametrize("seed", range(6))
def test_same_world_at_three_times_the_size(scenes, seed):
    large = render_scene(seed, (3 * SIZE[0], 3 * SIZE[1])).mask[1::3, 1::3]
    agree = large == scenes[seed].mask
    assert agree.mean() > 0.95
    poles = scenes[seed].mask == Label.POLE
    near = np.stack([np.roll(large == Label.POLE, shift, axis=1) for shift in (-1, 0, 1)]).any(axis=0)
    assert near[poles].mean() > 0.75


# --- dataset


def test_dataset_gives_scenes_and_names():
    dataset = SyntheticRoadDataset(3, size=(48, 64), seed=12)
    assert len(dataset) == 3
    assert dataset.names == ["synthetic-00000012-000000", "synthetic-00000012-000001", "synthetic-00000012-000002"]
    assert dataset.taxonomy == load_taxonomy(SYNTHETIC_TAXONOMY)
    for i, (image, mask, name) in enumerate(dataset):
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert mask.shape == (48, 64) and mask.dtype == np.uint8
        assert name == dataset.names[i]


def test_dataset_is_reproducible_and_longer_ones_begin_alike():
    short, long = SyntheticRoadDataset(2, (48, 64), seed=4), SyntheticRoadDataset(5, (48, 64), seed=4)
    for i in range(2):
        assert np.array_equal(short[i][0], long[i][0])
        assert np.array_equal(short[i][1], long[i][1])


def test_dataset_seeds_share_no_scene():
    # 2**32 is one more word of entropy: concatenated words would make (1, 7) and (1 + 7 * 2**32, 0) the same.
    seeds = [0, 1, 2, 7, 1 + 7 * 2**32, 2**32]
    images = {
        SyntheticRoadDataset(8, (16, 24), seed=seed)[index][0].tobytes() for seed in seeds for index in (0, 1, 2, 7)
    }
    assert len(images) == len(seeds) * 4


@pytest.mark.parametrize("index", [2, 100, -1])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=rf"scene {index} of a synthetic dataset of 2; give 0 to 1"):
        SyntheticRoadDataset(2, (8, 8))[index]


# --- errors


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (4097, 10), (10, 8193), (10,), (10.5, 20)])
def test_bad_size_is_named_with_the_fix(size):
    with pytest.raises(ConfigError) as caught:
        render_scene(0, size)
    assert repr(size) in str(caught.value)
    assert "(1, 1) to (4096, 8192)" in str(caught.value)
    with pytest.raises(ConfigError, match="scene size"):
        SyntheticRoadDataset(1, size)


@pytest.mark.parametrize("seed", [-1, 1.5, "7"])
def test_bad_seed_is_named_with_the_fix(seed):
    with pytest.raises(ConfigError, match=r"give an integer of 0 or more") as caught:
        render_scene(seed, (8, 8))
    assert repr(seed) in str(caught.value)
    with pytest.raises(ConfigError, match="seed"):
        SyntheticRoadDataset(1, (8, 8), seed=seed)


@pytest.mark.parametrize("length", [0, -3, 2.0])
def test_bad_length_is_named_with_the_fix(length):
    with pytest.raises(ConfigError, match=r"give an integer of 1 or more") as caught:
        SyntheticRoadDataset(length)
    assert repr(length) in str(caught.value)
