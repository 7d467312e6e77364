"""Dice and Lovasz-softmax against brute force over label sets, and against a library where every set is one class."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.losses.regions import DiceLoss, LovaszSoftmax
from tests.losses.cases import NUM_CLASSES, SETS, TAXONOMY, case

REGION_LOSSES = [DiceLoss, LovaszSoftmax]
PLAIN = LabelSets(TAXONOMY)


def plain_case(dtype=torch.float64):
    logits, mask = case(dtype)
    return logits, torch.where((mask >= NUM_CLASSES) & (mask != 255), 2, mask)


def regions_of(logits, mask):
    """Of each region that occurs: predictions and truths of the pixels whose label says something of it."""
    probabilities = logits.double().softmax(1).movedim(1, -1).reshape(-1, NUM_CLASSES).numpy()
    labels = mask.flatten().tolist()
    for region in sorted(set(labels) - {255}):
        wanted, predictions, truths = set(SETS.members[region]), [], []
        for label, row in zip(labels, probabilities, strict=True):
            members = set() if label == 255 else set(SETS.members[label])
            if members and (members <= wanted or not members & wanted):
                predictions.append(math.fsum(row[c] for c in wanted))
                truths.append(float(members <= wanted))
        yield np.array(predictions), np.array(truths)


def lovasz_extension(errors, truths) -> float:
    """The integral of 1 - IoU over the level sets {errors >= t}, from the definition of the extension."""
    total, previous = 0.0, 0.0
    for level in np.unique(errors):
        wrong = errors >= level
        lost, union = np.sum(truths[wrong]), np.sum(truths) + np.sum(1 - truths[wrong])
        total += (level - previous) * (1 - (np.sum(truths) - lost) / union)
        previous = level
    return total


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_is_that_of_the_formula(smooth):
    logits, mask = case()
    scores = [(2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth) for p, t in regions_of(logits, mask)]
    assert float(DiceLoss(SETS, smooth)(logits, mask)) == pytest.approx(1 - np.mean(scores), rel=1e-12)


def test_lovasz_is_the_extension_of_one_minus_iou():
    logits, mask = case()
    expected = np.mean([lovasz_extension(np.abs(t - p), t) for p, t in regions_of(logits, mask)])
    assert float(LovaszSoftmax(SETS)(logits, mask)) == pytest.approx(expected, rel=1e-10)


def test_at_certain_predictions_lovasz_is_one_minus_iou():
    _, mask = plain_case()
    predicted = torch.where(mask == 255, 1, (mask + (torch.arange(7) > 4)) % NUM_CLASSES)
    logits = 200.0 * torch.nn.functional.one_hot(predicted, NUM_CLASSES).movedim(-1, 1).double()
    labelled = mask != 255
    iou = [
        ((predicted == c) & (mask == c)).sum() / (((predicted == c) & labelled) | (mask == c)).sum()
        for c in range(NUM_CLASSES)
        if (mask == c).any()
    ]
    assert float(LovaszSoftmax(PLAIN)(logits, mask)) == pytest.approx(1 - float(torch.stack(iou).mean()), rel=1e-6)


@pytest.mark.parametrize("sets", [SETS, PLAIN])
def test_sets_of_one_class_give_the_library_s_dice(sets):
    logits, mask = plain_case()
    present = len(set(mask.unique().tolist()) - {255})
    # The library averages over all classes, absent ones counting 0.
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=255, eps=0.0)(logits, mask) * NUM_CLASSES / present
    assert float(DiceLoss(sets)(logits, mask)) == pytest.approx(float(theirs), rel=1e-10)


@pytest.mark.parametrize("sets", [SETS, PLAIN])
def test_sets_of_one_class_give_the_library_s_lovasz(sets):
    logits, mask = plain_case(torch.float32)  # the only type that it takes
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=255)(logits, mask)
    assert float(LovaszSoftmax(sets)(logits, mask)) == pytest.approx(float(theirs), rel=1e-5)


def test_a_stride_judges_every_second_pixel():
    logits, mask = case()
    expected = LovaszSoftmax(SETS)(logits[..., 1::2, 1::2], mask[..., 1::2, 1::2])
    assert torch.equal(LovaszSoftmax(SETS, stride=2)(logits, mask), expected)


def test_a_merged_label_says_nothing_of_its_members():
    """Whether such a pixel is predicted as one member or the other changes neither loss."""
    mask = torch.tensor([[[0, 1, SETS.id_of([0, 1]), SETS.id_of([0, 1])]]])
    for loss in (DiceLoss(SETS), LovaszSoftmax(SETS)):
        values = []
        for first in (3.0, -3.0):
            logits = torch.zeros(1, NUM_CLASSES, 1, 4, dtype=torch.float64)
            logits[0, 0, 0, 2:], logits[0, 1, 0, 2:] = first, -first
            values.append(float(loss(logits, mask)))
        assert values[0] == pytest.approx(values[1], rel=1e-12)


@pytest.mark.parametrize("loss", REGION_LOSSES)
@pytest.mark.parametrize("sets", [SETS, PLAIN])
def test_a_batch_without_labels_costs_nothing(loss, sets):
    logits = torch.randn(1, NUM_CLASSES, 4, 4, requires_grad=True)
    value = loss(sets)(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", REGION_LOSSES)
def test_ignored_pixels_get_no_gradient(loss):
    logits, mask = case()
    logits.requires_grad_()
    loss(SETS)(logits, mask).backward()
    assert not logits.grad[(mask == 255).unsqueeze(1).expand_as(logits)].any() and logits.grad.any()


@pytest.mark.parametrize("loss", REGION_LOSSES)
def test_gradients_are_right(loss):
    logits, mask = case()
    assert torch.autograd.gradcheck(lambda z: loss(SETS)(z, mask), (logits.requires_grad_(),))


@pytest.mark.parametrize("loss", REGION_LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1000.0])
def test_bfloat16_and_extreme_logits_stay_finite(loss, scale):
    logits, mask = case(torch.bfloat16, scale)
    logits.requires_grad_()
    value = loss(SETS)(logits, mask)
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", REGION_LOSSES)
def test_autocast_does_not_round_the_sums(loss):
    logits, mask = case(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(SETS)(logits, mask)
    assert float(value) == pytest.approx(float(loss(SETS)(logits.double(), mask)), rel=1e-5)


@pytest.mark.parametrize("smooth", [-1.0, math.inf, math.nan])
def test_a_smoothing_that_cannot_work_is_named(smooth):
    with pytest.raises(ConfigError, match=f"smooth is {smooth}"):
        DiceLoss(SETS, smooth)


@pytest.mark.parametrize("stride", [0, 2.0, True])
def test_a_stride_that_cannot_work_is_named(stride):
    with pytest.raises(ConfigError, match=f"stride is {stride}"):
        LovaszSoftmax(SETS, stride)
