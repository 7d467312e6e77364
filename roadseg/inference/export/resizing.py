"""Bringing images to the size at which the network sees them, as ONNX nodes.

The runtimes' own antialiased resizing is not used: ONNX Runtime's differs from torch's by up to 11 grey levels, and
OpenVINO ignores the wish. A resampling along one side is a product with a banded matrix of weights, here those of
the triangle filter (`torch.nn.functional.interpolate(mode="bilinear", antialias=True)`), which every runtime computes
alike. Where an image is enlarged, the same filter is bilinear interpolation with clamped edges.
"""

import numpy as np
import onnx

from roadseg.inference.export.nodes import Nodes, one_of, sides
from roadseg.inference.scale import MAX_ASPECT

_BLOCK = 32
"""Samples that are made together, at most."""

_FLOAT, _DOUBLE, _INT32, _INT64 = (getattr(onnx.TensorProto, k) for k in ("FLOAT", "DOUBLE", "INT32", "INT64"))


def add_image(nodes: Nodes, image: str, size: str | None, *, compare: bool) -> str:
    """Add what the network sees.

    Args:
        nodes: of the graph.
        image: (B, H, W, 3) uint8.
        size: int64 (h, w) of what the network sees; None takes images as they are.
        compare: whether to compare the sizes in the graph and leave out products that would change nothing.

    Returns:
        (B, 3, h, w) float32 in 0..255.
    """
    if size is None:
        return _as_it_is(nodes, image)
    if not compare:
        return _resampled(nodes, image, size)
    same = nodes.add("Equal", sides(nodes, image, 1, 3), size)
    # The least of the two comparisons: ReduceMin takes no booleans.
    all_same = nodes.add("ReduceMin", nodes.cast(same, _INT32), keepdims=0)
    unchanged, changed = Nodes(f"{nodes.prefix}_unchanged"), Nodes(f"{nodes.prefix}_changed")
    return one_of(
        nodes,
        nodes.cast(all_same, onnx.TensorProto.BOOL),
        (unchanged, _as_it_is(unchanged, image)),
        (changed, _resampled(changed, image, size)),
    )


def add_working_size(nodes: Nodes, image: str, wish: str, short_side_px: int) -> str:
    """Add the rule of `roadseg.inference.scale.working_size`, in doubles as there.

    Args:
        nodes: of the graph.
        image: (B, H, W, 3).
        wish: int64 (h, w), or (0, 0) for the rule.
        short_side_px: of the model.

    Returns:
        int64 (h, w).
    """
    size = sides(nodes, image, 1, 3)
    shortest, longest = (
        nodes.cast(nodes.add(operator, size, keepdims=0), _DOUBLE) for operator in ("ReduceMin", "ReduceMax")
    )
    one = nodes.constant(1, np.float64)
    to_short_side = nodes.add("Div", nodes.constant(short_side_px, np.float64), shortest)
    to_long_side = nodes.add("Div", nodes.constant(MAX_ASPECT * short_side_px, np.float64), longest)
    scale = nodes.add("Min", to_short_side, nodes.add("Max", one, to_long_side))
    scaled = nodes.add("Round", nodes.add("Mul", nodes.cast(size, _DOUBLE), scale))  # half to even, as Python's
    ruled = nodes.add("Max", nodes.cast(scaled, _INT64), nodes.integers(1, 1))
    return nodes.add("Where", nodes.add("Greater", wish, nodes.integers(0, 0)), wish, ruled)


def _as_it_is(nodes: Nodes, image: str) -> str:
    return nodes.cast(nodes.add("Transpose", image, perm=[0, 3, 1, 2]), _FLOAT)


def _resampled(nodes: Nodes, image: str, size: str) -> str:
    """Rows first, as bytes with the colours still beside each other: large products, and less is left to transpose."""
    height, width = (nodes.add("Gather", size, nodes.integers(side)) for side in (0, 1))
    tall = nodes.add("Reshape", image, nodes.integers(0, 0, -1))
    rows = _resampled_rows(nodes, tall, height, sides(nodes, image, 1, 2))
    turned = nodes.add("Transpose", nodes.add("Reshape", rows, nodes.integers(0, 0, -1, 3)), perm=[0, 2, 1, 3])
    wide = nodes.add("Reshape", turned, nodes.integers(0, 0, -1))
    columns = _resampled_rows(nodes, wide, width, sides(nodes, image, 2, 3))
    colours = nodes.add("Transpose", nodes.add("Reshape", columns, nodes.integers(0, 0, -1, 3)), perm=[0, 3, 2, 1])
    return nodes.add("Slice", colours, nodes.integers(0, 0), size, nodes.integers(2, 3))


def _resampled_rows(nodes: Nodes, rows: str, out: str, length: str) -> str:
    """The triangle filter along the first side.

    Sample i of n' lies (i + 1/2) n / n' along n samples, and the triangle reaches s = max(n / n', 1) to both sides.
    Times 2 n', all of that is whole: the weight of sample j is max(0, 2 max(n, n') - |(2 i + 1) n - (2 j + 1) n'|),
    exactly, until they are divided by their sum. No number reaches 2 n n': in 32 bits, which is what OpenVINO makes of
    64, they are right for all sides up to 32768, and wherever n n' <= 2^30.

    A sample is made of few others that lie together. So blocks of samples are products with the rows that they lie in,
    and not all are with all rows: at Full HD a tenth of the work.

    Args:
        nodes: of the graph.
        rows: (B, n, m), bytes or float32.
        out: n', int64 (1,).
        length: n, int64 (1,).

    Returns:
        (B, n' or a few more, m) float32; what is after the first n' has no meaning.
    """
    one, two = nodes.integers(1), nodes.integers(2)
    blocks = _divided_up(nodes, out, nodes.integers(_BLOCK))
    block = _divided_up(nodes, out, blocks)
    reach = nodes.add("Mul", nodes.add("Max", length, out), two)
    # Of the centres of a block the last is (block - 1) n / n' behind the first.
    apart = nodes.add("Mul", nodes.add("Sub", block, one), length)
    span = nodes.add("Add", nodes.add("Div", nodes.add("Add", apart, reach), out), two)
    taken = nodes.add("Min", span, length)
    first = nodes.add("Mul", _range(nodes, blocks), block)
    # At or before the first row of any weight: no row before it is nearer than the reach.
    before = nodes.add("Sub", nodes.add("Mul", _odd(nodes, first), length), nodes.add("Add", reach, out))
    start = nodes.add("Div", nodes.add("Max", before, nodes.integers(0)), nodes.add("Mul", out, two))
    start = nodes.add("Min", start, nodes.add("Sub", length, taken))
    index = _grid(nodes, start, taken)
    samples = nodes.add("Min", _grid(nodes, first, block), nodes.add("Sub", out, one))
    weights = _weights(nodes, samples, index, out, length, reach)
    parts = nodes.cast(nodes.add("Gather", rows, index, axis=1), _FLOAT)
    product = nodes.add("MatMul", weights, parts)  # (B, blocks, b, m)
    shape = nodes.add("Concat", sides(nodes, rows, 0, 1), nodes.integers(-1), sides(nodes, rows, 2, 3), axis=0)
    return nodes.add("Reshape", product, shape)


def _weights(nodes: Nodes, samples: str, rows: str, out: str, length: str, reach: str) -> str:
    """(blocks, b, r) float32 of samples i, int64 (blocks, b), and rows j, int64 (blocks, r)."""
    last, before_last = nodes.integers(2), nodes.integers(1)
    centres = nodes.add("Unsqueeze", nodes.add("Mul", _odd(nodes, samples), length), last)
    places = nodes.add("Unsqueeze", nodes.add("Mul", _odd(nodes, rows), out), before_last)
    apart = nodes.add("Abs", nodes.add("Sub", centres, places))
    weights = nodes.cast(nodes.add("Max", nodes.add("Sub", reach, apart), nodes.integers(0)), _FLOAT)
    return nodes.add("Div", weights, nodes.add("ReduceSum", weights, last))


def _divided_up(nodes: Nodes, value: str, by: str) -> str:
    """A quotient of whole numbers above zero, rounded up."""
    return nodes.add("Div", nodes.add("Sub", nodes.add("Add", value, by), nodes.integers(1)), by)


def _odd(nodes: Nodes, values: str) -> str:
    return nodes.add("Add", nodes.add("Mul", values, nodes.integers(2)), nodes.integers(1))


def _grid(nodes: Nodes, starts: str, count: str) -> str:
    """(k, count): so many numbers from each of the starts (k,) on."""
    return nodes.add("Add", nodes.add("Unsqueeze", starts, nodes.integers(1)), _range(nodes, count))


def _range(nodes: Nodes, count: str) -> str:
    """0, 1, 2, ... as int64, as many as the int64 (1,) says."""
    return nodes.add("Range", *(nodes.constant(0, np.int64), nodes.add("Squeeze", count), nodes.constant(1, np.int64)))
