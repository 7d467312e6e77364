"""Twins (arXiv 2104.13840): PCPVT and SVT, a backbone of local and global attention, and the paper's variations of it.

Tokens are channels-last maps (B, H, W, C) from the stem to the features. Parameters carry the authors' names, which are
timm's too, so that the public weights load as they are.
"""

from dataclasses import dataclass, fields
from itertools import cycle, islice
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from roadseg.errors import ModelError
from roadseg.models.attention import (
    SUBSAMPLINGS,
    GlobalSubsampledAttention,
    LocallyGroupedAttention,
    Padding,
    Subsampling,
)
from roadseg.models.halo import HaloAttention
from roadseg.models.twins_blocks import (
    BLOCK_NORM_EPS,
    Attention,
    AttentionDownsampling,
    Block,
    ConvolutionMixing,
    DetailStem,
    OverlappingEmbedding,
    PatchEmbedding,
    PositionalEncoding,
    initialise,
)

STAGES = 4


@dataclass(frozen=True, kw_only=True)
class TwinsOptions:
    """Sizes of a Twins, and what the paper tried in its place.

    What a stage can have of its own is a tuple, one value a stage; `of` makes it from single values too.

    Attributes:
        embed_dims: channels of each stage.
        num_heads: of each stage; they divide its channels.
        depths: blocks of each stage.
        mlp_ratios: hidden channels of the MLPs, as a multiple of the stage's.
        sr_ratios: side of the patches that global attention summarises.
        pattern: kinds of attention of a stage's blocks, repeated to its depth: L for local windows (LSA), G for global
            (GSA), H for blocks with a halo, C for a depthwise convolution in attention's place. SVT is "LG", PCPVT "G".
        window_size: side of the windows and blocks.
        halo_size: width of the ring around blocks.
        padding: of windows at the edges, "zero" (of the public weights) or "mask" (never attended).
        subsampling: of global attention, "conv", "separable" or "avgpool".
        position: "peg", or "none".
        downsampling: between stages, "patch" (a strided convolution) or "attention" (HaloNet's).
        stem: "patch" embeds patches of 4 x 4 pixels; "detail" comes there by two overlapping convolutions of stride 2,
            and gives the map between them, of half as many channels as the first stage, as a feature of its own.

    Raises:
        ModelError: when an option has an unknown value, or sizes do not fit.
    """

    embed_dims: tuple[int, ...]
    num_heads: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    pattern: tuple[str, ...] = ("LG", "LG", "LG", "LG")
    window_size: tuple[int, ...] = (7, 7, 7, 7)
    halo_size: tuple[int, ...] = (3, 3, 3, 3)
    padding: Padding = "zero"
    subsampling: Subsampling = "conv"
    position: Literal["peg", "none"] = "peg"
    downsampling: Literal["patch", "attention"] = "patch"
    stem: Literal["patch", "detail"] = "patch"

    def __post_init__(self) -> None:
        """Check everything."""
        for name, least in _LEAST.items():
            _check_numbers(name, getattr(self, name), least)
        if len(self.pattern) != STAGES or any(not _is_pattern(kinds) for kinds in self.pattern):
            raise ModelError(
                f"pattern is {self.pattern}; use letters L (local), G (global), H (halo) and C (convolution), such as "
                f"'LG', or one such word for each of the {STAGES} stages"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ModelError(f"{name} is {getattr(self, name)!r}; use one of: {', '.join(choices)}")
        if self.stem == "detail" and self.embed_dims[0] < 2:
            raise ModelError("embed_dims is 1 for the first stage; a stem 'detail' has half of it: use at least 2")
        for dim, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dim % heads:
                raise ModelError(f"num_heads is {heads} for a stage of {dim} channels; use a divisor of {dim}")

    @classmethod
    def of(cls, **values: Any) -> "TwinsOptions":
        """Options from values as a configuration file holds them: lists, or one value for all stages.

        Raises:
            ModelError: as the class; also for an unknown option.
        """
        known = [field.name for field in fields(cls)]
        for name, value in values.items():
            if name not in known:
                raise ModelError(f"Twins has no option '{name}'; it has {', '.join(known)}")
            if name not in _CHOICES:
                values[name] = tuple(value) if isinstance(value, list | tuple) else (value,) * STAGES
        return cls(**values)


_LEAST = {
    "embed_dims": 1, "num_heads": 1, "depths": 1, "mlp_ratios": 0.125, "sr_ratios": 1, "window_size": 2, "halo_size": 0
}  # fmt: skip
_MOST = 16384  # far above every size that is of use; a mistyped one would end in torch's memory
_CHOICES = {
    "padding": ("zero", "mask"),
    "subsampling": tuple(SUBSAMPLINGS),
    "position": ("peg", "none"),
    "downsampling": ("patch", "attention"),
    "stem": ("patch", "detail"),
}


class Twins(nn.Module):
    """Twins-SVT, Twins-PCPVT and their variations.

    Args:
        options: what the network is.
        drop_path_rate: stochastic depth of the last block in training; earlier blocks have proportionally less.
        num_classes: outputs of the classifier; 0 for none.
    """

    def __init__(self, options: TwinsOptions, *, drop_path_rate: float = 0.0, num_classes: int = 0) -> None:
        super().__init__()
        dims, depths = options.embed_dims, options.depths
        self.detail = DetailStem(dims[0] // 2) if options.stem == "detail" else None
        self.out_channels = [dims[0] // 2, *dims] if self.detail else list(dims)
        self.num_classes = num_classes
        self.grad_checkpointing = False
        self.patch_embeds = nn.ModuleList(_embedding(options, stage) for stage in range(STAGES))
        rates = iter([drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths))])
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                Block(_attention(options, kind, stage), dim, int(dim * options.mlp_ratios[stage]), next(rates))
                for kind in islice(cycle(options.pattern[stage]), depths[stage])
            )
            for stage, dim in enumerate(dims)
        )
        encoding = PositionalEncoding if options.position == "peg" else nn.Identity
        self.pos_block = nn.ModuleList(encoding(dim) for dim in dims)
        if num_classes > 0:
            self.norm = nn.LayerNorm(dims[-1], eps=BLOCK_NORM_EPS)
            self.head = nn.Linear(dims[-1], num_classes)
        else:
            self.register_load_state_dict_pre_hook(_leave_out_classifier)
        self.apply(initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of normalised images.

        Args:
            image: (B, 3, H, W), any H and W.

        Returns:
            (B, out_channels[i], ceil(H / s), ceil(W / s)) for s = 4, 8, 16, 32, with a stem "detail" for s = 2 before
            them, channels-last in memory.
        """
        tokens, features = image.permute(0, 2, 3, 1), []
        if self.detail is not None:
            tokens = self.detail(tokens)
            features.append(tokens.permute(0, 3, 1, 2))
        for stage in range(STAGES):
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(self._stage, stage, tokens, use_reentrant=False)
            else:
                tokens = self._stage(stage, tokens)
            features.append(tokens.permute(0, 3, 1, 2))
        return features

    def classify(self, image: Tensor) -> Tensor:
        """Class logits (B, num_classes) of normalised images (B, 3, H, W), from the mean over all positions.

        Raises:
            ModelError: when the network has no classifier.
        """
        if self.num_classes == 0:
            raise ModelError("this backbone has no classifier; build it with num_classes above 0")
        tokens = self.forward(image)[-1].permute(0, 2, 3, 1)
        return self.head(self.norm(tokens).mean((1, 2)))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only what is between stages for the backward pass and compute the rest again: less memory, more time."""
        self.grad_checkpointing = enable

    def _stage(self, stage: int, tokens: Tensor) -> Tensor:
        tokens = self.patch_embeds[stage](tokens)
        for index, block in enumerate(cast(nn.ModuleList, self.blocks[stage])):
            tokens = block(tokens)
            if index == 0:
                tokens = self.pos_block[stage](tokens)
        return tokens


def _leave_out_classifier(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a backbone without classifier take the weights of one with it."""
    for key in [key for key in state_dict if key.startswith((f"{prefix}norm.", f"{prefix}head."))]:
        del state_dict[key]


def _attention(options: TwinsOptions, kind: str, stage: int) -> Attention:
    dim, heads, window = options.embed_dims[stage], options.num_heads[stage], options.window_size[stage]
    if kind == "L":
        return LocallyGroupedAttention(dim, heads, window, options.padding)
    if kind == "C":
        return ConvolutionMixing(dim)
    if kind == "H":
        return HaloAttention(dim, heads, window, options.halo_size[stage], options.padding)
    return GlobalSubsampledAttention(dim, heads, options.sr_ratios[stage], options.subsampling)


def _embedding(options: TwinsOptions, stage: int) -> nn.Module:
    dim = options.embed_dims[stage]
    if stage == 0:
        return OverlappingEmbedding(dim // 2, dim) if options.stem == "detail" else PatchEmbedding(3, dim, 4)
    before = options.embed_dims[stage - 1]
    if options.downsampling == "patch":
        return PatchEmbedding(before, dim, 2)
    block = options.window_size[stage] // 2 * 2  # every second position attends
    return AttentionDownsampling(
        before, dim, options.num_heads[stage], block, options.halo_size[stage], options.padding
    )


def _is_pattern(kinds: Any) -> bool:
    return isinstance(kinds, str) and kinds != "" and set(kinds) <= set("LGHC")


def _check_numbers(name: str, values: tuple[float, ...], least: float) -> None:
    kind = int if isinstance(least, int) else int | float
    fits = all(isinstance(v, kind) and not isinstance(v, bool) and least <= v <= _MOST for v in values)
    if len(values) != STAGES or not fits:
        what = "whole number" if kind is int else "number"
        raise ModelError(
            f"{name} is {values}; use a {what} from {least} to {_MOST}, or {STAGES} of them, one for each stage"
        )
