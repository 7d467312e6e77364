"""The loss on label sets against computations by hand in float64, and against torch's where every set is one class."""

import math

import pytest
import torch
from torch.nn import functional as F

from roadseg.label_sets import LabelSets
from roadseg.losses import LabelSetCrossEntropy, region_targets
from tests.losses.cases import NUM_CLASSES, SETS, TAXONOMY, WEIGHTS, case


def by_hand(logits, mask, weights, smoothing) -> float:
    """The docstring's formulas, pixel by pixel, in Python's own floats."""
    total, norm = 0.0, 0.0
    for b, y, x in (mask != 255).nonzero().tolist():
        row = logits[b, :, y, x].tolist()
        largest = max(row)
        log_sum = largest + math.log(sum(math.exp(v - largest) for v in row))
        members = SETS.members[int(mask[b, y, x])]
        top = max(row[c] for c in members)
        log_set = top + math.log(sum(math.exp(row[c] - top) for c in members)) - log_sum
        weight = min(weights[c] for c in members)
        uniform = sum(weights[c] * (log_sum - row[c]) for c in range(NUM_CLASSES)) / NUM_CLASSES
        total += (1 - smoothing) * weight * -log_set + smoothing * uniform
        norm += weight
    return total / norm


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_is_that_of_the_formula(weights, smoothing):
    logits, mask = case()
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = LabelSetCrossEntropy(SETS, tensor, smoothing)(logits, mask)
    assert float(loss) == pytest.approx(by_hand(logits, mask, weights or [1.0] * NUM_CLASSES, smoothing), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("with_merged_ids", [False, True])
def test_sets_of_one_class_are_plain_cross_entropy(weights, smoothing, with_merged_ids):
    """Also by the path for merged sets, which a mixture takes for all its pixels."""
    logits, mask = case()
    mask[(mask >= NUM_CLASSES) & (mask != 255)] = 2
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, mask, tensor, ignore_index=255, label_smoothing=smoothing)
    sets = SETS if with_merged_ids else LabelSets(TAXONOMY)
    loss = LabelSetCrossEntropy(sets, tensor, smoothing)(logits, mask)
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_right(smoothing):
    logits, mask = case()
    loss = LabelSetCrossEntropy(SETS, torch.tensor(WEIGHTS, dtype=torch.float64), smoothing)
    assert torch.autograd.gradcheck(lambda z: loss(z, mask), (logits.requires_grad_(),))


def test_the_members_share_the_pull_as_the_network_believes():
    """The gradient is d loss / d z_c = p_c - [c in S] p_c / P_S."""
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5], dtype=torch.float64).view(1, 5, 1, 1).requires_grad_()
    LabelSetCrossEntropy(SETS)(logits, torch.full((1, 1, 1), SETS.id_of([0, 1]))).backward()
    p = torch.softmax(logits.detach().flatten(), 0)
    expected = p - torch.tensor([1.0, 1, 0, 0, 0], dtype=torch.float64) * p / (p[0] + p[1])
    assert torch.allclose(logits.grad.flatten(), expected, atol=1e-15)


def test_a_set_of_all_classes_costs_nothing_and_teaches_nothing():
    logits = torch.randn(1, NUM_CLASSES, 3, 3, dtype=torch.float64, requires_grad=True)
    loss = LabelSetCrossEntropy(SETS)(logits, torch.full((1, 3, 3), SETS.id_of(range(NUM_CLASSES))))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-15) and logits.grad.abs().max() < 1e-15


@pytest.mark.parametrize("scale", [50.0, 1000.0])
def test_extreme_logits_stay_finite_and_right(scale):
    """Where every member's probability underflows, its logarithm does not."""
    logits, mask = case(torch.float32, scale)
    logits.requires_grad_()
    loss = LabelSetCrossEntropy(SETS)(logits, mask)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(logits.detach().double(), mask, [1.0] * NUM_CLASSES, 0.0), rel=1e-5)
    assert torch.isfinite(logits.grad).all()


def test_bfloat16_logits_are_summed_in_float32():
    logits, mask = case(torch.bfloat16)
    loss = LabelSetCrossEntropy(SETS)(logits, mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand(logits.detach().double(), mask, [1.0] * NUM_CLASSES, 0.0), rel=1e-5)


def test_channels_last_logits_and_a_strided_mask_are_read_right():
    logits, mask = case()
    expected = LabelSetCrossEntropy(SETS)(logits, mask)
    turned = mask.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    strided = logits.to(memory_format=torch.channels_last)
    assert torch.equal(LabelSetCrossEntropy(SETS)(strided, turned), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor(WEIGHTS), torch.zeros(NUM_CLASSES)])
@pytest.mark.parametrize("sets", [SETS, LabelSets(TAXONOMY)])
def test_a_batch_without_labels_costs_nothing(sets, weights, smoothing):
    logits = torch.randn(1, NUM_CLASSES, 4, 4, requires_grad=True)
    loss = LabelSetCrossEntropy(sets, weights, smoothing)(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sets", [SETS, LabelSets(TAXONOMY)])
def test_a_batch_of_classes_without_weight_costs_nothing_and_teaches_nothing(sets, smoothing):
    """The uniform part of smoothing has the other classes' weights, but nothing to be divided by."""
    weights = torch.tensor([0.0, 3.0, 1.5, 2.0, 0.25])
    logits = torch.randn(1, NUM_CLASSES, 4, 4, requires_grad=True)
    loss = LabelSetCrossEntropy(sets, weights, smoothing)(logits, torch.zeros(1, 4, 4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("smallest", [1e-30, 1e-6])
def test_a_tiny_weight_is_not_taken_for_none(smallest):
    logits, mask = case()
    weights = torch.tensor([smallest, 3.0, 1.5, 2.0, 0.25], dtype=torch.float64)
    mask = torch.where(mask == 255, 255, 0)
    expected = F.cross_entropy(logits, mask, weights, ignore_index=255, label_smoothing=0.1)
    assert float(LabelSetCrossEntropy(SETS, weights, 0.1)(logits, mask)) == pytest.approx(float(expected), rel=1e-9)


def test_ignored_pixels_get_no_gradient_even_where_logits_are_infinite():
    logits, mask = case()
    logits = logits.masked_fill((mask == 255).unsqueeze(1), 1e30).requires_grad_()
    LabelSetCrossEntropy(SETS)(logits, mask).backward()
    assert not logits.grad[(mask == 255).unsqueeze(1).expand_as(logits)].any()
    assert torch.isfinite(logits.grad).all()


def test_no_tensor_of_the_logits_size_is_kept_but_the_log_probabilities():
    mask, kept = torch.randint(0, len(SETS), (2, 64, 64)), []
    logits = torch.randn(2, NUM_CLASSES, 64, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        LabelSetCrossEntropy(SETS)(logits, mask)
    large = [t for t in kept if t.numel() >= logits.numel()]
    assert len(large) == 1 and large[0].shape == logits.shape
    assert max(t.numel() for t in kept if t is not large[0]) <= mask.numel()


def test_a_region_knows_subsets_from_overlaps():
    inside, outside = region_targets(SETS)
    pair, triple = SETS.id_of([0, 1]), SETS.id_of([1, 2, 3])
    assert inside[0, pair] and not outside[0, pair]  # a road pixel is in the region of {road, lane marking}
    assert outside[4, pair] and not inside[4, pair]
    assert not inside[pair, 1] and not outside[pair, 1]  # the merged label says nothing of one member
    assert not inside[triple, pair] and not outside[triple, pair]  # nor of a set that it only overlaps
    assert inside.diagonal().all() and torch.equal(outside, outside.T)


def test_sets_of_sizes_one_to_five_are_all_looked_up():
    """The members are looked up size by size; each size must end where it should."""
    sets = LabelSets.collect(TAXONOMY, [tuple(range(n)) for n in range(1, NUM_CLASSES + 1)])
    logits = torch.randn(1, NUM_CLASSES, 1, len(sets), dtype=torch.float64)
    losses = []
    for i, members in enumerate(sets.members):
        mask = torch.full((1, 1, len(sets)), 255)
        mask[0, 0, i] = i
        losses.append(float(LabelSetCrossEntropy(sets)(logits, mask)))
        p = torch.softmax(logits[0, :, 0, i], 0)
        assert losses[-1] == pytest.approx(-math.log(float(p[list(members)].sum())), rel=1e-9, abs=1e-12)
    assert sorted(map(len, sets.members))[-4:] == [2, 3, 4, 5]
