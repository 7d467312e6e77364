"""How large a network is and how much it computes, without computing it.

What is counted are multiply-accumulates (MACs), which papers call "FLOPs": those of convolutions, of linear layers and
of attention's products, at the sizes at which they run, padding included. Norms, activations, softmax and resizing are
not counted. Networks run on the meta device, which has shapes but neither memory nor arithmetic.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from roadseg.errors import ModelError
from roadseg.image_size import LARGEST_SIDE_PX
from roadseg.models.twins_blocks import ConvolutionMixing

ATTENTION_PRODUCTS = "attention products"
"""The part of `macs_by_part` that multiplies activations with each other; counters that see only layers miss it."""

CONVOLUTION_MIXING = "convolution mixing"
"""The part that stands in the place of attention: depthwise convolution and projection."""

_ATTENTION = r"(^|\.)(attn|self_attn)"
_PARTS = (
    # The first that is found in a module's path wins; paths are those of this project's and timm's networks.
    ("decoder", re.compile(r"^decoder(\.|$)")),
    ("subsampling", re.compile(_ATTENTION + r"\.sr(\.|$)")),
    ("attention projections", re.compile(_ATTENTION + r"\.(q|kv|qkv|proj)$")),
    # Also its terms of relative positions, which are products of queries: timm has a module for them, we have not.
    (ATTENTION_PRODUCTS, re.compile(_ATTENTION + r"(\.pos_embed)?$")),
    ("MLP", re.compile(r"(^|\.)mlp(\.|$)")),
    ("positional encoding", re.compile(r"(^|\.)(pos_block|peg)(\.|$)")),
    (
        "embedding",
        re.compile(r"^(patch_embeds?|detail|stem|conv1|conv_stem)(\.|$)|^(layers|stages)\.\d+\.downsample(\.|$)"),
    ),
    ("classifier", re.compile(r"^(head|final_conv)(\.|$)")),
)


@dataclass(frozen=True)
class PartCount:
    """What one part of a network holds and computes.

    Attributes:
        module: path of the module that it lies in, as long as the stage, for example "blocks.2".
        part: what it does there, for example "MLP".
        parameters: numbers that are learned.
        macs: multiply-accumulates for one image.
    """

    module: str
    part: str
    parameters: int
    macs: int


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns; what it shares is counted once, buffers are not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of a module for one image, in evaluation mode.

    Args:
        module: takes images (1, 3, H, W), for example a backbone, a segmenter or a classifier; on any device. All that
            it holds are parameters and buffers. It is left as it was.
        size: (H, W) of the image in pixels.

    Returns:
        The number of multiplications that are each followed by an addition, attention products among them.

    Raises:
        ModelError: when a side of `size` is below 1 or above `LARGEST_SIDE_PX`.
    """
    return sum(_macs_by_module(module, size).values())


def macs_by_part(module: nn.Module, size: tuple[int, int]) -> list[PartCount]:
    """Parameters and multiply-accumulates of a network's parts, in the order of its modules.

    Args:
        module: as for `count_macs`.
        size: (H, W) of the image in pixels.

    Returns:
        A row for each stage and each thing that it does. Together they are `count_parameters` and `count_macs`. Norms
        have rows, but no multiply-accumulates.

    Raises:
        ModelError: as for `count_macs`.
    """
    macs = _macs_by_module(module, size)
    rows: dict[tuple[str, str], list[int]] = {}
    seen: set[nn.Parameter] = set()
    # Their modules have the names of attention's, in whose place they stand.
    mixing = tuple(f"{path}." for path, child in module.named_modules() if isinstance(child, ConvolutionMixing))
    for path, child in module.named_modules():
        own = [p for p in child.parameters(recurse=False) if p not in seen]
        seen.update(own)
        counts = sum(p.numel() for p in own), macs.get(path, 0)
        if any(counts):
            stage, part = _place(path, child)
            row = rows.setdefault((stage, CONVOLUTION_MIXING if path.startswith(mixing) else part), [0, 0])
            row[:] = row[0] + counts[0], row[1] + counts[1]
    return [PartCount(*place, *counts) for place, counts in rows.items()]


def _macs_by_module(module: nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """What each module computes by itself, not through a module that it calls, by its path; the root's is ""."""
    if any(not 1 <= side <= LARGEST_SIDE_PX for side in size):
        raise ModelError(f"the image size is {size[0]}x{size[1]}; use sides from 1 to {LARGEST_SIDE_PX} px")
    # Tensors without memory stand in for the module's own.
    state: dict[str, torch.Tensor] = {name: tensor.to("meta") for name, tensor in module.named_buffers()}
    # A parameter's copy is a plain tensor, which modules that ask for their parameters by name would refuse.
    state |= {name: nn.Parameter(tensor.to("meta"), False) for name, tensor in module.named_parameters()}
    floats = (tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    image = torch.empty(1, 3, *size, device="meta", dtype=next(floats, torch.float32))
    counter = FlopCounterMode(display=False)
    # Which fused attention runs depends on the device, and whether that is counted on torch; plain products always are.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, _watched(module, counter) as flops:
        torch.func.functional_call(module, state, (image,))
    return {path: own // 2 for path, own in flops.items()}


@contextmanager
def _watched(module: nn.Module, counter: FlopCounterMode) -> Iterator[dict[str, int]]:
    """Write down by path what each module adds to the counter by itself, in evaluation mode.

    The counter's own table will not do: it sorts by path, but methods bypass the modules that they belong to.
    """
    own: dict[str, int] = {}
    calls: list[list[int]] = []  # that have begun: the count then, and how much of what followed was another module's
    handles = []

    def begin(*_: Any) -> None:
        calls.append([counter.get_total_flops(), 0])

    def end(path: str, *_: Any) -> None:
        before, inner = calls.pop()
        added = counter.get_total_flops() - before
        own[path] = own.get(path, 0) + added - inner
        if calls:
            calls[-1][1] += added

    modes = [(child, child.training) for child in module.modules()]
    try:
        for path, child in module.named_modules():
            handles += [child.register_forward_pre_hook(begin), child.register_forward_hook(partial(end, path))]
        module.eval()
        yield own
    finally:
        for child, mode in modes:
            child.training = mode
        for handle in handles:
            handle.remove()


def _place(path: str, module: nn.Module) -> tuple[str, str]:
    """The stage that a module lies in, and what it does there."""
    inside = path.removeprefix("backbone.")  # of a segmenter or a classifier
    names = inside.split(".")
    stage = ".".join(names[:2]) if len(names) > 1 and names[1].isdigit() and names[0] != "decoder" else names[0]
    return stage or type(module).__name__, _part(inside, module)


def _part(path: str, module: nn.Module) -> str:
    if isinstance(module, nn.LayerNorm | _BatchNorm) and not path.startswith("decoder"):
        return "norms"
    for part, pattern in _PARTS:
        if pattern.search(path):
            return part
    return "convolutions" if isinstance(module, nn.Conv2d) else "other"
