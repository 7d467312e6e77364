"""The task's parts: mixing, loss, weight decay, learning rate and scores, against independent references."""

from types import SimpleNamespace

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from roadseg.classification.task import ClassificationTask
from roadseg.classification.topk import TopKCounter


def task(**options) -> ClassificationTask:
    return ClassificationTask(["a", "b", "c"], "twins_svt_nano", **options)


@pytest.mark.parametrize("classes", [3, 5, 12])
def test_accuracies_are_those_of_torchmetrics_and_batches_do_not_matter(classes):
    generator = torch.Generator().manual_seed(0)
    logits, label = (
        torch.randn(37, classes, generator=generator),
        torch.randint(0, classes, (37,), generator=generator),
    )
    counter = TopKCounter()
    for part in range(0, 37, 8):
        counter.update(logits[part : part + 8].bfloat16().float(), label[part : part + 8])
    found = counter.accuracies()
    for k in (1, 5):
        reference = MulticlassAccuracy(classes, top_k=min(k, classes), average="micro")
        assert found[f"top{k}"] == pytest.approx(reference(logits.bfloat16().float(), label).item(), abs=1e-6)
    if classes <= 5:
        assert found["top5"] == 1


def test_the_loss_against_a_sum_by_hand():
    batch = {"image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), "label": torch.tensor([0, 2])}
    for smoothing in (0.0, 0.1):
        plain = task(mixup=0.0, cutmix=0.0, label_smoothing=smoothing, drop_path_rate=0.0)
        log_p = plain(batch["image"]).double().log_softmax(1)
        target = torch.full((2, 3), smoothing / 3).double()
        target[0, 0] += 1 - smoothing
        target[1, 2] += 1 - smoothing
        assert plain._loss(batch, 0).item() == pytest.approx(-(target * log_p).sum(1).mean().item(), rel=1e-5)


def test_mixing_follows_the_step_not_the_generators_and_leaves_the_batch_alone(monkeypatch):
    image = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    batch = {"image": image.clone(), "label": torch.tensor([0, 1, 2, 0])}
    mixing, seen = task(drop_path_rate=0.0), []
    monkeypatch.setattr(mixing.network, "forward", lambda image: seen.append(image) or torch.zeros(len(image), 3))
    for batch_idx, seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(seed)
        mixing._loss(batch, batch_idx)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert torch.equal(batch["image"], image) and not torch.equal(seen[0], image.float())
    assert seen[0].min() >= 0 and seen[0].max() <= 255


def test_decay_and_learning_rate_are_the_papers():
    module = task()
    module.trainer = SimpleNamespace(
        estimated_stepping_batches=300 * 10, num_training_batches=20, accumulate_grad_batches=2
    )
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in module.network.named_parameters():
        exempt = parameter.ndim == 1 or ".pos_block." in name
        assert decay_of.pop(id(parameter)) == (0.0 if exempt else 0.05), name
    assert not decay_of
    # 5 epochs of 10 steps to warm up; halfway through the other 2,950 steps the cosine is at one half.
    rates = [scheduler.lr_lambdas[0](step) for step in (0, 49, 50, 50 + 1475, 3000)]
    assert rates == pytest.approx([1 / 51, 50 / 51, 1.0, 0.5, 0.0])
    assert optimizer.defaults["lr"] == 1e-3
