"""Every configuration in configs/ is built, and trains for a step, through the command line."""

import sys
from pathlib import Path

import pytest
import yaml

import roadseg
from roadseg.classification.task import ClassificationTask
from roadseg.cli import lightning_main
from roadseg.inference.bundled import BUNDLED_MODELS
from roadseg.task import SegmentationTask
from tests.classification.pictures import write_pictures
from tests.data.mixtures import write_coarse, write_fine

CONFIGS = Path(roadseg.__file__).parents[1] / "configs"
PRETRAINING = CONFIGS / "pretrain.yaml"
ELSEWHERE = {CONFIGS / "distill.yaml", CONFIGS / "self_training.yaml"}  # they need a teacher, and pseudo-labels
ELSEWHERE |= set(CONFIGS.glob("ade20k_*.yaml"))  # tests/training/test_recipes.py has a tree for them
BUNDLED = sorted((CONFIGS / "bundled").glob("*.yaml"))
RECIPES = sorted(set(CONFIGS.glob("*.yaml")) - {PRETRAINING, *ELSEWHERE}) + BUNDLED


def test_the_recipes_that_the_documentation_names_exist():
    named = {"roadseg", "nano", "deeplabv3plus", "demo", "pretrain", "camvid_mixture"}
    assert named <= {path.stem for path in CONFIGS.glob("*.yaml")}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_as_it_is_written(path, camvid_root, tmp_path, monkeypatch):
    for name in ("0006R0_f0", "0006R0_f1", "0016E5_0", "0016E5_1"):  # the drives that the mixture knows
        write_coarse(camvid_root, "train", name)
        write_fine(camvid_root, name)
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    seen = {}

    def remember(task) -> None:
        seen.update(architecture=task.architecture, recipe=task.recipe, groups=task.optimizers().param_groups)

    monkeypatch.setattr(SegmentationTask, "on_train_end", remember)
    small = ["--data.crop_size=[64,64]", "--data.batch_size=2", "--data.num_workers=0", "--trainer.max_steps=1"]
    small += ["--trainer.limit_val_batches=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    small += ["--model.coarse_steps=0"]  # a run has to reach full size, and one step is this one's all
    assert lightning_main(["fit", "-c", str(path), "--data.verify_frames=2", *small]) == 0
    wanted = yaml.safe_load(path.read_text())["model"]
    assert (
        seen["architecture"]["backbone"] == wanted["backbone"] and seen["architecture"]["decoder"] == wanted["decoder"]
    )
    for key in ("lr", "weight_decay", "warmup_steps", "poly_power", "drop_path_rate"):
        assert seen["recipe"][key] == wanted[key]
    decays = {group["name"]: group["weight_decay"] for group in seen["groups"]}
    assert decays["backbone"] == wanted["weight_decay"] and decays["backbone norms and biases"] == 0
    assert all(p.ndim <= 1 for group in seen["groups"] if "norms" in group["name"] for p in group["params"])


def test_the_pretraining_recipe_trains_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("ROADSEG_DATA", str(write_pictures(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    seen = {}

    def remember(task) -> None:
        seen.update(recipe=task.recipe, architecture=task.architecture, data=task.trainer.datamodule.describe())

    monkeypatch.setattr(ClassificationTask, "on_train_end", remember)
    small = ["--data.dataset=colours", "--data.image_size=64", "--data.total_batch_size=4", "--data.num_workers=0"]
    small += ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"]
    assert lightning_main(["fit", "-c", str(PRETRAINING), *small, "--trainer.enable_progress_bar=false"]) == 0
    paper = {"lr": 1e-3, "weight_decay": 0.05, "warmup_epochs": 5, "drop_path_rate": 0.2}
    mixing = {"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1}
    assert {**seen["recipe"], **paper, **mixing} == seen["recipe"]
    augmentation = {"rand_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25, "colour_jitter": 0.4, "flip": 0.5}
    assert {**seen["data"], **augmentation} == seen["data"] and seen["architecture"]["backbone"] == "twins_svt_small"
    written = yaml.safe_load(PRETRAINING.read_text())
    assert written["data"]["total_batch_size"] == 1024 and written["data"]["image_size"] == 224
    assert written["trainer"]["max_epochs"] == 300 and written["trainer"]["gradient_clip_val"] == 5


def test_the_bundled_models_differ_in_their_network_and_schedule_alone():
    recipes = {path.stem: yaml.safe_load(path.read_text()) for path in BUNDLED}
    assert list(recipes) == sorted(BUNDLED_MODELS)
    for recipe in recipes.values():
        for key in ("backbone", "backbone_options", "decoder", "decoder_options", "coarse_steps"):
            recipe["model"].pop(key, None)
        for key in ("max_steps", "val_check_interval"):
            recipe["trainer"].pop(key)
    assert recipes["deeplabv3plus-mobilenet"] == recipes["roadseg-nano"]


def test_the_peer_gets_the_same_data_and_budget():
    ours, peer = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("roadseg", "deeplabv3plus"))
    assert ours["data"] == peer["data"] and ours["trainer"] == peer["trainer"]
    for key in ("pretrained", "weight_decay", "warmup_steps", "poly_power"):
        assert ours["model"][key] == peer["model"][key]
