"""OHEM, focal and boundary-weighted cross-entropy against their formulas, pixel by pixel, in Python's own floats."""

import math

import pytest
import torch

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.losses.pixels import (
    BoundaryCrossEntropy,
    FocalLoss,
    LabelSetCrossEntropy,
    OnlineHardExampleMining,
    near_border,
)
from tests.losses.cases import NUM_CLASSES, SETS, TAXONOMY, WEIGHTS, case

WEIGHT_TENSOR = torch.tensor(WEIGHTS, dtype=torch.float64)
PIXEL_LOSSES = [LabelSetCrossEntropy, FocalLoss, OnlineHardExampleMining, BoundaryCrossEntropy]


def pixels_of(logits, mask, sets=SETS):
    """(place, probability of the label, its weight) of each labelled pixel."""
    found = []
    for b, y, x in (mask != 255).nonzero().tolist():
        row = logits[b, :, y, x].tolist()
        total = math.fsum(math.exp(v) for v in row)
        members = sets.members[int(mask[b, y, x])]
        probability = math.fsum(math.exp(row[c]) for c in members) / total
        found.append(((b, y, x), min(probability, 1.0), min(WEIGHTS[c] for c in members)))
    return found


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_that_of_the_formula(gamma):
    logits, mask = case()
    rows = pixels_of(logits, mask)
    expected = math.fsum(w * (1 - p) ** gamma * -math.log(p) for _, p, w in rows) / math.fsum(w for _, _, w in rows)
    assert float(FocalLoss(SETS, WEIGHT_TENSOR, gamma)(logits, mask)) == pytest.approx(expected, rel=1e-10)


def test_focal_loss_of_a_certain_pixel_has_a_finite_gradient():
    """1 - P is exactly 0 in float32 there, and a root of 0 has an infinite slope."""
    logits = torch.zeros(1, NUM_CLASSES, 1, 2)
    logits[0, 0] = 200.0
    logits.requires_grad_()
    loss = FocalLoss(SETS, gamma=0.5)(logits, torch.tensor([[[0, SETS.id_of(range(NUM_CLASSES))]]]))
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 0.01), (0.2, 0.01), (1e-9, 0.4), (1e-9, 1.0), (1e-9, 1e-9)])
def test_the_hard_pixels_alone_are_averaged(threshold, min_kept):
    logits, mask = case()
    rows = sorted(pixels_of(logits, mask), key=lambda row: row[1])
    hard = [row for row in rows if row[1] < threshold]
    kept = hard if len(hard) >= min_kept * len(rows) else rows[: max(1, math.ceil(min_kept * len(rows)))]
    expected = math.fsum(w * -math.log(p) for _, p, w in kept) / math.fsum(w for _, _, w in kept)
    loss = OnlineHardExampleMining(SETS, WEIGHT_TENSOR, threshold, min_kept)(logits, mask)
    assert float(loss) == pytest.approx(expected, rel=1e-10)


def test_keeping_every_pixel_is_cross_entropy():
    logits, mask = case()
    expected = LabelSetCrossEntropy(SETS, WEIGHT_TENSOR)(logits, mask)
    assert torch.allclose(OnlineHardExampleMining(SETS, WEIGHT_TENSOR, 1e-9, 1.0)(logits, mask), expected, rtol=1e-12)


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_near_a_border_is_as_pairs_of_pixels_say(radius):
    torch.manual_seed(3)
    mask = torch.randint(0, 3, (2, 9, 12)).repeat_interleave(2, 2)
    mask[0, 2:5], mask[1, :, :6] = 255, 255
    expected = torch.zeros_like(mask, dtype=torch.bool)
    for b, y, x in (mask != 255).nonzero().tolist():
        square = mask[b, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        expected[b, y, x] = bool(((square != mask[b, y, x]) & (square != 255)).any())
    assert torch.equal(near_border(mask, radius), expected) and expected.any() and not expected.all()


def test_ignored_pixels_make_no_border():
    mask = torch.full((1, 6, 6), 2)
    mask[0, 2:4, 2:4] = 255
    assert not near_border(mask, 2).any()


def test_boundary_weights_are_those_of_the_formula():
    logits, mask = case()
    near = near_border(mask, 1)
    rows = [(p, w * (1 + 3.0 * float(near[place]))) for place, p, w in pixels_of(logits, mask)]
    expected = math.fsum(w * -math.log(p) for p, w in rows) / math.fsum(w for _, w in rows)
    loss = BoundaryCrossEntropy(SETS, WEIGHT_TENSOR, strength=3.0, radius_px=1)(logits, mask)
    assert float(loss) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
@pytest.mark.parametrize("sets", [SETS, LabelSets(TAXONOMY)])
def test_a_batch_without_labels_costs_nothing(loss, sets):
    logits = torch.randn(1, NUM_CLASSES, 4, 4, requires_grad=True)
    value = loss(sets)(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
def test_gradients_are_right(loss):
    logits, mask = case()
    module = loss(SETS, WEIGHT_TENSOR)
    assert torch.autograd.gradcheck(lambda z: module(z, mask), (logits.requires_grad_(),))


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
def test_bfloat16_logits_and_extreme_ones_stay_finite(loss):
    for dtype, scale in ((torch.bfloat16, 2.0), (torch.float32, 1000.0)):
        logits, mask = case(dtype, scale)
        logits.requires_grad_()
        value = loss(SETS)(logits, mask)
        value.backward()
        assert value.dtype == torch.float32 and torch.isfinite(value) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: FocalLoss(SETS, gamma=-1), "gamma is -1"),
        (lambda: FocalLoss(SETS, gamma=math.nan), "gamma is nan"),
        (lambda: OnlineHardExampleMining(SETS, threshold=0), "threshold is 0"),
        (lambda: OnlineHardExampleMining(SETS, min_kept=2), "min_kept is 2"),
        (lambda: BoundaryCrossEntropy(SETS, strength=-1), "strength is -1"),
        (lambda: BoundaryCrossEntropy(SETS, radius_px=0), "radius_px is 0"),
        (lambda: BoundaryCrossEntropy(SETS, radius_px=True), "radius_px is True"),
        (lambda: LabelSetCrossEntropy(SETS, label_smoothing=1.0), "label_smoothing is 1.0"),
    ],
)
def test_values_that_cannot_work_are_named(make, named):
    with pytest.raises(ConfigError, match=named):
        make()
