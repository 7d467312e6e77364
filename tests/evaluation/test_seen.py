"""Whether scored frames were trained on, told from a model file's record, against the data module's own shares."""

import json

import pytest

from roadseg import load_taxonomy
from roadseg.cli import main
from roadseg.data.config import read_data_config
from roadseg.data.datamodule import RoadDataModule
from roadseg.data.registry import open_dataset
from roadseg.evaluation.frames import open_scored
from roadseg.evaluation.seen import seen_in_training
from tests.data.mixtures import write_both
from tests.evaluation.conftest import write_model

HDMAP = load_taxonomy("hdmap-camvid")
BOTH = [{"dataset": "camvid"}, {"dataset": "camvid32"}]


def record(root, datasets=BOTH, **data):
    """What a run writes into its model file, and the names of the frames that it trained on."""
    module = RoadDataModule(root=str(root), datasets=datasets, taxonomy="hdmap-camvid", **data)
    module.open()
    train = module.frames("train")
    return {"data": json.loads(json.dumps(module.describe()))}, {train.name(i) for i in range(len(train))}


@pytest.fixture
def told(tmp_path, config):
    """Seen of a record, for a split of a configuration; the tiny CamVid of drives A, B and C lies in its root."""
    write_both(tmp_path)

    def tell(provenance, split, **data):
        path = config(**{"root": str(tmp_path), "datasets": BOTH, "taxonomy": "hdmap-camvid", **data})
        frames = open_scored(path, split, HDMAP)
        seen = seen_in_training(provenance, HDMAP, frames, read_data_config(path))
        return seen, [frames.name(i) for i in range(len(frames))]

    return tell


@pytest.mark.parametrize("trained", [{}, {"hold_out": ["B"]}, {"hold_out": []}, {"hold_out": ["A", "C"]}])
@pytest.mark.parametrize("scored", [("val", {}), ("val", {"hold_out": ["B"]}), ("train", {"hold_out": ["A"]})])
def test_frames_are_seen_if_the_run_trained_on_them(trained, scored, told, tmp_path):
    provenance, names = record(tmp_path, **trained)
    seen, own = told(provenance, scored[0], **scored[1])
    expected = sum(name in names for name in own)
    assert (seen.frames, seen.of, seen.gap) == (expected, len(own), "")
    assert seen.verdict is (expected > 0)


def test_frames_are_known_by_another_datasets_labels_of_them(told, tmp_path):
    """camvid32 calls every frame "train"; B_3 was held out as the validation frame that camvid says it is."""
    provenance, names = record(tmp_path)
    seen, own = told(provenance, "train", datasets=[{"dataset": "camvid32"}])
    assert sorted(own) == ["A_1", "B_1", "B_3"] and "B_3" not in names
    assert (seen.frames, seen.of, str(seen)) == (2, 3, "2 of the 3 frames were trained on: the scores flatter")


def test_other_scenes_of_the_same_generator_were_not_seen(told, tmp_path):
    def scenes(seed):
        return [
            {"dataset": "synthetic", "options": {"train_frames": 2, "val_frames": 1, "size": [48, 64], "seed": seed}}
        ]

    provenance, _ = record(tmp_path, scenes(1))
    assert told(provenance, "train", datasets=scenes(1))[0].verdict is True
    seen, _ = told(provenance, "train", datasets=scenes(2))
    assert seen.verdict is False and str(seen) == "none of the frames was trained on, by the model file's record"


@pytest.mark.parametrize(
    ("provenance", "gap"),
    [
        ({}, "the model file does not say what it was trained on"),
        ({"data": None}, "the model file does not say what it was trained on"),
        ({"data": {"datasets": [3]}}, "does not say"),
        ({"data": {"datasets": [{"dataset": "bdd100k"}]}}, "bdd100k, which it was trained on, is not here"),
        ({"data": {"datasets": [{"dataset": "gone"}]}}, "gone, which it was trained on, is not here"),
        ({"data": {"datasets": BOTH, "held_out": {"val": ["Z"]}}}, "no dataset has the drive Z"),
        ({"data": {"datasets": BOTH, "held_out": {"val": 3}}}, "does not say"),
        ({"data": {"datasets": [{"dataset": "camvid", "options": {"x": 1}}]}}, "camvid, which it was trained on"),
        ({"data": {"datasets": BOTH, "frames": {"train": {"camvid": 9}}}}, "camvid gave 9 frames to training"),
    ],
)
def test_what_cannot_be_told_is_unknown_with_the_reason(provenance, gap, told):
    seen, _ = told(provenance, "val")
    assert seen.verdict == "unknown" and gap in seen.gap and gap in str(seen)


def test_a_model_that_began_from_another_one_is_unknown_where_it_saw_nothing_itself(told, tmp_path):
    provenance, _ = record(tmp_path)
    provenance["initialisation"] = {"source": "first.safetensors"}
    assert told(provenance, "val")[0].verdict == "unknown"
    assert "it began from first.safetensors" in told(provenance, "val")[0].gap
    assert told(provenance, "train")[0].verdict is True


def test_folders_that_a_model_file_names_are_not_looked_into(told, tmp_path, camvid_root, monkeypatch):
    """A model file may come from anyone: only what the configuration names is opened."""
    folders = []
    monkeypatch.setattr(
        "roadseg.evaluation.seen.open_dataset",
        lambda name, root, folder, **options: folders.append(folder) or open_dataset(name, root, folder, **options),
    )
    provenance, _ = record(tmp_path, [{"dataset": "camvid", "folder": str(camvid_root / "camvid")}])
    seen, _ = told(provenance, "train")
    assert folders == [None] and "camvid gave 8 frames to training, and gives 5 here" in seen.gap
    assert str(seen) == "at least 5 of the 5 frames were trained on: the scores flatter"
    own = {"dataset": "folder", "folder": str(camvid_root)}
    seen, _ = told({"data": {"datasets": [own]}}, "train")
    assert (
        folders == [None] and seen.verdict == "unknown" and "folder, which it was trained on, is not here" in seen.gap
    )


def test_both_commands_say_it_and_write_it(tmp_path, config, capsys):
    write_both(tmp_path)
    held, _ = record(tmp_path, hold_out=["B"])
    everything, _ = record(tmp_path, hold_out=[])
    silent = str(write_model(tmp_path / "silent.safetensors", HDMAP))
    clean, fitted = (
        str(write_model(tmp_path / f"{name}.safetensors", HDMAP, provenance=provenance))
        for name, provenance in (("clean", held), ("fitted", everything))
    )
    path = config(root=str(tmp_path), datasets=BOTH, taxonomy="hdmap-camvid", hold_out=["B"])
    for name, model, verdict in (("s", silent, "unknown"), ("c", clean, False), ("f", fitted, True)):
        assert main(["eval", model, "-c", path, "-o", str(tmp_path / name), "--worst", "0"]) == 0
        assert json.loads((tmp_path / name / "scores.json").read_text())["seen_in_training"] == verdict
    assert "4 of the 4 frames were trained on: the scores flatter" in capsys.readouterr().out
    command = ["compare", clean, fitted, "-c", path, "-o", str(tmp_path / "both"), "--pictures", "0"]
    assert main([*command, "--replicates", "2"]) == 0
    document = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert document["seen_in_training"] == {"a": False, "b": True}
    shown = capsys.readouterr().out
    assert "A: none of the frames was trained on" in shown and "B: 4 of the 4 frames were trained on" in shown
