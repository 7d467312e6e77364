"""The command that makes the bundled models: what it does again, what it goes on with, and what it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from benchmarks import bundled_models
from roadseg.evaluation.evaluate import Evaluation
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

STEPS = yaml.safe_load((bundled_models.ROOT / "configs" / "bundled" / "roadseg-nano.yaml").read_text())["trainer"][
    "max_steps"
]


def write_checkpoint(run: Path, version: int, steps: int) -> Path:
    path = run / f"version_{version}" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"global_step": steps}, path)
    return path


@pytest.fixture
def started(monkeypatch):
    """The training commands that were started; each leaves a finished checkpoint in a version of its own."""
    commands = []

    def run(command, cwd):
        commands.append(command)
        folder = Path(command[command.index("--trainer.default_root_dir") + 1])
        write_checkpoint(folder / command[command.index("--name") + 1], 10 + len(commands), STEPS)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(bundled_models.subprocess, "run", run)
    return commands


def test_a_training_that_was_interrupted_goes_on(tmp_path, started):
    run = tmp_path / "run"
    write_checkpoint(run, 2, 100)
    last = write_checkpoint(run, 9, 200)
    (run / "version_10" / "checkpoints").mkdir(parents=True)  # was ended before its first checkpoint
    made = bundled_models.fit("roadseg-nano", run, "--data.hold_out", "[]")
    assert started[0][-2:] == ["--ckpt_path", str(last)] and "--data.hold_out" in started[0]
    assert made == run / "version_11" / "checkpoints" / "last.ckpt"


def test_a_finished_training_is_not_run_again(tmp_path, started):
    last = write_checkpoint(tmp_path / "run", 0, STEPS)
    assert bundled_models.fit("roadseg-nano", tmp_path / "run") == last and not started


def test_another_recipe_is_another_run(tmp_path, monkeypatch):
    for part in ("bundled", "data"):
        (tmp_path / "configs" / part).mkdir(parents=True)
    recipe, data = tmp_path / "configs" / "bundled" / "roadseg-nano.yaml", tmp_path / "configs" / "data" / "d.yaml"
    recipe.write_text("data: ../data/d.yaml\nseed_everything: 0\n")
    data.write_text("batch_size: 8\n")
    monkeypatch.setattr(bundled_models, "ROOT", tmp_path)
    names = [bundled_models.run_name("roadseg-nano")]
    recipe.write_text("data: ../data/d.yaml\nseed_everything: 1\n")
    names.append(bundled_models.run_name("roadseg-nano"))
    data.write_text("batch_size: 4\n")
    names.append(bundled_models.run_name("roadseg-nano"))
    data.write_text("# a remark\nbatch_size: 4\n")
    assert bundled_models.run_name("roadseg-nano") == names[-1]
    assert len(set(names)) == 3 and all(name.startswith("roadseg-nano-") for name in names)


def test_a_training_that_fails_ends_the_command_with_its_status(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled_models.subprocess, "run", lambda command, cwd: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit) as ended:
        bundled_models.fit("roadseg-nano", tmp_path / "run")
    assert ended.value.code == 1


def test_the_best_scale_is_chosen_once(tmp_path, monkeypatch):
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
