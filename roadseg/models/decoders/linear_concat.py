"""The light decoder of the Meituan map team (2022): project each scale, resize, concatenate, fuse, classify.

It is computed in folded form. Bilinear resizing and 1x1 convolutions commute (one mixes positions with weights that sum
to one, the other channels), and a 1x1 convolution over a concatenation is a sum of 1x1 convolutions:

    fuse(concat_i(resize(P_i f_i + p_i))) = sum_i resize((W_i P_i) f_i) + sum_i W_i p_i

with W_i the columns of `fuse` that belong to scale i. So each scale is projected once, at its own resolution, and only
the sum has full size: the same function and the same gradients for a fraction of the work and memory.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.errors import ModelError

Fuse = Literal["norm_relu", "linear"]
Resize = Literal["direct", "stepwise"]

FINEST_STRIDES = {4: 4, 5: 2}
"""Stride of the first of so many features."""


class LinearConcatDecoder(nn.Module):
    """Project each scale to `width`, resize to the finest, concatenate, fuse to `width`, drop out, classify.

    Args:
        in_channels: channels of the features, finest first.
        num_classes: classes of the logits.
        width: channels of each projection and of the fused map.
        fuse: "norm_relu" follows the fusing 1x1 convolution with batch norm and ReLU; "linear" leaves them out, which
            is the article's figure taken literally.
        dropout: probability that a channel of the fused map is dropped in training.
        resize: "direct" resizes each scale to the finest at once; "stepwise" adds the coarsest to the next one, and so
            on, which passes over large maps once, not once a scale. Both are bilinear; their maps differ a little.

    Attributes:
        stride: of the logits, which is the finest feature's.

    Raises:
        ModelError: when `fuse`, `resize`, `width` or `dropout` is out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        width: int = 256,
        fuse: Fuse = "norm_relu",
        dropout: float = 0.1,
        resize: Resize = "direct",
    ) -> None:
        super().__init__()
        _check_options(width, fuse, dropout, resize)
        if len(in_channels) not in FINEST_STRIDES:
            raise ModelError(
                f"linear_concat was given {len(in_channels)} features; it takes those of strides 4 or 2 to 32"
            )
        self.stride = FINEST_STRIDES[len(in_channels)]
        self.resize = resize
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels)
        # Batch norm has a bias of its own.
        self.fuse = nn.Conv2d(width * len(in_channels), width, 1, bias=fuse == "linear")
        self.norm = nn.BatchNorm2d(width) if fuse == "norm_relu" else None
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, H / stride, W / stride) from features at strides 4, 8, 16, 32, or 2 to 32."""
        kernels, bias = self._folded()
        fused = (_stepwise if self.resize == "stepwise" else _direct)(features, kernels, bias)
        if self.norm is not None:
            # In evaluation batch norm is a fixed scale and offset a channel, and part of the kernels.
            fused = F.relu_(self.norm(fused) if self.training else fused)
        return self.head(self.dropout(fused))

    def _folded(self) -> tuple[list[Tensor], Tensor]:
        """The kernels W_i P_i (width, channels of scale i, 1, 1), and the bias sum_i W_i p_i (width,)."""
        fuse, bias = self.fuse.weight.flatten(1), self.fuse.weight.new_zeros(self.fuse.out_channels)
        if self.fuse.bias is not None:
            bias = self.fuse.bias
        if self.norm is not None and not self.training:
            mean, variance = self.norm.get_buffer("running_mean"), self.norm.get_buffer("running_var")
            scale = self.norm.weight * (variance + self.norm.eps).rsqrt()
            fuse, bias = scale[:, None] * fuse, self.norm.bias - scale * mean
        kernels = []
        for projection, columns in zip(self.projections, fuse.chunk(len(self.projections), dim=1), strict=True):
            weight, offset = projection.get_parameter("weight"), projection.get_parameter("bias")
            kernels.append((columns @ weight.flatten(1))[:, :, None, None])
            bias = bias + columns @ offset
        return kernels, bias


def _direct(features: Sequence[Tensor], kernels: Sequence[Tensor], bias: Tensor) -> Tensor:
    fused = F.conv2d(features[0], kernels[0], bias)  # the finest scale has the size already
    for feature, kernel in zip(features[1:], kernels[1:], strict=True):
        fused += F.interpolate(F.conv2d(feature, kernel), fused.shape[-2:], mode="bilinear")
    return fused


def _stepwise(features: Sequence[Tensor], kernels: Sequence[Tensor], bias: Tensor) -> Tensor:
    fused = F.conv2d(features[-1], kernels[-1], bias)
    for feature, kernel in zip(features[-2::-1], kernels[-2::-1], strict=True):
        projected = F.conv2d(feature, kernel)
        fused = projected + F.interpolate(fused, projected.shape[-2:], mode="bilinear")
    return fused


def _check_options(width: int, fuse: str, dropout: float, resize: str) -> None:
    if fuse not in ("norm_relu", "linear"):
        raise ModelError(f"fuse is '{fuse}'; linear_concat knows 'norm_relu' and 'linear'")
    if resize not in ("direct", "stepwise"):
        raise ModelError(f"resize is '{resize}'; linear_concat knows 'direct' and 'stepwise'")
    if width < 1:
        raise ModelError(f"width is {width}; the decoder needs at least 1 channel")
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout is {dropout}; use a value from 0 up to, but not, 1")
