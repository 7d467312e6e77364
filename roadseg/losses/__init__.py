"""Losses on logits (B, C, H, W) and masks (B, H, W) of set ids.

A mask's id stands for a set S of classes, one of which the pixel has (`roadseg.label_sets`); an empty set is ignored.
What follows defines every term for such labels, overlapping ones too. With p = softmax(logits), P_S = sum over c in S
of p_c, and sets of one class each, all of it is the usual definition. A batch without a labelled pixel costs 0.

*Cross-entropy*: l = -log P_S, the negative log-likelihood of what the label says. Its gradient with regard to logit c
is p_c - [c in S] p_c / P_S: the members share the pull in the proportions that the network itself believes in.

*Class weights*: w(S) = min over c in S of w_c. Weights raise classes that are rare; a label that may mean a common
class does not say that the pixel is of a rare one. The loss of a batch is sum_i w(S_i) l_i / sum_i w(S_i).

*Label smoothing*: (1 - e) (-log P_S) + e / C sum over c of (-log p_c): the uniform part knows no sets. With class
weights the first part is weighed by w(S), the terms of the second by w_c, and the whole is divided by sum_i w(S_i),
as torch does.

*Focal loss* (arXiv 1708.02002): sum_i w(S_i) (1 - P_i)^gamma l_i / sum_i w(S_i).

*OHEM* (online hard example mining, arXiv 1604.03540, for pixels): cross-entropy over the hard pixels alone, those with
P_S below a threshold, or, where they are fewer than a part of the labelled pixels, that part with the smallest P_S.

*Boundary-weighted cross-entropy*: a pixel within `radius_px` (in each direction, so a square) of one with another
label counts 1 + strength times. Ignored pixels make no boundary.

*Region losses* compare, region by region, a prediction and a truth per pixel. Each set S that occurs in a batch has a
region, with prediction P_S. Its truth at a pixel labelled T is 1 if T is a subset of S, 0 if T and S share no class;
where they overlap without inclusion the label does not say, and the pixel is left out of this region. The loss is the
mean over the regions. So a pixel {road, lane_marking} is outside `building`, inside {road, lane_marking}, and says
nothing about `lane_marking` alone. `region_targets` gives the truths; the scores of `roadseg.metrics.regions` rest on
them too. *Dice* (arXiv 1606.04797, with the plain sum in the denominator): 1 - 2 sum P t / (sum P + sum t).
*Lovasz-softmax* (arXiv 1705.08790): the Lovasz extension of 1 - IoU at the errors |t - P|.
"""

from roadseg.losses.build import LOSSES, WeightedSum, build_loss, parse_terms
from roadseg.losses.pixels import LabelSetCrossEntropy
from roadseg.losses.sets import region_targets

__all__ = ["LOSSES", "LabelSetCrossEntropy", "WeightedSum", "build_loss", "parse_terms", "region_targets"]
