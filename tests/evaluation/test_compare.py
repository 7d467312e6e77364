"""`roadseg compare` as a user meets it."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roadseg import build_model, load_predictor
from roadseg.cli import main
from roadseg.evaluation.compare import compare, matching_ids
from roadseg.evaluation.comparison_report import compare_text
from roadseg.evaluation.cost import Cost, network_cost
from roadseg.evaluation.evaluate import evaluate
from roadseg.evaluation.figures import flatten
from roadseg.evaluation.frames import open_scored
from roadseg.inference.package import read_model_file
from roadseg.models.complexity import count_macs


def test_both_columns_are_what_eval_says_and_the_files_hold_the_table(config, models, tmp_path, capsys):
    folder, path = tmp_path / "comparison", config()
    command = ["compare", str(models["camvid"]), str(models["other"]), "-c", path, "-o", str(folder)]
    assert main([*command, "--replicates", "40", "--pictures", "2"]) == 0
    shown = capsys.readouterr().out
    document = json.loads((folder / "compare.json").read_text())
    for side, model in (("a", "camvid"), ("b", "other")):
        predictor = load_predictor(models[model], device="cpu")
        expected = flatten(evaluate(predictor, open_scored(path, "val", predictor.taxonomy)).scores)
        found = {name: score[side] for name, score in document["scores"].items()}
        assert {k: np.nan if v is None else v for k, v in found.items()} == pytest.approx(expected, nan_ok=True)
    miou = document["scores"]["miou"]
    assert miou["difference"] == pytest.approx(miou["b"] - miou["a"]) and miou["a_low"] <= miou["a"] <= miou["a_high"]
    assert (
        f"{miou['difference']:+.3f}" in shown
        and "40 replicates of 5 frames of 1 drive (says nothing of new drives; fewer than 10 frames: only a hint)"
        in shown
    )
    assert "row_iou/miou/0-10 %" in shown and "A: IoU by image rows" in shown
    assert document["bootstrap"] == {"drawn": "frames", "groups": 5, "replicates": 40, "level": 0.95}
    (drive,) = document["drives"].items()
    assert drive[1] == 5 and drive[0].startswith("camvid/")
    assert document["data"]["config_sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert document["cost"]["a"]["size"] == [64, 96] and document["cost"]["a"]["median_s"] > 0
    with (folder / "compare.csv").open() as file:
        rows = {row["score"]: row for row in csv.DictReader(file)}
    assert float(rows["miou"]["difference_low"]) == miou["difference_low"]
    assert len(document["differing"]) == 2 and sorted(p.name for p in (folder / "pictures").iterdir()) == [
        "01.jpg",
        "02.jpg",
    ]
    assert np.asarray(Image.open(folder / "pictures" / "01.jpg")).shape[1] == 5 * 480 + 4 * 4


def test_a_model_with_its_classes_in_another_order_differs_nowhere(config, models):
    pair = tuple(load_predictor(models[name], device="cpu") for name in ("camvid", "reordered"))
    frames = open_scored(config(), "val", pair[0].taxonomy)
    found = compare(pair, frames, replicates=30)
    assert all(share == 0 for _, share in found.differing) and len(found.differing) == 5
    for name, score in found.scores.items():
        rounding = 1e-6 if name == "ece" else 0  # a softmax adds up in another order
        assert np.isnan(score.a) or abs(score.difference) <= rounding, name
        assert np.isnan(score.difference_interval[0]) or np.abs(score.difference_interval).max() <= rounding, name


def test_drives_are_drawn_when_there_are_enough(config, models, monkeypatch):
    pair = (load_predictor(models["hdmap"], device="cpu"),) * 2
    options = {"val_frames": 3, "train_frames": 1, "size": [48, 64]}
    frames = open_scored(config(dataset="synthetic", options=options, datasets=None), "val", pair[0].taxonomy)
    found = compare(pair, frames, replicates=2)
    assert (found.drawn, found.groups, found.replicates) == ("frames", 3, 2)
    cost = Cost(4_360_000, 2.89, (64, 96), 0.0104, (0.0095, 0.0112), 15)
    assert "3 frames of 3 drives (say little of new drives" in compare_text(found, [cost, cost])
    assert set(found.drives.values()) == {1} and len(found.drives) == 3 and found.sizes == {(48, 64): (3, 0)}
    monkeypatch.setattr("roadseg.evaluation.compare.LEAST_DRIVES", 3)
    found = compare(pair, frames, replicates=2)
    assert (found.drawn, found.groups) == ("drives", 3)
    assert "2 replicates of 3 drives, the same for A and B" in compare_text(found, [cost, cost])


def test_the_same_seed_gives_the_same_intervals(config, models):
    pair = tuple(load_predictor(models[name], device="cpu") for name in ("camvid", "other"))
    frames = open_scored(config(), "val", pair[0].taxonomy)
    first, again, other = (compare(pair, frames, 30, seed).scores["accuracy"] for seed in (5, 5, 6))
    assert first == again and first.a == other.a and first.a_interval != other.a_interval


def test_frames_without_labels_compare_without_scores(config, camvid_root, models):
    for path in (camvid_root / "camvid" / "valannot").iterdir():
        Image.fromarray(np.full((64, 96), 11, np.uint8)).save(path)
    pair = tuple(load_predictor(models[name], device="cpu") for name in ("camvid", "other"))
    found = compare(pair, open_scored(config(), "val", pair[0].taxonomy, 1), replicates=3)
    assert np.isnan(found.scores["miou"].a) and np.isnan(found.scores["miou"].difference_interval).all()
    assert found.differing == [(0, 0.0)]
    cost = Cost(4_360_000, 2.89, (64, 96), 0.0104, (0.0095, 0.0112), 15)
    lines = compare_text(found, [cost, cost]).splitlines()
    assert lines[1:3] == ["-" * len(lines[1]), ""], "no score has a line"
    assert any("fewer than 10 frames: only a hint" in line for line in lines)
    assert [line.split() for line in lines if "latency" in line] == [["latency,", "median", "(ms)", "10.4", "10.4"]]


def test_models_of_other_classes_are_refused_with_the_classes(config, models, capsys):
    assert main(["compare", str(models["camvid"]), str(models["hdmap"]), "-c", config()]) == 1
    error = capsys.readouterr().err
    assert "'camvid11' and 'hdmap-camvid'" in error
    assert "only A has bicyclist, car, fence" in error and "only B has barrier, lane_marking" in error


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_model_is_named(missing, config, models, capsys):
    names = [str(models["camvid"])] * 2
    names[missing] = "gone.safetensors"
    assert main(["compare", *names, "-c", config()]) == 1
    assert "no model file at gone.safetensors" in capsys.readouterr().err


def test_ids_are_matched_by_name(models):
    first, second = (read_model_file(models[name]).header.taxonomy for name in ("camvid", "reordered"))
    table = matching_ids(first, second)
    assert all(first.names[table[i]] == name for i, name in enumerate(second.names)) and (table[11:] == 255).all()


def test_cost_is_that_of_the_network_at_its_inference_scale(models):
    file = read_model_file(models["other"])  # scaled to a short side of 40 px
    with torch.device("meta"):
        network = build_model("twins_svt_nano", "linear_concat", 11, width=16)
    parameters, macs = network_cost(file.header, (80, 120))
    buffers = {name for name, _ in network.named_buffers()}
    assert parameters == sum(tensor.size for name, tensor in file.tensors.items() if name not in buffers)
    assert macs == count_macs(network, (40, 60))
