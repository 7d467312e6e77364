"""Recipes through the command line: published schedules, layer decay, the auxiliary head, computed weights."""

import csv
import sys
from math import inf, log, nan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import roadseg
from roadseg.checkpoint import check_same_recipe
from roadseg.cli import lightning_main
from roadseg.divergence import refuse_divergence
from roadseg.errors import CheckpointError, ConfigError
from roadseg.models.auxiliary import AuxiliaryHead, auxiliary_settings
from roadseg.models.zoo import build_model
from roadseg.task import SegmentationTask
from roadseg.taxonomy import load_taxonomy
from tests.training.tiny_run import checkpoint, own_miou, scores

CONFIGS = Path(roadseg.__file__).parents[1] / "configs"


@pytest.fixture
def ade20k(tmp_path, monkeypatch) -> Path:
    """ADE20K's layout with four training and one validation picture of random labels."""
    rng = np.random.default_rng(0)
    for split, count in {"training": 4, "validation": 1}.items():
        for part in ("images", "annotations"):
            (tmp_path / "data" / "ade20k" / part / split).mkdir(parents=True)
        for i in range(count):
            folder, name = tmp_path / "data" / "ade20k", f"ADE_{split}_{i:08d}"
            pixels, labels = rng.integers(0, 256, (48, 64, 3)), rng.integers(0, 151, (48, 64))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / split / f"{name}.jpg")
            Image.fromarray(labels.astype(np.uint8)).save(folder / "annotations" / split / f"{name}.png")
    monkeypatch.setenv("ROADSEG_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    return tmp_path


SMALL = ["--model.backbone=twins_svt_nano", "--model.pretrained=false", "--model.decoder_options={width: 16}"]
SMALL += ["--data.batch_size=2", "--data.crop_size=[32,32]", "--data.num_workers=0", "--trainer.accelerator=cpu"]
SMALL += ["--trainer.val_check_interval=2", "--trainer.enable_progress_bar=false", "--trainer.precision=32-true"]
SMALL += ["--trainer.limit_val_batches=0", "--data.datasets=[{dataset: ade20k, short_side_px: 48}]"]

PUBLISHED = {
    "ade20k_fpn": {
        "steps": 80_000,
        # 1e-4 (1 - k / 80,000)^0.9
        "rates": {0: 1e-4, 1: 1e-4 * (79_999 / 80_000) ** 0.9, 40_000: 1e-4 * 0.5**0.9, 80_000: 0.0},
        "decay": 5e-4,
        "encodings": 5e-4,
        "drop_path": {"small": 0.2, "large": 0.4},
    },
    "ade20k_upernet": {
        "steps": 160_000,
        # up to 6e-5 over 1,500 steps, then linearly to 0 over the 158,500 that are left
        "rates": {0: 6e-5 / 1501, 1: 6e-5 * 2 / 1501, 1500: 6e-5, 1500 + 79_250: 3e-5, 160_000: 0.0},
        "decay": 0.01,
        "encodings": 0.0,
        "drop_path": {"small": 0.2, "large": 0.2},
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_schedule_trains_with_the_papers_rates(name, ade20k, monkeypatch):
    wanted, seen = PUBLISHED[name], []

    def remember(task, outputs, batch, batch_idx) -> None:
        assert batch["image"].shape == (2, 3, 32, 32)
        if task.global_step == 2:
            factor = task.lr_schedulers().lr_lambdas[0]
            groups = task.trainer.optimizers[0].param_groups
            seen.append({step: factor(step) * task.recipe["lr"] for step in wanted["rates"]})
            seen.append({id(p): g["weight_decay"] for g in groups for p in g["params"]})
            seen.append([(n, p.ndim, id(p)) for n, p in task.named_parameters()])
            seen.append({g["initial_lr"] for g in groups})
            task.trainer.should_stop = True

    def before_step(task, optimizer) -> None:
        seen.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(SegmentationTask, "on_train_batch_end", remember)
    monkeypatch.setattr(SegmentationTask, "on_before_optimizer_step", before_step)
    assert lightning_main(["fit", "-c", str(CONFIGS / f"{name}.yaml"), *SMALL]) == 0
    rates, decays, parameters, initial = seen[-4:]
    assert seen[0] == pytest.approx(wanted["rates"][0]) and seen[1] == pytest.approx(wanted["rates"][1])
    assert rates == pytest.approx(wanted["rates"], abs=1e-12)
    assert len(initial) == 1, "backbone and decoder have one rate"
    for parameter, ndim, number in parameters:
        expected = 0.0 if ndim == 1 else wanted["encodings"] if ".pos_block." in parameter else wanted["decay"]
        assert decays[number] == expected, parameter


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_schedule_is_written_down_as_published(name):
    wanted, written = PUBLISHED[name], yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    data = yaml.safe_load((CONFIGS / written["data"]).read_text())
    assert written["trainer"]["max_steps"] == wanted["steps"] and data["batch_size"] == 16
    assert data["crop_size"] == [512, 512] and data["scale_range"] == [0.5, 2.0] and data["photometric"] > 0
    model = written["model"]
    assert model["backbone"] == "twins_svt_small" and model["pretrained"] is True
    settings = {key: value for key, value in model.items() if key not in ("pretrained", "grad_checkpointing")}
    large = {"backbone": "twins_svt_large", "drop_path_rate": wanted["drop_path"]["large"]}
    for size, widths, override in (("small", [64, 128, 256, 512], {}), ("large", [128, 256, 512, 1024], large)):
        with torch.device("meta"):
            task = SegmentationTask(load_taxonomy(data["taxonomy"]), **settings | override)
        assert task.network.backbone.out_channels == widths and task.architecture["num_classes"] == 150
        rates = [part.drop_path_rate for part in task.network.modules() if hasattr(part, "drop_path_rate")]
        assert max(rates) == rates[-1] == pytest.approx(wanted["drop_path"][size]) and rates[0] == 0
        assert task.recipe["decoder_lr_multiple"] == 1


def test_layer_decay_reaches_the_optimizer(run, monkeypatch):
    seen = {}

    def remember(task) -> None:
        for group in task.optimizers().param_groups:
            seen.update({id(p): group["initial_lr"] for p in group["params"]})
        blocks = task.network.backbone.blocks
        seen["stem"] = seen[id(task.network.backbone.patch_embeds[0].proj.weight)]
        seen["last"] = seen[id(blocks[3][1].mlp.fc2.weight)]

    monkeypatch.setattr(SegmentationTask, "on_train_end", remember)
    more = ["--trainer.limit_val_batches", 0]
    assert run("fit", "--trainer.max_steps", 1, "--model.layer_decay", 0.5, *more) == 0
    assert seen["last"] == pytest.approx(1e-3 * 0.5) and seen["stem"] == pytest.approx(1e-3 * 0.5**13)
    assert run("fit", "--ckpt_path", checkpoint(), "--trainer.max_steps", 2, *more) == 1, "its groups would not fit"


def test_a_model_with_an_auxiliary_head_is_packaged_without_it(run, camvid_root, capsys):
    with_head = ["--model.auxiliary", "{channels: 8}"]
    assert run("fit", "--trainer.max_epochs", 1, *with_head) == 0
    stored = torch.load(checkpoint(), weights_only=True)
    head = [name for name in stored["state_dict"] if name.startswith("auxiliary.")]
    assert "auxiliary.head.weight" in head
    assert stored["roadseg"]["recipe"]["auxiliary"] == {"feature": 2, "weight": 0.4, "channels": 8}
    trained, averaged = stored["current_model_state"], stored["state_dict"]
    assert any(not torch.equal(trained[name], averaged[name]) for name in head), "it is averaged like the rest"

    assert roadseg.cli.main(["package", str(checkpoint()), "-o", "m.safetensors"]) == 0
    predictor = roadseg.load_predictor("m.safetensors", device="cpu")
    names = roadseg.inference.package.read_model_file("m.safetensors").tensors
    assert names.keys() == build_model("twins_svt_nano", "linear_concat", 11, width=16).state_dict().keys()
    frames = sorted((camvid_root / "camvid" / "val").iterdir())
    masks = {path.stem: predictor(path).mask for path in frames}
    assert own_miou(masks, camvid_root) == pytest.approx(scores()[-1], abs=1e-6), "what was scored is what is served"

    capsys.readouterr()
    assert run("validate", "--ckpt_path", checkpoint()) == 0, (
        "the head is not scored: a configuration without it will do"
    )
    assert f"{scores()[-1]:.4f}"[:6] in capsys.readouterr().out
    assert run("fit", "--trainer.max_epochs", 2, "--ckpt_path", checkpoint()) == 1
    assert (
        'auxiliary is {"feature": 2, "weight": 0.4, "channels": 8} in the checkpoint, null' in capsys.readouterr().err
    )
    assert run("fit", "--trainer.max_epochs", 2, "--ckpt_path", checkpoint(), *with_head) == 0


def test_the_loss_is_the_main_one_and_the_weighed_auxiliary_one(monkeypatch):
    options = {"decoder_options": {"width": 8, "dropout": 0.0}, "drop_path_rate": 0.0}
    task = SegmentationTask(load_taxonomy("camvid11"), "twins_svt_nano", **options, auxiliary={"weight": 0.25})
    task.auxiliary.dropout.p = 0.0
    optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}])
    trainer = SimpleNamespace(log_every_n_steps=99, optimizers=[optimizer])
    monkeypatch.setattr(SegmentationTask, "trainer", trainer)
    monkeypatch.setattr(SegmentationTask, "global_step", 1)
    for name in ("log", "log_dict"):
        monkeypatch.setattr(SegmentationTask, name, lambda *args, **options: None)
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 40, 70), generator=rng, dtype=torch.uint8)
    mask = torch.randint(0, 11, (2, 40, 70), generator=rng)
    loss = task.training_step({"image": image, "mask": mask, "name": ["a", "b"]}, 0)
    features = task.network.features(image)
    assert features[2].shape[2:] == (4, 6), "padded to 64 x 96"
    logits = task.auxiliary(features, (40, 70))
    assert logits.shape == (2, 11, 40, 70)
    entropy = torch.nn.functional.cross_entropy
    assert loss.item() == pytest.approx((entropy(task(image), mask) + 0.25 * entropy(logits, mask)).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in task.parameters()), "or several processes would wait for each other"


def test_the_auxiliary_logits_lie_where_the_feature_does():
    """A feature of one hot cell, through a head that copies it: the peak is at the cell's middle, in px."""
    head = AuxiliaryHead(1, 1, feature=2, channels=1).eval()
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    head.project.weight.data[0, 0, 1, 1], head.norm.weight.data[:], head.head.weight.data[:] = 1, 1, 1
    features = [torch.zeros(1, 1, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    features[2][0, 0, 1, 2] = 1
    with torch.no_grad():
        logits = head(features, (50, 90))[0, 0].numpy()
    rows, columns = np.nonzero(np.isclose(logits, logits.max()))
    assert rows.mean() == 23.5 and columns.mean() == 39.5, "between px 16 and 31, and 32 and 47"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": ["dice"]}, r"model.loss holds 'dice'; write each term as a mapping"),
        ({"loss": "dice"}, r"model.loss is 'dice'; give a list of terms"),
        ({"class_weights": {"road": "a"}}, r"model.class_weights.road is 'a'; use 0 or a finite number"),
        ({"class_weights": {"road": True}}, r"model.class_weights.road is True"),
        ({"class_weights": {3: 1.0}}, r"model.class_weights: .* has no class '?3"),
        ({"class_weights": [1, 2]}, r"model.class_weights is \[1, 2\]; use inverse_log, "),
    ],
)
def test_values_of_the_wrong_kind_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        SegmentationTask(load_taxonomy("camvid11"), "twins_svt_nano", **settings)


def test_the_terms_of_the_loss_are_logged_and_add_up(run):
    terms = ["--model.loss", "[{name: cross_entropy}, {name: dice, weight: 0.5}]", "--model.auxiliary", "{channels: 8}"]
    assert run("fit", "--trainer.max_steps", 2, "--trainer.limit_val_batches", 0, *terms) == 0
    with Path("runs/tiny/version_0/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    names = {name for name in rows[0] if name.startswith("train/loss/")}
    assert names == {"train/loss/cross_entropy", "train/loss/dice", "train/loss/auxiliary"} and len(rows) == 2
    for row in rows:
        assert sum(float(row[name]) for name in names) == pytest.approx(float(row["train/loss"]), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dice": nan}, r"the loss is nan at step 3: the training diverged; lower model.lr, which is 0.1$"),
        ({"dice": nan, "focal": inf}, r"the loss is nan at step 3: the training diverged; lower model.lr"),
        ({"dice": 0.5, "distillation": nan}, r"its 1 term distillation is nan, while the rest is finite \(dice 0.5\)"),
        ({"dice": 0.5, "focal": inf, "distillation": nan}, r"its 2 terms focal is inf, distillation is nan, while"),
    ],
)
def test_the_term_that_is_not_finite_is_named(values, message):
    refuse_divergence({"dice": torch.tensor(1.0), "focal": torch.tensor(2.0)}, 3, 0.1)
    with pytest.raises(ConfigError, match=message):
        refuse_divergence({name: torch.tensor(value) for name, value in values.items()}, 3, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chanels": 3}, "model.auxiliary has no setting 'chanels'; it has feature, weight, channels"),
        ({"feature": 4}, "model.auxiliary.feature is 4; use a whole number, 0 to 3"),
        ({"channels": 2.5}, "model.auxiliary.channels is 2.5"),
        ({"weight": 0}, "model.auxiliary.weight is 0; use a number above 0"),
    ],
)
def test_wrong_auxiliary_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        auxiliary_settings(settings)


def test_class_weights_by_a_rule(run, camvid_root, monkeypatch):
    """By the rule's formula, from the masks, in the losses and in the checkpoint; a resumed run has the same."""
    seen = []

    def remember(task) -> None:
        seen.extend(loss.losses["cross_entropy"].class_weights.clone() for loss in (task.loss, task.auxiliary_loss))

    monkeypatch.setattr(SegmentationTask, "on_train_start", remember)
    rule = ["--model.class_weights", "inverse_log", "--trainer.limit_val_batches", 0, "--trainer.max_steps"]
    assert run("fit", *rule, 1) == 0
    masks = [np.asarray(Image.open(path)) for path in (camvid_root / "camvid" / "trainannot").iterdir()]
    counts = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=12)[:11]
    shares = counts / counts.sum()
    raw = [1 / log(1.02 + share) for share in shares]
    wanted = np.array(raw) / (shares @ np.array(raw))
    header = torch.load(checkpoint(), weights_only=True)["roadseg"]
    assert [*header["class_weights"].values()] == pytest.approx(wanted) and header["recipe"]["class_weights"] == rule[1]
    assert [*header["class_weights"]] == load_taxonomy("camvid11").names
    assert run("fit", *rule, 2, "--ckpt_path", checkpoint()) == 0
    assert len(seen) == 4
    for weights in seen:
        assert weights.numpy() == pytest.approx(wanted, rel=1e-6)


def test_checkpoints_of_before_a_setting_go_on_at_its_default():
    recipe = SegmentationTask(load_taxonomy("camvid11"), "twins_svt_nano").recipe
    later = {"loss", "layer_decay", "no_decay", "auxiliary", "init_from"}
    old = {"roadseg": {"recipe": {key: value for key, value in recipe.items() if key not in later}}}
    check_same_recipe(old, recipe)
    for changed in ({"layer_decay": 0.9}, {"loss": [{"name": "ohem"}]}, {"no_decay": ["pos_block"]}):
        with pytest.raises(CheckpointError, match=f"{next(iter(changed))} is .* in the checkpoint"):
            check_same_recipe(old, {**recipe, **changed})
    classifier = {"lr": 1e-3}
    check_same_recipe({"roadseg": {"recipe": classifier}}, classifier)
