"""From logits to masks and confidences, as ONNX nodes.

A network that gives NaN or infinity has said nothing: the mask of such an image is 255 everywhere, and its confidence
NaN. One sum shows it, of which a single such value makes NaN or infinity. The runtimes' maxima do not: OpenVINO's pass
over NaN, as do its exponentials.
"""

import numpy as np
from onnx import TensorProto

from roadseg.inference.export.nodes import Nodes, if_wanted, one_of, sides
from roadseg.taxonomy import IGNORE_INDEX


def add_outputs(
    nodes: Nodes,
    logits: str,
    image: str | None,
    want_mask: str | None = None,
    want_confidence: str | None = None,
    *,
    made_of: str | None = None,
) -> None:
    """Add the outputs `mask` and `confidence`.

    Args:
        nodes: of the graph.
        logits: (B, C, h, w) float32.
        image: (B, H, W, 3), to whose size the logits are interpolated first; None when they have it.
        want_mask: a bool; where it is false the mask is empty. None computes it always.
        want_confidence: as `want_mask`.
        made_of: (B, C, ., .) of which the logits are an enlargement, if there is such: finite only where they are.
    """
    scores = logits
    if image is not None:
        either = nodes.add("Or", want_mask, want_confidence) if want_mask and want_confidence else None
        scores = if_wanted(nodes, either, "full_size", lambda part: _full_size(part, logits, image), np.zeros([0] * 4))
    finite = _finite(nodes, made_of or logits)
    everywhere = _everywhere(nodes, finite) if want_mask else None
    nothing = np.zeros([0] * 3)
    mask = if_wanted(
        nodes, want_mask, "mask", lambda part: _mask(part, scores, finite, everywhere), nothing.astype(np.uint8)
    )
    nodes.name_value(mask, "mask")
    confidence = if_wanted(
        nodes, want_confidence, "confidence", lambda part: _confidence(part, scores, finite, everywhere), nothing
    )
    nodes.name_value(confidence, "confidence")


def _full_size(nodes: Nodes, logits: str, image: str) -> str:
    size = nodes.add("Concat", sides(nodes, logits, 0, 2), sides(nodes, image, 1, 3), axis=0)
    return nodes.add("Resize", logits, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")


def _finite(nodes: Nodes, logits: str) -> str:
    """Whether all logits of an image are finite, bool (B, 1, 1)."""
    wide = nodes.cast(logits, TensorProto.FLOAT)  # a sum of float16 is soon infinite
    total = nodes.add("ReduceSum", nodes.add("ReduceSum", wide, nodes.integers(2, 3), keepdims=0), nodes.integers(1))
    largest = nodes.constant(np.finfo(np.float32).max, np.float32)
    # NaN is not less than anything, and x - x, 0 x and IsNaN are what an optimiser for finite numbers leaves out.
    within = nodes.add("LessOrEqual", nodes.add("Abs", total), largest)
    return nodes.add("Unsqueeze", within, nodes.integers(2))


def _everywhere(nodes: Nodes, finite: str) -> str:
    """Whether all images are finite: one bool. The least of numbers: ReduceMin takes no booleans."""
    least = nodes.add("ReduceMin", nodes.cast(finite, TensorProto.INT32), keepdims=0)
    return nodes.cast(least, TensorProto.BOOL)


def _mask(nodes: Nodes, scores: str, finite: str, everywhere: str | None) -> str:
    best = nodes.add("ArgMax", scores, axis=1, keepdims=0)  # the first of equal ones, as torch's
    checked = _where(nodes, finite, best, nodes.constant(IGNORE_INDEX, np.int64), everywhere)
    return nodes.cast(checked, TensorProto.UINT8)


def _confidence(nodes: Nodes, scores: str, finite: str, everywhere: str | None) -> str:
    """The probability of the best class: 1 / sum of exp(score - best score)."""
    classes = nodes.integers(1)
    below = nodes.add("Sub", scores, nodes.add("ReduceMax", scores, classes))
    best = nodes.add("Reciprocal", nodes.add("ReduceSum", nodes.add("Exp", below), classes, keepdims=0))
    return _where(nodes, finite, best, nodes.constant(np.nan, np.float32), everywhere)


def _where(nodes: Nodes, finite: str, values: str, instead: str, everywhere: str | None) -> str:
    """Values of finite images, else something else. If there is `everywhere`, no pixel is touched where it is true."""
    if everywhere is None:
        return nodes.add("Where", finite, values, instead)
    untouched, replaced = Nodes(f"{nodes.prefix}_finite"), Nodes(f"{nodes.prefix}_not_finite")
    return one_of(
        nodes,
        everywhere,
        (untouched, untouched.add("Identity", values)),
        (replaced, replaced.add("Where", finite, values, instead)),
    )
