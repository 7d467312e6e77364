"""The parts that Twins (arXiv 2104.13840) is made of, on channels-last maps (B, H, W, C)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.models.attention import Context, GlobalSubsampledAttention, LocallyGroupedAttention, Padding, PatchConv2d
from roadseg.models.halo import HaloAttention
from roadseg.models.padding import every_second
from roadseg.models.strips import in_strips

BLOCK_NORM_EPS = 1e-6
"""The authors' choice for the norms of blocks; those of patches keep torch's 1e-5."""

MIXING_KERNEL = 7
"""Side of the convolution that stands in attention's place: that of Twins' windows, and of ConvNeXt's blocks."""


class ConvolutionMixing(nn.Module):
    """A depthwise 7x7 convolution, GELU and a projection, in the place of local attention.

    What it lends a network that few images must teach: neighbours are near by construction, and no edge of a window is
    in the way (arXiv 2201.03545 has the kernel, arXiv 2203.04838 the order).

    Args:
        dim: channels.
    """

    row_multiple = None
    """A position sees rows above and below it, so that a map cannot be worked off in strips."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(dim, dim, MIXING_KERNEL, padding=MIXING_KERNEL // 2, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def context(self, tokens: Tensor) -> Context:
        """Nothing is shared by all positions."""
        return ()

    def forward(self, tokens: Tensor, context: Context = ()) -> Tensor:
        """Mix; (B, H, W, C) to the same shape."""
        mixed = self.mix(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.proj(F.gelu(mixed))


Attention = LocallyGroupedAttention | GlobalSubsampledAttention | HaloAttention | ConvolutionMixing


class DetailStem(nn.Module):
    """A 3x3 convolution of stride 2 with batch norm and ReLU: the feature that still shows what is two pixels wide."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, 3) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return F.relu(self.norm(self.proj(tokens.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)


class OverlappingEmbedding(nn.Module):
    """A 3x3 convolution of stride 2, normalised: patches that overlap."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.norm(self.proj(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class PatchEmbedding(nn.Module):
    """Patches of `patch_size` x `patch_size` positions to one token each, normalised."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = PatchConv2d(in_channels, dim, patch_size)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, ceil(H / patch_size), ceil(W / patch_size), dim)."""
        return self.norm(self.proj(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class AttentionDownsampling(nn.Module):
    """HaloNet's downsampling (arXiv 2103.12731): every second position attends; beside it a strided projection."""

    def __init__(
        self, in_channels: int, dim: int, num_heads: int, block_size: int, halo_size: int, padding: Padding
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels, eps=BLOCK_NORM_EPS)
        self.attn = HaloAttention(in_channels, num_heads, block_size, halo_size, padding, out_dim=dim, stride=2)
        self.proj = nn.Linear(in_channels, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.norm(self.proj(every_second(tokens)) + self.attn(self.norm1(tokens)))


class PositionalEncoding(nn.Module):
    """PEG (arXiv 2102.10882): a depthwise 3x3 convolution plus identity; its zero padding tells where the border is."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        initialise(convolution)
        self.proj = nn.Sequential(convolution)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode (B, H, W, C)."""
        return tokens + self.proj(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Mlp(nn.Module):
    """Two linear layers with GELU between them, on each token."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (..., C)."""
        hidden = self.fc1(tokens)
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # compilers decide for themselves what to keep
            return self.fc2(F.gelu(hidden))
        return _GeluLinear.apply(hidden, self.fc2.weight, self.fc2.bias)


class _GeluLinear(torch.autograd.Function):
    """GELU and the linear layer behind it.

    Both sides of GELU are the widest tensors of a block, and the backward pass needs both. The one before it is kept;
    the other is computed from it again, which costs less than taking its memory.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(F.gelu(hidden), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        to_hidden = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:  # under autocast the layer ran in another precision than its weight's
            to_hidden = torch.ops.aten.gelu_backward(grad @ weight.to(grad.dtype), hidden.to(grad.dtype))
            to_hidden = to_hidden.to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            activated = F.gelu(hidden).to(grad.dtype)
            to_weight = (flat.t() @ activated.reshape(flat.shape[0], -1)).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            to_bias = flat.sum(0).to(weight.dtype)
        return to_hidden, to_weight, to_bias


class Block(nn.Module):
    """A transformer block: attention, then an MLP, each on normalised tokens and added to them.

    Args:
        attention: one of this project's attention modules.
        dim: channels.
        hidden_dim: of the MLP.
        drop_path_rate: probability that a branch is left out for an image in training (arXiv 1603.09382).
    """

    def __init__(self, attention: Attention, dim: int, hidden_dim: int, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.attn: Attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.mlp = Mlp(dim, hidden_dim)
        self.drop_path_rate = drop_path_rate

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (B, H, W, C)."""
        normalised = self.norm1(tokens)
        scales = self._branch_scale(tokens), self._branch_scale(tokens)
        context = self.attn.context(normalised)
        if self.attn.row_multiple is None:
            return self._transform(tokens, normalised, *scales, *context)
        return in_strips(
            self._transform,
            (tokens, normalised),
            (*scales, *context),
            row_multiple=self.attn.row_multiple,
            widest_channels=self.mlp.fc1.out_features,
        )

    def _transform(
        self, tokens: Tensor, normalised: Tensor, scale: Tensor | None, mlp_scale: Tensor | None, *context: Tensor
    ) -> Tensor:
        tokens = _add(tokens, self.attn(normalised, context), scale)
        return _add(tokens, self.mlp(self.norm2(tokens)), mlp_scale)

    def _branch_scale(self, tokens: Tensor) -> Tensor | None:
        """0 where a branch is left out for an image, and what makes up for it elsewhere, (B, 1, 1, 1)."""
        if not self.training or self.drop_path_rate == 0:
            return None
        kept = 1 - self.drop_path_rate
        return tokens.new_empty(tokens.shape[0], 1, 1, 1).bernoulli_(kept).div_(kept)


def _add(tokens: Tensor, branch: Tensor, scale: Tensor | None) -> Tensor:
    return tokens + branch if scale is None else torch.addcmul(tokens, branch, scale)


def initialise(module: nn.Module) -> None:
    """The authors' initial values."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
