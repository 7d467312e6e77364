"""HaloNet (arXiv 2103.12731): a ResNet-like backbone whose 3x3 convolutions are local attention.

Maps are cut into blocks; the positions of a block attend to the block and a halo around it. The attention is timm's,
and parameters carry the names of timm's `halonet_h1`.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from timm.layers import BatchNormAct2d, ClassifierHead, ConvNormAct, DropPath
from timm.layers.halo_attn import HaloAttn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from roadseg.errors import ModelError
from roadseg.models.padding import ceil_divide, crop_image, pad_image

HEAD_CHANNELS = 16
"""Query and key channels of a head; the paper's choice for every stage."""

STEM_CHANNELS = 64
STAGE_WIDTHS = (64, 128, 256, 512)
"""Channels that the blocks of a stage attend with."""


@dataclass(frozen=True)
class HaloNetSizes:
    """A row of the paper's table of models.

    Attributes:
        block_size: b, the side of a block in positions.
        halo_size: h, how far the halo reaches beyond the block, in positions.
        value_ratio: r_v, attention's output channels over the stage's width.
        output_ratio: r_b, a block's output channels over the stage's width.
        depths: blocks of the four stages.
        final_width: d_f, channels of the 1x1 convolution before the classifier, or None for no such convolution.
        image_size: s, the side of the training images in pixels.
        published_parameters: with a classifier of 1000 classes, in millions.

    Raises:
        ModelError: when no network has these sizes.
    """

    block_size: int
    halo_size: int
    value_ratio: float
    output_ratio: float
    depths: tuple[int, int, int, int]
    final_width: int | None
    image_size: int
    published_parameters: float

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.block_size < 1 or self.halo_size < 0:
            raise ModelError(
                f"block_size is {self.block_size} and halo_size {self.halo_size}; use at least 1 and at least 0"
            )
        if len(self.depths) != len(STAGE_WIDTHS) or min(self.depths) < 1:
            raise ModelError(f"depths is {self.depths}; use four numbers, each at least 1")
        for name, ratio, unit in (
            ("value_ratio", self.value_ratio, HEAD_CHANNELS),
            ("output_ratio", self.output_ratio, STAGE_WIDTHS[0]),
        ):
            if ratio <= 0 or not float(ratio * unit).is_integer():
                raise ModelError(f"{name} is {ratio}; use a multiple of 1/{unit} above 0, so that channels are whole")


HALONETS: Mapping[str, HaloNetSizes] = {
    "halonet_h0": HaloNetSizes(8, 3, 1.0, 0.5, (3, 3, 7, 3), None, 256, 5.5),
    "halonet_h1": HaloNetSizes(8, 3, 1.0, 1.0, (3, 3, 10, 3), None, 256, 8.1),
    "halonet_h2": HaloNetSizes(8, 3, 1.0, 1.25, (3, 3, 11, 3), None, 256, 9.4),
    # As its row is printed, H3 has 11.8 M parameters, not the 12.3 M beside it; with H4's d_f of 1280 it would have
    # 12.3 M. All other rows agree with their counts.
    "halonet_h3": HaloNetSizes(10, 3, 1.0, 1.5, (3, 3, 12, 3), 1024, 320, 12.3),
    "halonet_h4": HaloNetSizes(12, 2, 1.0, 3.0, (3, 3, 12, 3), 1280, 384, 19.1),
    "halonet_h5": HaloNetSizes(14, 2, 2.5, 2.0, (3, 3, 23, 3), 1536, 448, 30.7),
    "halonet_h6": HaloNetSizes(8, 4, 3.0, 2.75, (3, 3, 24, 3), 1536, 512, 43.4),
    "halonet_h7": HaloNetSizes(10, 3, 4.0, 3.5, (3, 3, 26, 3), 2048, 600, 67.0),
}
"""The paper's eight models."""


class PaddedHaloAttention(HaloAttn):
    """timm's halo attention for maps of any size.

    Zeros at the right and bottom complete the blocks. Attention has no biases, so their keys and values are zero, which
    is what timm's halo reaches over the other two edges: the padding is seen as the outside of the map is.

    timm's position table takes the strided query i of a block as if it stood at offset i, not at 2 i. It is kept: the
    table is learned, and weights trained with timm's code need it.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Attend; (B, C, H, W) to (B, dim_out, ceil(H / stride), ceil(W / stride))."""
        height, width = maps.shape[-2:]
        # Where blocks cannot be strided evenly timm pools instead, and pooling would drop the last row of an odd map.
        pooling = 2 if isinstance(self.pool, nn.AvgPool2d) else 1
        stride = pooling * self.block_stride
        attended = super().forward(pad_image(maps, self.block_size * pooling, "constant"))
        return crop_image(attended, ceil_divide(height, stride), ceil_divide(width, stride))


class HaloBlock(nn.Module):
    """A bottleneck: 1x1 convolution to `width`, halo attention, 1x1 convolution to `width` * r_b, and a shortcut.

    Args:
        in_channels: channels of the input.
        width: channels of queries and keys.
        sizes: block, halo and ratios.
        stride: 1, or 2 to attend from every other position only.
        drop_path: probability that a sample skips the block in training.
    """

    def __init__(self, in_channels: int, width: int, sizes: HaloNetSizes, stride: int, drop_path: float) -> None:
        super().__init__()
        attended, self.out_channels = int(width * sizes.value_ratio), int(width * sizes.output_ratio)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != self.out_channels:
            self.shortcut = ConvNormAct(in_channels, self.out_channels, 1, stride=stride, apply_act=False)
        self.conv1_1x1 = ConvNormAct(in_channels, width, 1)
        self.self_attn = PaddedHaloAttention(
            width,
            attended,
            stride=stride,
            num_heads=width // HEAD_CHANNELS,
            dim_head=HEAD_CHANNELS,
            block_size=sizes.block_size,
            halo_size=sizes.halo_size,
        )
        self.post_attn = BatchNormAct2d(attended)
        self.conv3_1x1 = ConvNormAct(attended, self.out_channels, 1, apply_act=False)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        residual = self.conv3_1x1(self.post_attn(self.self_attn(self.conv1_1x1(maps))))
        return F.relu(self.drop_path(residual) + self.shortcut(maps))


class HaloNet(nn.Module):
    """HaloNet (arXiv 2103.12731), as a backbone or as a classifier.

    Args:
        sizes: one of `HALONETS`, or your own.
        num_classes: of the classifier; 0 for none, then the network has nothing that no feature depends on.
        drop_path_rate: stochastic depth of the last block in training; earlier blocks have proportionally less.

    Attributes:
        out_channels: channels of the four features.
    """

    def __init__(self, sizes: HaloNetSizes, num_classes: int = 0, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.grad_checkpointing = False
        self.stem = nn.Sequential(
            OrderedDict(conv1=ConvNormAct(3, STEM_CHANNELS, 7, stride=2), pool=nn.MaxPool2d(3, 2, padding=1))
        )
        self.stages = nn.ModuleList(_stages(sizes, drop_path_rate))
        self.out_channels = [int(width * sizes.output_ratio) for width in STAGE_WIDTHS]
        channels = self.out_channels[-1]
        if num_classes:
            final_width = sizes.final_width
            self.final_conv = ConvNormAct(channels, final_width, 1) if final_width else nn.Identity()
            self.head = ClassifierHead(final_width or channels, num_classes)
        self._init_weights()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of a normalised image.

        Args:
            image: (B, 3, H, W), any H and W from 1.

        Returns:
            Four features (B, out_channels[i], ceil(H / 2**(i + 2)), ceil(W / 2**(i + 2))).
        """
        maps, features = self.stem(image), []
        for stage in self.stages:
            for block in stage.children():
                if self.grad_checkpointing and torch.is_grad_enabled():
                    maps = checkpoint(block, maps, use_reentrant=False)
                else:
                    maps = block(maps)
            features.append(maps)
        return features

    def classify(self, image: Tensor) -> Tensor:
        """Logits (B, num_classes) of a normalised image (B, 3, H, W).

        Raises:
            ModelError: when the network has no classifier.
        """
        if not self.num_classes:
            raise ModelError("this HaloNet has no classifier, as num_classes is 0; build it with num_classes=1000")
        return self.head(self.final_conv(self(image)[-1]))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the blocks' inputs for the backward pass and compute the rest again: less memory, more time.

        Batch norms see each batch twice then, and move their running means a little faster.
        """
        self.grad_checkpointing = enable

    def _init_weights(self) -> None:
        """As ResNets are; a block begins as its shortcut (arXiv 1706.02677). Attention has begun as timm lets it."""
        for module in self.modules():
            if isinstance(module, ConvNormAct):
                nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, HaloBlock):
                nn.init.zeros_(module.conv3_1x1.bn.weight)


def _stages(sizes: HaloNetSizes, drop_path_rate: float) -> list[nn.Sequential]:
    """The four stages; the first block of each but the first halves the map."""
    stages: list[nn.Sequential] = []
    channels, made, last = STEM_CHANNELS, 0, max(1, sum(sizes.depths) - 1)
    for width, depth in zip(STAGE_WIDTHS, sizes.depths, strict=True):
        blocks = []
        for index in range(depth):
            stride = 2 if stages and index == 0 else 1
            blocks.append(HaloBlock(channels, width, sizes, stride, drop_path_rate * made / last))
            channels, made = blocks[-1].out_channels, made + 1
        stages.append(nn.Sequential(*blocks))
    return stages
