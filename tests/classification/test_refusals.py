"""What a classification run refuses, and what it says."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from roadseg.cli import lightning_main, main
from tests.classification.conftest import TINY
from tests.classification.pictures import checkpoint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "detection"], "task is 'detection'; known: classification, segmentation"),
        (["--model.decoder", "linear_concat"], "decoder"),
        (["--model.backbone", "twins_svt_smal"], "no backbone 'twins_svt_smal'; known: "),
        (["--model.lr", "0"], "model.lr is 0.0; use a finite value above 0"),
        (["--model.mixup", "-1"], "model.mixup is -1.0; use 0 or a finite value above it"),
        (["--model.warmup_epochs", "-1"], "model.warmup_epochs is -1.0"),
        (["--model.label_smoothing", "1"], "model.label_smoothing is 1.0; use a value from 0 up to, but not, 1"),
        (["--data.total_batch_size", "0"], "data.total_batch_size is 0; use at least 1"),
        (["--data.total_batch_size", "99"], "data.total_batch_size is 99, but there are only 36 training images"),
        (["--data.total_batch_size", "9"], "a batch of 9 images cannot be mixed, which is done in pairs"),
        (
            ["--trainer.accumulate_grad_batches", "5"],
            "data.total_batch_size is 12, which does not divide by 5 (processes x accumulated batches: 1 x 5); use a "
            "multiple of 5",
        ),
        (["--data.image_size", "8"], "data.image_size is 8; use at least 32"),
        (["--data.num_workers", "-1"], "data.num_workers is -1; use at least 0"),
        (["--data.crop_scale", "[0.5, 2]"], "data.crop_scale is [0.5, 2.0]; use [smallest, largest]"),
        (["--data.flip", "2"], "data.flip is 2.0; use a probability, 0 to 1"),
        (["--data.random_erasing", "-1"], "data.random_erasing is -1.0; use a probability"),
        (["--data.colour_jitter", "3"], "data.colour_jitter is 3.0; use a strength, 0 to 1"),
        (["--data.rand_augment", "v0"], "data.rand_augment is 'v0'; use a policy of timm such as rand-m9-mstd0.5-inc1"),
        (["--data.rand_augment", "rand-q9"], "data.rand_augment is 'rand-q9'"),
        (["--data.dataset", "imagenet"], "/imagenet/train; images are wanted as train/CLASS/NAME.jpg"),
        (["--data.seed", "5"], "data.seed is 5, but seed_everything is 0; set seed_everything alone"),
        (["--trainer.max_epochs", "-1"], "set trainer.max_epochs or trainer.max_steps"),
    ],
)
def test_what_cannot_work_is_refused_before_training(run, capsys, arguments, message):
    assert run("fit", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(Path().glob("runs/**/*.ckpt"))


def test_a_training_that_diverges_has_an_exit_status_of_its_own(run, capsys):
    assert run("fit", "--model.lr", "1e30") == 3
    assert "the training diverged; lower model.lr, which is 1e+30" in capsys.readouterr().err


def a_class_is_empty(folder: Path) -> None:
    for path in (folder / "train" / "grass").iterdir():
        path.unlink()


def there_is_one_class(folder: Path) -> None:
    for name in ("grass", "water"):
        shutil.rmtree(folder / "train" / name)


def there_are_no_classes(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    (folder / "val").mkdir()
    Image.new("RGB", (40, 40)).save(folder / "val" / "ILSVRC2012_val_00000001.jpg")


def val_has_other_classes(folder: Path) -> None:
    (folder / "val" / "water").rename(folder / "val" / "sea")


def val_is_missing(folder: Path) -> None:
    shutil.rmtree(folder / "val")


def a_picture_is_cut_off(folder: Path) -> None:
    path = folder / "train" / "brick" / "00.jpg"
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            a_class_is_empty,
            "colours/train: no image of 'grass'; looked for .jpeg, .jpg, .png, .webp in all folders below",
        ),
        (there_is_one_class, "colours/train holds one class only, 'brick'; a classifier needs at least two"),
        (there_are_no_classes, "colours/val holds no class folders; images are wanted as val/CLASS/NAME.jpg"),
        (val_has_other_classes, "the classes of the training images: it lacks 'water' and has also 'sea'"),
        (val_is_missing, "colours/val; images are wanted as train/CLASS/NAME.jpg and val/CLASS/NAME.jpg"),
        (a_picture_is_cut_off, "colours/train/brick/00.jpg is truncated or damaged"),
    ],
)
def test_folders_that_cannot_be_used_are_named(run, pictures, capsys, spoil, message):
    spoil(pictures / "colours")
    assert run("fit") == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not list(Path().glob("runs/**/*.ckpt"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_that_was_not_looked_for_stops_the_run_with_its_path(run, pictures, capsys, workers):
    a_picture_is_cut_off(pictures / "colours")
    assert run("fit", "--data.verify", "false", "--data.num_workers", workers) == 1
    error = capsys.readouterr().err
    assert f"error: {pictures}/colours/train/brick/00.jpg is truncated or damaged" in error and "Traceback" not in error


def test_a_wrong_task_in_a_file_is_refused(run, capsys):
    for task in ("clasification", ["classification"], None):
        Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "task": task}))
        assert run("fit") == 1
        assert f"task is {task!r}; known: classification, segmentation" in capsys.readouterr().err


def test_the_task_is_found_however_a_file_is_given(run, capsys):
    for given in (["-ctiny.yaml"], ["-c=tiny.yaml"], ["--config=tiny.yaml"], ["--config", "tiny.yaml"]):
        assert lightning_main(["validate", *given]) == 1
        assert "validate needs trained weights" in capsys.readouterr().err, given


def test_commands_that_a_task_does_not_have_are_refused(run, capsys):
    for command in ("test", "predict"):
        assert run(command) == 1
        assert f"task classification has no {command}; it has fit, validate" in capsys.readouterr().err
    assert run("validate") == 1
    assert "validate needs trained weights" in capsys.readouterr().err
    assert lightning_main(["fit", "--task", "classification"]) == 1
    assert "for example: lightning fit -c configs/pretrain.yaml" in capsys.readouterr().err


def test_help_shows_the_settings_of_the_task(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--task", "classification", "--help"])
    shown = capsys.readouterr().out
    assert "--data.total_batch_size" in shown and "--model.mixup" in shown and "--model.decoder" not in shown


def test_checkpoints_that_do_not_fit_are_refused(after, trained, tmp_path, capsys):
    assert after("fit", "--ckpt_path", checkpoint(), "--model.lr", 0.5) == 1
    assert "lr is 0.001 in the checkpoint, 0.5 now" in capsys.readouterr().err
    assert after("validate", "--ckpt_path", checkpoint(), "--model.backbone", "twins_svt_small") == 1
    assert 'backbone is "twins_svt_nano" in the checkpoint, "twins_svt_small" now' in capsys.readouterr().err
    shutil.copytree(trained[1] / "colours", tmp_path / "others")
    for split in ("train", "val"):
        (tmp_path / "others" / split / "grass").rename(tmp_path / "others" / split / "meadow")
    assert after("validate", "--ckpt_path", checkpoint(), "--data.dataset", tmp_path / "others") == 1
    assert "class 1 is 'grass' in the checkpoint, 'meadow' in the data" in capsys.readouterr().err


def test_damaged_descriptions_are_refused(after, capsys):
    stored = torch.load(checkpoint(), weights_only=True)
    for change, message in (
        ({"class_names": ["a"]}, "1 class names for 3 classes"),
        ({"class_names": [1, 2, 3]}, "3 class names for 3 classes"),
        ({"architecture": 3}, "its description is wrong"),
        ({"task": "detection"}, "its task is 'detection'"),
        ({"task": "segmentation"}, "holds a segmentation model, and the configuration's task is classification"),
    ):
        torch.save({**stored, "roadseg": {**stored["roadseg"], **change}}, "damaged.ckpt")
        assert after("validate", "--ckpt_path", "damaged.ckpt") == 1
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
