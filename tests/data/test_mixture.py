"""Mixtures: which frame goes where, whose label is kept, what masks mean, and what is refused."""

import warnings

import numpy as np
import pytest
from PIL import Image

from roadseg.data.datamodule import RoadDataModule
from roadseg.data.dataset_config import DatasetConfig
from roadseg.data.mixture import open_data
from roadseg.data.splitting import DriveSplit
from roadseg.errors import ConfigError, DataError
from roadseg.taxonomy import load_taxonomy
from tests.data.mixtures import write_both, write_fine


@pytest.fixture
def root(tmp_path):
    write_both(tmp_path)
    return tmp_path


def module(root, *configs, **settings):
    settings = {"taxonomy": "hdmap-camvid", "num_workers": 0, "crop_size": (32, 48), "batch_size": 2, **settings}
    return RoadDataModule(root=str(root), datasets=list(configs), **settings)


def held(data, split) -> dict[str, list[str]]:
    """Dataset -> names of the frames it gives to a split."""
    return {part.source.name: [f.name for f in part.source.frames] for part in data.open().splits[split]}


BOTH = (DatasetConfig("camvid"), DatasetConfig("camvid32", short_side_px=48))


def test_a_frame_of_two_datasets_is_taken_once_with_the_finer_label(root):
    data = module(root, *BOTH)
    assert held(data, "train") == {"camvid": ["A_0", "B_0", "C_0"], "camvid32": ["A_1", "B_1"]}


def test_what_is_validated_is_not_trained_on_even_where_the_other_dataset_says_train(root):
    assert held(module(root, *BOTH), "val") == {"camvid": ["B_2"], "camvid32": ["B_3"]}


def test_the_order_of_the_datasets_does_not_change_whose_label_is_finer(root):
    data = module(root, *reversed(BOTH))
    assert held(data, "train") == {"camvid32": ["A_1", "B_1"], "camvid": ["A_0", "B_0", "C_0"]}


def test_drives_that_are_held_out_are_held_out_whole_of_every_dataset(root):
    data = module(root, *BOTH, hold_out=["B"])
    assert held(data, "train") == {"camvid": ["A_0", "C_0"], "camvid32": ["A_1"]}
    assert held(data, "val") == {"camvid": ["B_0", "B_2"], "camvid32": ["B_1", "B_3"]}


def test_where_nothing_is_held_out_every_frame_is_trained_on_and_none_validated(root):
    data = module(root, *BOTH, hold_out=[])
    data.setup("fit")
    assert held(data, "train") == {"camvid": ["A_0", "B_0", "C_0", "B_2"], "camvid32": ["A_1", "B_1", "B_3"]}
    assert data.val_dataloader() == []
    with pytest.raises(DataError, match="no frame belongs to the split 'val'"):
        data.setup("validate")


def test_a_dataset_gives_frames_only_to_the_splits_asked_for(root):
    """And the other dataset's copy then is not lost."""
    coarse, fine = DatasetConfig("camvid", splits=["train"]), DatasetConfig("camvid32", splits=["val"])
    data = module(root, coarse, fine, hold_out=["B"])
    assert held(data, "train") == {"camvid": ["A_0", "A_1", "C_0"], "camvid32": []}
    assert held(data, "val") == {"camvid": [], "camvid32": ["B_1", "B_3"]}


def test_a_split_file_holds_drives_out_as_the_list_does(root, tmp_path):
    path = tmp_path / "split.yaml"
    path.write_text("version: 1\nval: [A]\n")
    data = module(root, *BOTH, split_file=str(path))
    assert held(data, "val") == held(module(root, *BOTH, hold_out=["A"]), "val")
    assert held(data, "val") == {"camvid": ["A_0"], "camvid32": ["A_1"]}


def test_masks_of_both_datasets_speak_one_language(root):
    data = module(root, *BOTH)
    names = data.label_sets.names
    frames = data.frames("train")
    coarse, fine = ({names[i] for i in np.unique(frames[k][1])} for k in (0, len(frames) - 1))
    assert coarse == {"sky", "road+lane_marking"} and fine == {"sky", "road", "lane_marking"}


def test_a_frame_is_brought_to_the_short_side_and_scored_at_its_own(root):
    data = module(root, *BOTH, hold_out=["B"])
    data.setup("validate")
    batches = {b["name"][0]: b for b in data.val_dataloader()}
    assert batches["B_1"]["image"].shape[2:] == (48, 64) and batches["B_1"]["mask"].shape[1:] == (96, 128)
    assert batches["B_0"]["image"].shape[2:] == batches["B_0"]["mask"].shape[1:] == (48, 64)


def test_weights_set_the_share_of_an_epoch(root):
    coarse, fine = DatasetConfig("camvid", weight=1), DatasetConfig("camvid32", weight=4)
    data = module(root, coarse, fine)
    data.setup("fit")
    sampler = data.train_dataloader().sampler
    assert [key.frame >= 3 for key in sampler].count(True) == 4 and len(sampler) == 5


def test_ignore_regions_are_in_training_and_scoring(root):
    hood = [{"polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]], "frames": "B_*"}]
    data = module(root, DatasetConfig("camvid", ignore_regions=hood))
    for split, name in (("train", "B_0"), ("val", "B_2")):
        frames = data.frames(split)
        mask = next(frames[i][1] for i in range(len(frames)) if frames.name(i) == name)
        assert (mask[24:] == 255).all() and (mask[:24] != 255).all()
    frames = data.frames("train")
    assert not (frames[0][1] == 255).any()  # another drive, another camera


def test_a_label_map_replaces_what_comes_with_the_dataset(root, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("LaneMkgsDriv: [lane_marking]\nSky: []\n")
    for given in (str(path), {"LaneMkgsDriv": ["lane_marking"], "Sky": []}):
        data = module(root, DatasetConfig("camvid32", label_map=given), taxonomy="hdmap", hold_out=["A"])
        ids = set(np.unique(data.frames("val")[0][1]).tolist())
        assert ids == {
            255,
            data.taxonomy.id_of("lane_marking"),
            data.label_sets.id_of([0, data.taxonomy.id_of("manhole")]),
        }


def test_a_leak_is_said_at_the_start_of_a_training_unless_waived(root):
    with pytest.warns(UserWarning, match=r"drive B has 2 training and 2 val frames.*data.waive \[leak-drive:B\]"):
        module(root, *BOTH).setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(root, *BOTH, waive=["leak-drive:B"]).setup("fit")
        module(root, *BOTH, hold_out=["B"]).setup("fit")


def test_a_test_split_stays_one_when_drives_are_held_out(root):
    for kind in ("", "annot"):
        (root / "camvid" / f"val{kind}").rename(root / "camvid" / f"test{kind}")
    data = module(root, *BOTH, hold_out=["B"])
    assert held(data, "test") == {"camvid": ["B_2"], "camvid32": ["B_3"]}
    assert held(data, "val") == {"camvid": ["B_0"], "camvid32": ["B_1"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold_out": ["D"]}, "no dataset has the drive D that is held out; the drives are A, B, C"),
        ({"hold_out": ["A", "B", "C"], "stage": "fit"}, "no frame belongs to the split 'train'"),
        ({"stage": "test"}, "camvid, camvid32: no frame belongs to the split 'test'"),
    ],
)
def test_splits_that_cannot_be_are_explained(root, settings, message):
    stage = settings.pop("stage", "fit")
    with pytest.raises(DataError, match=message):
        module(root, *BOTH, **settings).setup(stage)


@pytest.mark.parametrize(
    ("configs", "settings", "message"),
    [
        ([], {}, "data.datasets is empty"),
        ([DatasetConfig("camvid", weight=0)], {}, r"data.datasets\[0\].weight is 0; use a finite value above 0"),
        ([DatasetConfig("camvid", weight=1), DatasetConfig("camvid32")], {}, "give every one a weight, or none"),
        ([DatasetConfig("camvid", short_side_px=3)], {}, r"data.datasets\[0\].short_side_px is 3; use 32 to 8192"),
        ([DatasetConfig("camvid", splits=["training"])], {}, r"splits is \['training'\]; use some of train, val, test"),
        ([DatasetConfig("camvid", ignore_regions=[{"polygon": [[0, 0]]}])], {}, "polygon is"),
        ([DatasetConfig("kamvid")], {}, "no dataset 'kamvid'; known: ade20k, "),
        (
            [DatasetConfig("camvid"), DatasetConfig("camvid32")],
            {"taxonomy": None},
            "camvid: camvid11, camvid32: camvid32",
        ),
        ([DatasetConfig("camvid")], {"options": {"a": 1}}, "data.options is for the one data.dataset"),
        ([DatasetConfig("camvid")], {"hold_out": ["A"], "split_file": "s.yaml"}, "give one of them"),
        ([DatasetConfig("camvid")], {"verify_frames": -1}, "data.verify_frames is -1; use at least 0"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path, configs, settings, message):
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, *configs, **settings)


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"Raod": ["road"]}, "class table 'camvid32' has no label 'Raod'; it has Animal, "),
        ({"Road": ["raod"]}, "class table 'camvid32': taxonomy 'hdmap-camvid' has no class 'raod'; it has road, "),
        ("missing.yaml", "label map missing.yaml cannot be read"),
    ],
)
def test_a_wrong_label_map_is_named(root, label_map, message):
    with pytest.raises(DataError, match=message):
        module(root, DatasetConfig("camvid32", label_map=label_map)).setup("fit")


def test_a_taxonomy_that_a_dataset_knows_nothing_of_is_refused(root):
    message = "the labels of dataset 'synthetic' are mapped to cityscapes19, hdmap, but not to taxonomy 'camvid11'"
    with pytest.raises(DataError, match=message):
        module(root, DatasetConfig("synthetic"), taxonomy="camvid11").setup("fit")


def test_the_classes_are_known_without_the_data(tmp_path):
    """`predict` and `data coverage` need no dataset."""
    data = module(tmp_path / "nowhere", *BOTH)
    assert data.label_sets.names[-3:] == ["road+lane_marking", "wall+building", "traffic_sign+traffic_light"]


def test_only_some_frames_of_a_large_set_are_read_before_training(root):
    for name in ("C_1", "C_2", "C_3"):
        write_fine(root, name)
    (root / "camvid32" / "labels" / "C_1_L.png").write_bytes(b"broken")
    data = module(root, DatasetConfig("camvid32"), hold_out=["B"], verify_frames=2)
    data.setup("fit")  # reads frames 0 and 2 of A_1, C_1, C_2, C_3
    with pytest.raises(DataError, match="C_1_L.png cannot be read"):
        module(root, DatasetConfig("camvid32"), hold_out=["B"], verify_frames=None).setup("fit")


def test_camvids_own_frames_are_told_apart(real_data):
    """The usual val is drive 0016E5, of which train holds 204 frames; all fine frames are in camvid, 16 in val."""
    taxonomy = load_taxonomy("hdmap-camvid")
    data = RoadDataModule(root=str(real_data), datasets=list(BOTH), taxonomy=taxonomy.name)
    opened = open_data(data.configs, data.root, data.label_sets)
    counts = {split: [len(part) for part in parts] for split, parts in opened.splits.items() if split != "test"}
    assert counts == {"train": [317, 50], "val": [85, 16]}
    names = {s: {p.name(i) for p in parts for i in range(len(p))} for s, parts in opened.splits.items()}
    assert len(names["train"]) == 367 and len(names["val"]) == 101 and not names["train"] & names["val"]


def write_own(folder, colour: int) -> None:
    """Two frames of one name in a folder of one's own."""
    for kind, pixels in (("images", np.full((32, 40, 3), colour, np.uint8)), ("masks", np.ones((32, 40), np.uint8))):
        for name in ("000001", "000002"):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(("name", "kept"), [(None, [2, 2]), ("front", [2, 0])])
def test_folders_of_one_name_hold_different_pictures_unless_they_are_called_alike(tmp_path, name, kept):
    for i, city in enumerate(("berlin", "munich")):
        write_own(tmp_path / city / "front", 50 + i)
    options = {"classes": {"street": 1}, **({"name": name} if name else {})}
    shared = {"dataset": "folder", "options": options, "label_map": {"street": "road"}}
    parts = [{**shared, "folder": str(tmp_path / city / "front")} for city in ("berlin", "munich")]
    opened = module(tmp_path, *parts, taxonomy="hdmap").open()
    assert [len(part) for part in opened.splits["train"]] == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "camvid", "wieght": 1}, r"data.datasets\[0\]: no setting 'wieght'; did you mean weight\?"),
        ({"name": "camvid"}, r"data.datasets\[0\]: expected a mapping with dataset and its settings"),
        (
            {"dataset": "camvid", "weight": "much"},
            r"data.datasets\[0\].weight is 'much'; use a number above 0, or null",
        ),
        ({"dataset": "camvid", "label_map": {"road": 3}}, r"label_map is \{'road': 3\}; use label: \[class, ...\]"),
        (
            {"dataset": "camvid", "splits": "train"},
            r"data.datasets\[0\].splits is 'train'; use a list of some of train",
        ),
    ],
)
def test_settings_of_a_dataset_that_cannot_be_are_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, settings)


def test_a_leak_is_known_by_its_collection_too(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for waiver in ("leak-drive:camvid/B", "leak-drive:camvid32", "leak-drive"):
            module(root, *BOTH, waive=[waiver]).setup("fit")


def test_many_held_out_drives_cost_no_more_than_one():
    split = DriveSplit(tuple(f"drive_{i}" for i in range(100_000)), ("t",))
    kinds = [split.split_of("c", f"drive_{i}") for i in range(0, 200_000, 2)]
    assert kinds.count("val") == 50_000 and split.split_of("c", "t") == "test"
