"""Distillation against formulas written out by hand, and as a training uses it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

import roadseg
from roadseg.cli import lightning_main
from roadseg.distillation import Distillation, DistillationLoss, DistillationSettings, load_distillation
from roadseg.errors import ConfigError, ModelFileError
from roadseg.inference.package import read_model_file
from roadseg.label_sets import LabelSets
from roadseg.losses import build_loss
from roadseg.packaging import package_checkpoint
from roadseg.taxonomy import RoadClass, Taxonomy, load_taxonomy
from tests.inference.test_package import rewrite
from tests.training.tiny_run import checkpoint

FOUR = Taxonomy("four", 1, tuple(RoadClass(name, (i, i, i)) for i, name in enumerate("abcd")))
SETS = LabelSets(FOUR, ((0, 1), (1, 2, 3)))
"""Ids 4 and 5 are sets of several classes."""


def example(dtype=torch.float64, seed=0):
    """Logits of student and teacher, and a mask in which every set id and ignored pixels occur."""
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (3 * torch.randn(2, 4, 5, 6, generator=generator, dtype=dtype) for _ in range(2))
    mask = torch.randint(0, 7, (2, 5, 6), generator=generator)
    mask[mask == 6] = 255
    assert set(mask.unique().tolist()) == {0, 1, 2, 3, 4, 5, 255}
    return logits, teacher, mask


def by_hand(logits, teacher, mask, temperature, respect_labels=True, ignored_pixels=False):
    """T^2 KL(teacher || student), pixel by pixel, in plain exponentials."""
    members = {**{i: [i] for i in range(4)}, 4: [0, 1], 5: [1, 2, 3]}
    costs = []
    for b, y, x in np.ndindex(*mask.shape):
        label = int(mask[b, y, x])
        if label == 255 and not ignored_pixels:
            continue
        classes = members[label] if label in (4, 5) and respect_labels else list(range(4))
        z, t = (v[b, :, y, x].double().numpy() for v in (logits, teacher))
        if (np.exp(t[classes]).sum() / np.exp(t).sum()) < 0.01:
            continue
        p, q = (np.exp(v[classes] / temperature) / np.exp(v[classes] / temperature).sum() for v in (z, t))
        costs.append(temperature**2 * (q * (np.log(q) - np.log(p))).sum())
    return np.mean(costs), len(costs)


@pytest.mark.parametrize("temperature", [0.1, 0.2, 0.5, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("respect_labels", [True, False])
@pytest.mark.parametrize("ignored_pixels", [True, False])
def test_the_loss_is_the_formula(temperature, respect_labels, ignored_pixels):
    logits, teacher, mask = example()
    loss = DistillationLoss(SETS, temperature, respect_labels, ignored_pixels)(logits, teacher, mask)
    assert float(loss) == pytest.approx(by_hand(logits, teacher, mask, temperature, respect_labels, ignored_pixels)[0])


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0, 100.0])
def test_low_and_high_temperatures_are_computed_in_float32_as_well(temperature):
    """With labels of several classes, whose other classes are cut off by a number that must survive the division."""
    logits, teacher, mask = example(torch.float32)
    logits.requires_grad_()
    loss = DistillationLoss(SETS, temperature)(logits, teacher, mask)
    loss.backward()
    wanted, _ = by_hand(logits.detach().double(), teacher.double(), mask, temperature)
    assert loss.item() == pytest.approx(wanted, rel=1e-3) and torch.isfinite(logits.grad).all()


def test_without_sets_it_is_torchs_divergence():
    logits, teacher, _ = example()
    mask = torch.zeros(2, 5, 6, dtype=torch.int64)
    loss = DistillationLoss(LabelSets(FOUR), 3.0)(logits, teacher, mask)
    rows = [v.permute(0, 2, 3, 1).reshape(-1, 4) for v in (logits, teacher)]
    reference = torch.nn.KLDivLoss(reduction="batchmean")(F.log_softmax(rows[0] / 3, 1), F.softmax(rows[1] / 3, 1))
    assert float(loss) == pytest.approx(9 * float(reference))


@pytest.mark.parametrize("respect_labels", [True, False])
def test_the_gradient_is_that_of_the_loss_and_the_teacher_gets_none(respect_labels):
    logits, teacher, mask = example()
    logits.requires_grad_()
    teacher.requires_grad_()
    loss = DistillationLoss(SETS, 2.0, respect_labels)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, mask), logits)
    loss(logits, teacher, mask).backward()
    assert teacher.grad is None and float(logits.grad.abs().max()) > 0
    assert not logits.grad.permute(0, 2, 3, 1)[mask == 255].any()
    outside = logits.grad.permute(0, 2, 3, 1)[mask == 4][:, 2:]
    assert bool(outside.any()) != respect_labels


def test_a_student_that_equals_its_teacher_has_nothing_to_learn():
    _, teacher, mask = example()
    logits = teacher.clone().requires_grad_()
    loss = DistillationLoss(SETS, 2.0, ignored_pixels=True)(logits, teacher, mask)
    loss.backward()
    assert float(loss) == 0 and float(logits.grad.abs().max()) < 1e-15


def test_a_batch_without_a_labelled_pixel_costs_nothing():
    logits, teacher, mask = example(torch.float32)
    logits.requires_grad_()
    loss = DistillationLoss(SETS)(logits, teacher, torch.full_like(mask, 255))
    loss.backward()
    assert float(loss) == 0 and not logits.grad.any()


def test_a_teacher_that_contradicts_a_label_of_several_classes_is_not_asked():
    logits, teacher = torch.zeros(1, 4, 1, 2, dtype=torch.float64), torch.zeros(1, 4, 1, 2, dtype=torch.float64)
    teacher[0, 0] = 1.0  # a rather than b
    teacher[0, 3, 0, 0] = 9.0  # and d rather than either in the first pixel: P_S is 0.0005 there, and 0.65 in the other
    mask = torch.full((1, 1, 2), 4)
    q = np.exp([1, 0]) / np.exp([1, 0]).sum()
    loss = DistillationLoss(SETS, 1.0)(logits, teacher, mask)
    assert float(loss) == pytest.approx((q * np.log(q / 0.5)).sum())


def test_low_precision_logits_are_compared_in_float32():
    logits, teacher, mask = example(torch.float32)
    loss = DistillationLoss(SETS)
    low = loss(logits.bfloat16(), teacher.bfloat16(), mask)
    assert low.dtype == torch.float32
    assert float(low) == float(loss(logits.bfloat16().float(), teacher.bfloat16().float(), mask))


def test_huge_logits_stay_finite():
    logits, teacher, mask = example(torch.float32)
    logits = (1e4 * logits).requires_grad_()
    loss = DistillationLoss(SETS)(logits, 1e4 * teacher, mask)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"model.distillation.teacher is ''; name the teacher's model file"),
        ({"teacher": None}, "model.distillation.teacher is None; .* --model.distillation.teacher FILE"),
        ({"teacher": "t", "temprature": 3}, "no setting 'temprature'; did you mean temperature?"),
        ({"teacher": "t", "temperature": 0.05}, "temperature is 0.05; use 0.1 to 100"),
        ({"teacher": "t", "temperature": 101}, "temperature is 101; use 0.1 to 100"),
        ({"teacher": "t", "temperature": float("nan")}, "temperature is nan"),
        ({"teacher": "t", "weight": 0}, "distillation.weight is 0; use a finite number above 0"),
        ({"teacher": "t", "weight": "1"}, "weight is '1'; use a finite number"),
        ({"teacher": "t", "weight": True}, "weight is True"),
        ({"teacher": "t", "start_step": -1}, "start_step is -1; use a whole number"),
        ({"teacher": "t", "start_step": 1.5}, "start_step is 1.5"),
        ({"teacher": "t", "respect_labels": "no"}, "respect_labels is 'no'; use true or false"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_distillation(settings, SETS)


def test_a_teacher_is_a_model_file(tmp_path):
    (tmp_path / "t.ckpt").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="t.ckpt is a training checkpoint, .*roadseg package"):
        load_distillation({"teacher": str(tmp_path / "t.ckpt")}, SETS)
    with pytest.raises(ModelFileError, match=r"no model file at .*gone.safetensors"):
        load_distillation({"teacher": str(tmp_path / "gone.safetensors")}, SETS)


def test_a_teacher_of_other_classes_is_refused_with_their_names(model_file):
    with pytest.raises(ConfigError, match=r"it lacks a, b, c, d and adds sky, .*, bicyclist\. Train the teacher on"):
        load_distillation({"teacher": str(model_file)}, SETS)


def test_classes_in_another_order_are_matched_by_name(model_file, tmp_path):
    file = read_model_file(model_file)
    turned = list(reversed(range(11)))
    taxonomy = file.header.taxonomy.to_dict() | {"name": "turned"}
    taxonomy["classes"] = [taxonomy["classes"][i] for i in turned]
    head = {name: file.tensors[name][turned] for name in ("decoder.head.weight", "decoder.head.bias")}
    other = rewrite(model_file, tmp_path / "turned.safetensors", header={"taxonomy": taxonomy}, tensors=head)
    image = torch.randint(0, 256, (1, 3, 40, 40), generator=torch.Generator().manual_seed(0)).byte()
    logits = torch.randn(1, 11, 40, 40, generator=torch.Generator().manual_seed(1))
    sets, mask = LabelSets(file.header.taxonomy), torch.zeros(1, 40, 40, dtype=torch.int64)
    teachers = [load_distillation({"teacher": str(path)}, sets) for path in (model_file, other)]
    first, second = (float(teacher(image, logits, mask, 0)) for teacher in teachers)
    assert first == pytest.approx(second, rel=1e-6) and first > 0.1
    sets = LabelSets(Taxonomy.from_dict(taxonomy))
    assert float(load_distillation({"teacher": str(model_file)}, sets)(image, logits, mask, 0)) != pytest.approx(first)


def test_the_teacher_is_silent_before_its_first_step():
    class Refusing(torch.nn.Module):
        def forward(self, image):
            raise AssertionError("asked")

    logits, _, mask = example(torch.float32)
    silent = Distillation(Refusing(), range(4), SETS, DistillationSettings("t", start_step=3))
    assert float(silent(torch.zeros(2, 3, 5, 6), logits, mask, 2)) == 0
    with pytest.raises(AssertionError, match="asked"):
        silent(torch.zeros(2, 3, 5, 6), logits, mask, 3)


def logged_losses(version=0):
    with Path(f"runs/tiny/version_{version}/metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_training_adds_the_teachers_term_and_leaves_the_teacher_out_of_the_checkpoint(
    run, model_file, monkeypatch, capsys
):
    calls = []
    ask = Distillation.__call__

    def record(self, image, logits, mask, step):
        term = ask(self, image, logits, mask, step)
        calls.append((image.clone(), logits.detach().clone(), mask.clone(), step, float(term)))
        return term

    monkeypatch.setattr(Distillation, "__call__", record)
    learn = ["--model.distillation.teacher", model_file, "--model.distillation.weight", 0.5]
    assert run("fit", "--trainer.max_epochs", 1, *learn) == 0
    image, logits, mask, step, term = calls[0]
    teacher = roadseg.build_model("twins_svt_nano", "linear_concat", 11, width=32).eval()
    teacher.load_state_dict({k: torch.tensor(v) for k, v in read_model_file(model_file).tensors.items()})
    with torch.no_grad():
        told = F.softmax(teacher(image) / 2, 1)
    divergence = (told * (told.log() - F.log_softmax(logits / 2, 1))).sum(1)
    assert step == 0 and len(calls) == 4
    assert term == pytest.approx(0.5 * 4 * float(divergence[mask != 255].mean()), rel=1e-4)
    taxonomy = load_taxonomy("camvid11")
    labels = build_loss([{"name": "cross_entropy"}], LabelSets(taxonomy))(logits, mask)
    assert logged_losses()[0] == pytest.approx(term + float(labels), rel=1e-4)

    stored = torch.load(checkpoint(), weights_only=True)
    student = roadseg.build_model("twins_svt_nano", "linear_concat", 11, width=16)
    for part in ("state_dict", "current_model_state"):
        assert set(stored[part]) == {f"network.{name}" for name in student.state_dict()}
    trained = sum(len(group["params"]) for group in stored["optimizer_states"][0]["param_groups"])
    assert trained == len(list(student.parameters()))
    assert not any("teacher" in name for name in stored["averaging_state"])
    told = stored["roadseg"]["recipe"]["distillation"]
    assert told["teacher"] == f"sha256:{read_model_file(model_file).digest}" and told["weight"] == 0.5

    more = ["--trainer.max_epochs", 2, "--ckpt_path", checkpoint()]
    assert run("fit", *more, *learn) == 0
    assert [call[3] for call in calls] == list(range(8))
    assert run("fit", *more, *learn, "--model.distillation.temperature", 3) == 1
    assert '"temperature": 2.0' in capsys.readouterr().err
    # To score it, no teacher is needed.
    assert run("validate", "--ckpt_path", checkpoint()) == 0
    assert package_checkpoint(checkpoint(), "student.safetensors")


RECIPE = Path(roadseg.__file__).parents[1] / "configs" / "distill.yaml"
SMALL = ["--data.crop_size=[64,64]", "--data.batch_size=2", "--data.num_workers=0", "--trainer.max_steps=1"]
SMALL += ["--trainer.limit_val_batches=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def test_the_recipe_asks_for_its_teacher_and_trains_with_one(run, model_file, monkeypatch, capsys):
    assert lightning_main(["fit", "-c", str(RECIPE), *SMALL]) == 1
    error = capsys.readouterr().err
    assert "model.distillation.teacher is None; name the teacher's model file" in error and "Traceback" not in error
    steps = []
    ask = Distillation.__call__
    monkeypatch.setattr(Distillation, "__call__", lambda self, *a: steps.append(a[3]) or ask(self, *a))
    teacher = f"--model.distillation.teacher={model_file}"
    assert lightning_main(["fit", "-c", str(RECIPE), *SMALL, teacher]) == 0 and steps == [0]
    wanted = yaml.safe_load(RECIPE.read_text())["model"]
    saved = yaml.safe_load(next(Path("runs/distill").glob("*/config.yaml")).read_text())["model"]
    assert saved["distillation"] == wanted["distillation"] | {"teacher": str(model_file)}
    assert saved["backbone"] == wanted["backbone"] == "twins_svt_nano"
