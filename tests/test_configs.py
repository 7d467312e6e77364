"""Every configuration in configs/ is built, and trains for a step, through the command line."""

import sys
from pathlib import Path

import pytest
import yaml

import roadseg
from roadseg.cli import lightning_main
from roadseg.task import SegmentationTask

CONFIGS = Path(roadseg.__file__).parents[1] / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))


def test_the_recipes_that_the_documentation_names_exist():
    assert {"roadseg", "nano", "deeplabv3plus", "demo"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_as_it_is_written(path, camvid_root, tmp_path, monkeypatch):
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    seen = {}

    def remember(task) -> None:
        seen.update(architecture=task.architecture, recipe=task.recipe, groups=task.optimizers().param_groups)

    monkeypatch.setattr(SegmentationTask, "on_train_end", remember)
    small = ["--data.crop_size=[64,64]", "--data.batch_size=2", "--data.num_workers=0", "--trainer.max_steps=1"]
    small += ["--trainer.limit_val_batches=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert lightning_main(["fit", "-c", str(path), *small]) == 0
    wanted = yaml.safe_load(path.read_text())["model"]
    assert (
        seen["architecture"]["backbone"] == wanted["backbone"] and seen["architecture"]["decoder"] == wanted["decoder"]
    )
    for key in ("lr", "weight_decay", "warmup_steps", "poly_power", "drop_path_rate"):
        assert seen["recipe"][key] == wanted[key]
    decays = {group["name"]: group["weight_decay"] for group in seen["groups"]}
    assert decays["backbone"] == wanted["weight_decay"] and decays["backbone norms and biases"] == 0
    assert all(p.ndim <= 1 for group in seen["groups"] if "norms" in group["name"] for p in group["params"])


def test_the_peer_gets_the_same_data_and_budget():
    ours, peer = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("roadseg", "deeplabv3plus"))
    assert ours["data"] == peer["data"] and ours["trainer"] == peer["trainer"]
    for key in ("pretrained", "weight_decay", "warmup_steps", "poly_power"):
        assert ours["model"][key] == peer["model"][key]
