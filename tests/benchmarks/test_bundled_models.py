"""The command that makes the bundled models: what it does again, what it goes on with, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import bundled_models
from roadseg.evaluation.evaluate import Evaluation
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy
from tests.benchmarks.fake_runs import write_checkpoint

STEPS = bundled_models.settings_of("roadseg-nano")["trainer"]["max_steps"]


def test_one_training_holds_the_drive_out_and_the_other_none(tmp_path, started):
    held = bundled_models.train("roadseg-nano", tmp_path, hold_out=True)
    final = bundled_models.train("roadseg-nano", tmp_path, hold_out=False)
    configs = [yaml.safe_load(Path(command[command.index("-c") + 1]).read_text()) for command in started]
    assert [config["data"].pop("hold_out") for config in configs] == [["0006R0"], []]
    assert configs[0] == configs[1] and configs[0]["seed_everything"] == 0
    assert held.parents[2].name == f"{final.parents[2].name}-held-out"
    assert bundled_models.train("roadseg-nano", tmp_path, hold_out=True) == held and len(started) == 2


def test_the_scale_is_chosen_once(tmp_path, monkeypatch):
    """The mean of merged mIoU and lane_marking IoU decides, not mIoU; a kept choice is that checkpoint's only."""
    checkpoint = write_checkpoint(tmp_path, 0, STEPS)
    by_scale = {
        None: (0.9, 0.3, 0.40),
        288: (0.1, 0.4, 0.40),
        360: (0.2, 0.5, 0.39),
        432: (0.5, 0.44, 0.44),
        504: (0, 0, 0),
    }
    packaged = []
    monkeypatch.setattr(
        bundled_models, "package_checkpoint", lambda c, m, *, short_side_px, half: packaged.append(short_side_px)
    )
    monkeypatch.setattr(bundled_models, "load_predictor", lambda model: packaged[-1])

    def score(side, frames):
        miou, merged, lanes = by_scale[side]
        scores = {"miou": miou, "miou_merged": merged, "iou": {"lane_marking": lanes}}
        return Evaluation(LabelSets(load_taxonomy("hdmap-camvid")), scores, None, [])

    monkeypatch.setattr(bundled_models, "evaluate", score)
    choice = bundled_models.choose_scale(checkpoint, None)
    assert choice["short_side_px"] == 360 and choice["scales"]["360"]["chosen_by"] == pytest.approx(0.445)
    assert choice["scores"]["miou_merged"] == 0.5 and packaged == list(by_scale)
    assert bundled_models.choose_scale(checkpoint, None) == json.loads(json.dumps(choice)) and len(packaged) == 5
    torch.save({"global_step": STEPS + 1}, checkpoint)
    bundled_models.choose_scale(checkpoint, None)
    assert len(packaged) == 10


def test_a_larger_scale_has_to_be_worth_its_time():
    near = {None: 0.46, 288: 0.44, 360: 0.462, 432: 0.4643, 504: 0.45}
    assert bundled_models.smallest_good(near) == 360
    assert bundled_models.smallest_good({**near, 432: 0.48}) == 432
    assert bundled_models.smallest_good({**near, None: 0.48}) is None
    assert bundled_models.smallest_good(dict.fromkeys(near, 0.4)) == 288
