"""The loss against a computation by hand in float64."""

import math

import pytest
import torch

from roadseg.losses import cross_entropy


def by_hand(logits, mask, weights):
    total, norm = 0.0, 0.0
    for b in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                label = int(mask[b, y, x])
                if label == 255:
                    continue
                row = logits[b, :, y, x].tolist()
                p = math.exp(row[label]) / sum(math.exp(v) for v in row)
                total -= weights[label] * math.log(p)
                norm += weights[label]
    return total / norm


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_equals_the_formula(weighted):
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(0, 3, (2, 4, 5))
    mask[0, :2] = 255
    weights = torch.tensor([0.5, 3.0, 1.5], dtype=torch.float64) if weighted else None
    expected = by_hand(logits, mask, [0.5, 3.0, 1.5] if weighted else [1, 1, 1])
    assert float(cross_entropy(logits, mask, weights)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)])
def test_a_batch_without_labels_costs_nothing(weights):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 4, 4), 255), weights)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
