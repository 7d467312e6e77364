"""One batch with everything in it: every set id, overlapping sets, ignored pixels."""

import torch

from roadseg.label_sets import LabelSets
from roadseg.taxonomy import RoadClass, Taxonomy

NUM_CLASSES = 5
TAXONOMY = Taxonomy("five", 1, tuple(RoadClass(f"class_{i}", (i, 0, 0)) for i in range(NUM_CLASSES)))
MERGED = [(0, 1), (1, 2, 3), (0, 1, 2, 3, 4)]
SETS = LabelSets.collect(TAXONOMY, MERGED)
WEIGHTS = [0.5, 3.0, 1.5, 2.0, 0.25]


def case(dtype=torch.float64, scale: float = 2.0):
    """Every set id and ignored pixels, on two images of unequal sides."""
    torch.manual_seed(0)
    logits = (torch.randn(2, NUM_CLASSES, 5, 7, dtype=torch.float64) * scale).to(dtype)
    mask = torch.randint(0, len(SETS), (2, 5, 7))
    mask[0, 0], mask[1, 2:4, 3] = 255, 255
    assert set(mask.unique().tolist()) == {*range(len(SETS)), 255}
    return logits, mask
