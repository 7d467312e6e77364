"""Attention against plain computations, the authors' masking, and timm's halo attention."""

import pytest
import torch
from timm.layers.halo_attn import HaloAttn
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.models import attention as attention_module
from roadseg.models import strips, windows
from roadseg.models.attention import SUBSAMPLINGS, GlobalSubsampledAttention, LocallyGroupedAttention, fold_scales
from roadseg.models.halo import HaloAttention

HEADS, DIM = 2, 8


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (N, C) to (M, C), head by head, as the textbook has it."""
    heads = []
    for q, k, v in zip(*(t.chunk(HEADS, 1) for t in (query, key, value)), strict=True):
        heads.append((q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v)
    return torch.cat(heads, 1)


def local_by_hand(attention: LocallyGroupedAttention, tokens: Tensor, *, only_inside: bool) -> Tensor:
    """Window by window, each cut out of the map."""
    size, (height, width) = attention.row_multiple, tokens.shape[1:3]
    result = torch.zeros_like(tokens)
    for y in range(0, height, size):
        for x in range(0, width, size):
            part = tokens[0, y : y + size, x : x + size]
            h, w = part.shape[:2]
            padded = part if only_inside else F.pad(part, (0, 0, 0, size - w, 0, size - h))
            q, k, v = attention.qkv(padded.flatten(0, 1)).chunk(3, 1)
            attended = attend(q, k, v).view(*padded.shape)[:h, :w]
            result[0, y : y + size, x : x + size] = attention.proj(attended)
    return result


@pytest.mark.parametrize("size", [(14, 21), (7, 10), (10, 7), (9, 10), (3, 2), (1, 1)])
@pytest.mark.parametrize("padding", ["zero", "mask"])
def test_local_attention_by_hand(padding, size):
    attention = randomised(LocallyGroupedAttention(DIM, HEADS, 7, padding))
    tokens = torch.randn(1, *size, DIM, dtype=torch.float64)
    expected = local_by_hand(attention, tokens, only_inside=padding == "mask")
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-12, atol=1e-12)


def authors_masked_attention(attention: LocallyGroupedAttention, tokens: Tensor) -> Tensor:
    """What the authors' masking computes: it marks the last `pad` rows and columns, all of them where `pad` is 0."""
    size, (height, width) = attention.row_multiple, tokens.shape[1:3]
    below, right = -height % size, -width % size
    padded = F.pad(tokens, (0, 0, 0, right, 0, below))
    marked = torch.zeros(padded.shape[1:3], dtype=torch.bool)
    marked[-below:, :] = True
    marked[:, -right:] = True
    result = torch.zeros_like(padded)
    for y in range(0, padded.shape[1], size):
        for x in range(0, padded.shape[2], size):
            q, k, v = attention.qkv(padded[0, y : y + size, x : x + size].flatten(0, 1)).chunk(3, 1)
            mark = marked[y : y + size, x : x + size].flatten()
            together = mark[:, None] == mark[None, :]
            heads = []
            for qh, kh, vh in zip(*(t.chunk(HEADS, 1) for t in (q, k, v)), strict=True):
                logits = (qh @ kh.T / qh.shape[1] ** 0.5).masked_fill(~together, -1000.0)
                heads.append(logits.softmax(1) @ vh)
            result[0, y : y + size, x : x + size] = attention.proj(torch.cat(heads, 1)).view(size, size, -1)
    return result[:, :height, :width]


def test_mask_is_right_where_the_authors_masks_nothing():
    ours = randomised(LocallyGroupedAttention(DIM, HEADS, 7, "mask"))
    zero = randomised(LocallyGroupedAttention(DIM, HEADS, 7, "zero"))
    both_sides = torch.randn(1, 9, 10, DIM, dtype=torch.float64)
    torch.testing.assert_close(ours(both_sides), authors_masked_attention(ours, both_sides), rtol=1e-10, atol=1e-10)
    one_side = torch.randn(1, 14, 10, DIM, dtype=torch.float64)
    theirs = authors_masked_attention(ours, one_side)
    torch.testing.assert_close(theirs, zero(one_side), rtol=1e-10, atol=1e-10)  # everything marked: nothing masked
    at_edge = (ours(one_side) - theirs)[0, :, 7:].abs().max()
    assert at_edge > 0.01
    torch.testing.assert_close(ours(one_side)[:, :, :7], theirs[:, :, :7], rtol=1e-10, atol=1e-10)


def summary_by_hand(attention: GlobalSubsampledAttention, kind: str, tokens: Tensor) -> Tensor:
    """Patch by patch, (patches, C)."""
    ratio, (height, width), found = attention.sr_ratio, tokens.shape[1:3], []
    for y in range(0, height, ratio):
        for x in range(0, width, ratio):
            patch = tokens[0, y : y + ratio, x : x + ratio]
            if kind == "avgpool":
                found.append(patch.mean((0, 1)))
                continue
            patch = F.pad(patch, (0, 0, 0, ratio - patch.shape[1], 0, ratio - patch.shape[0]))
            if kind == "conv":
                found.append(torch.einsum("yxc,ocyx->o", patch, attention.sr.weight) + attention.sr.bias)
            else:
                depthwise = torch.einsum("yxc,cyx->c", patch, attention.sr[0].weight[:, 0])
                found.append(attention.sr[1].weight[:, :, 0, 0] @ depthwise + attention.sr[1].bias)
    return attention.norm(torch.stack(found))


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 5), (1, 1)])
@pytest.mark.parametrize("kind", sorted(SUBSAMPLINGS))
def test_global_attention_by_hand(kind, size):
    attention = randomised(GlobalSubsampledAttention(DIM, HEADS, 4, kind))
    tokens = torch.randn(1, *size, DIM, dtype=torch.float64)
    key, value = attention.kv(summary_by_hand(attention, kind, tokens)).chunk(2, 1)
    expected = attention.proj(attend(attention.q(tokens[0].flatten(0, 1)), key, value)).view_as(tokens)
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-12, atol=1e-12)


def test_subsampling_costs_as_many_parameters_as_it_should():
    counts = {
        kind: sum(p.numel() for p in GlobalSubsampledAttention(DIM, HEADS, 4, kind).sr.parameters())
        for kind in SUBSAMPLINGS
    }
    assert counts == {"conv": DIM * DIM * 16 + DIM, "separable": DIM * 16 + DIM * DIM + DIM, "avgpool": 0}


def halo_by_hand(attention: HaloAttention, tokens: Tensor) -> Tensor:
    """Position by position: the neighbourhood is that of the position's block."""
    block, halo, stride = attention.block_size, attention.halo_size, attention.stride
    height, width = tokens.shape[1:3]
    rows = []
    for y in range(0, height, stride):
        for x in range(0, width, stride):
            top, left = y // block * block - halo, x // block * block - halo
            logits: list[Tensor] = []
            values: list[Tensor] = []
            query = attention.q(tokens[0, y, x]).chunk(HEADS)
            for v in range(top, top + block + 2 * halo):
                for u in range(left, left + block + 2 * halo):
                    inside = 0 <= v < height and 0 <= u < width
                    if not inside and attention.padding == "mask":
                        continue
                    kv = attention.kv(tokens[0, v, u]) if inside else torch.zeros(2 * DIM, dtype=torch.float64)
                    key, value = kv.chunk(2)
                    offset = block + halo - 1
                    position = attention.row_positions[v - y + offset] + attention.column_positions[u - x + offset]
                    scores = [
                        q @ k / len(q) ** 0.5 + q @ position for q, k in zip(query, key.chunk(HEADS), strict=True)
                    ]
                    logits.append(torch.stack(scores))
                    values.append(value)
            weights = torch.stack(logits).softmax(0)  # (neighbours, heads)
            stacked = torch.stack(values).view(-1, HEADS, DIM // HEADS)
            rows.append(attention.proj((weights[..., None] * stacked).sum(0).flatten()))
    return torch.stack(rows).view(1, -(-height // stride), -(-width // stride), DIM)


@pytest.mark.parametrize(("size", "stride"), [((8, 8), 1), ((6, 9), 1), ((6, 9), 2), ((3, 1), 2), ((8, 4), 2)])
@pytest.mark.parametrize("padding", ["zero", "mask"])
@torch.inference_mode()
def test_halo_attention_by_hand(padding, size, stride):
    attention = randomised(HaloAttention(DIM, HEADS, 4, 2, padding, stride=stride))
    tokens = torch.randn(1, *size, DIM, dtype=torch.float64)
    torch.testing.assert_close(attention(tokens), halo_by_hand(attention, tokens), rtol=1e-10, atol=1e-10)


@torch.inference_mode()
def test_halo_attention_equals_timms():
    theirs = randomised(HaloAttn(DIM, num_heads=HEADS, block_size=4, halo_size=2))
    ours = randomised(HaloAttention(DIM, HEADS, 4, 2))
    ours.q.weight.copy_(theirs.q.weight[:, :, 0, 0])
    # There each head has its keys, then its values; here come all keys, then all values.
    per_head = theirs.kv.weight[:, :, 0, 0].view(HEADS, 2, DIM // HEADS, DIM)
    ours.kv.weight.copy_(per_head.transpose(0, 1).reshape(2 * DIM, DIM))
    for bias in (ours.q.bias, ours.kv.bias, ours.proj.bias):
        bias.zero_()
    ours.proj.weight.copy_(torch.eye(DIM))
    for table, other in (
        (ours.row_positions, theirs.pos_embed.height_rel),
        (ours.column_positions, theirs.pos_embed.width_rel),
    ):
        # A key's place in the neighbourhood, less the query's in the block, is 2 more than their distance (the halo).
        used = torch.arange(len(table)) - (4 + 2 - 1) + 2 + (4 + 2 * 2 - 1)
        table.copy_(other[used])
    image = torch.randn(2, DIM, 8, 12, dtype=torch.float64)
    result = ours(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(result, theirs(image), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(14, 21), (9, 10), (1, 1), (7, 3)])
def test_windows_for_export_are_the_windows(size, monkeypatch):
    tokens = torch.randn(3, *size, 5)
    plain = windows.to_windows(tokens, 7)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(windows.to_windows(tokens, 7), plain)
    assert torch.equal(windows.from_windows(plain, 3, *size, 7), tokens)
    monkeypatch.undo()
    assert torch.equal(windows.from_windows(plain, 3, *size, 7), tokens)


@pytest.mark.parametrize("size", [(8, 12), (9, 10), (1, 1), (3, 7)])
def test_neighbourhoods_for_export_are_the_neighbourhoods(size, monkeypatch):
    tokens = torch.randn(3, *size, 5)
    plain = windows.to_neighbourhoods(tokens, 4, 3)
    assert plain.shape == (3 * -(-size[0] // 4) * -(-size[1] // 4), 100, 5)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(windows.to_neighbourhoods(tokens, 4, 3), plain)


@pytest.mark.parametrize("name", ["twins_svt_small", "twins_pcpvt_small"])
def test_strips_change_nothing(name, monkeypatch):
    from roadseg.models.zoo import build_backbone

    torch.manual_seed(0)
    network, image = build_backbone(name, drop_path_rate=0.3).double().train(), torch.randn(2, 3, 100, 68).double()
    outcomes, calls = [], []
    concatenate = torch.cat
    monkeypatch.setattr(torch, "cat", lambda *a, **k: calls.append(1) or concatenate(*a, **k))
    for size in (2**40, 2**10):
        monkeypatch.setattr(strips, "BYTES_PER_THREAD", size)
        calls.clear()
        torch.manual_seed(1)
        network.zero_grad()
        features = network(image)
        assert bool(calls) == (size == 2**10)
        sum(f.square().mean() for f in features).backward()
        outcomes.append([*features, *(p.grad for p in network.parameters())])
    for whole, in_strips in zip(*outcomes, strict=True):
        assert (whole - in_strips).abs().max() <= 1e-10 * whole.abs().max()


WINDOWS, SUBSAMPLED = (6, 2, 49, 49, 32), (2, 2, 200, 30, 32)
"""Batch, heads, queries, keys and channels of a head, as windows and as subsampled attention have them."""


def inputs_of_attention(shape: tuple[int, ...], *, masked: bool) -> tuple[list[Tensor], Tensor | None]:
    """Query, key and value in bfloat16, laid out as `split_heads` leaves them, and which keys are seen."""
    batch, heads, queries, keys, channels = shape
    torch.manual_seed(0)
    tensors = [
        torch.randn(batch, length, heads, channels).bfloat16().transpose(1, 2) for length in (queries, keys, keys)
    ]
    seen = torch.rand(batch, 1, 1, keys) < 0.6
    seen[..., 0] = True  # of a window something is always inside the map
    return [t.requires_grad_() for t in tensors], seen if masked else None


def outcomes(function, tensors: list[Tensor], mask: Tensor | None) -> list[Tensor]:
    """What an attention gives, and its gradients, for one random gradient of its result."""
    result = function(*tensors, mask)
    torch.manual_seed(1)
    gradient = torch.randn(result.shape).bfloat16().to(result.dtype)
    return [result, *torch.autograd.grad(result, tensors, gradient)]


def in_float64(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The textbook's attention; what is not seen is left out of the sums."""
    weights = (torch.einsum("bhnd,bhmd->bhnm", query, key) / query.shape[-1] ** 0.5).exp()
    weights = weights if mask is None else weights * mask
    return torch.einsum("bhnm,bhmd->bhnd", weights / weights.sum(-1, keepdim=True), value)


def refuse(*arguments, **options) -> None:
    raise AssertionError("torch's kernel was called")


@pytest.mark.parametrize("shape", [WINDOWS, SUBSAMPLED, (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_written_out_for_bfloat16_equals_float64_and_so_do_its_gradients(shape, masked, monkeypatch):
    tensors, mask = inputs_of_attention(shape, masked=masked)
    exact = outcomes(in_float64, [t.detach().double().requires_grad_() for t in tensors], mask)
    monkeypatch.setattr(F, "scaled_dot_product_attention", refuse)
    for ours, reference in zip(outcomes(attention_module.attend, tensors, mask), exact, strict=True):
        assert ours.dtype == torch.bfloat16
        # A handful of roundings, each of half an eps at most.
        assert (ours.double() - reference).norm() <= 2 * torch.finfo(torch.bfloat16).eps * reference.norm()


def test_keys_behind_the_mask_change_nothing_and_get_no_gradient():
    (query, key, value), mask = inputs_of_attention(WINDOWS, masked=True)
    hidden = ~mask.transpose(2, 3).expand_as(key)
    plain = outcomes(attention_module.attend, [query, key, value], mask)
    wild = [t.detach().masked_fill(hidden, 1e4).requires_grad_() for t in (key, value)]
    for here, there in zip(plain, outcomes(attention_module.attend, [query, *wild], mask), strict=True):
        assert torch.equal(here, there)
    assert all(gradient[hidden].abs().max() == 0 for gradient in plain[2:])


def test_huge_scores_neither_overflow_nor_mix():
    """One key far ahead of the others takes all the weight."""
    (query, key, value), _ = inputs_of_attention((1, 1, 4, 3, 8), masked=False)
    query = query.detach().fill_(1e4).requires_grad_()
    key = torch.tensor([-1e4, 1e4, -1e4]).bfloat16().view(1, 1, 3, 1).expand(1, 1, 3, 8)
    assert torch.equal(attention_module.attend(query, key, value), value[:, :, 1:2].expand(1, 1, 4, 8))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("dtype", "grad"), [(torch.bfloat16, False), (torch.float32, False), (torch.float32, True), (torch.float64, True)]
)
def test_elsewhere_attention_is_torchs_own(dtype, grad, masked):
    tensors, mask = inputs_of_attention(SUBSAMPLED, masked=masked)
    tensors = [t.detach().to(dtype).requires_grad_(grad) for t in tensors]
    assert torch.equal(
        attention_module.attend(*tensors, mask), F.scaled_dot_product_attention(*tensors, attn_mask=mask)
    )


def test_attention_to_many_keys_is_left_to_torchs_kernel(monkeypatch):
    tensors, _ = inputs_of_attention(SUBSAMPLED, masked=False)
    kernel, calls = F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k))
    keys = tensors[1].shape[-2]
    monkeypatch.setattr(attention_module, "_MOST_KEYS_WRITTEN_OUT", keys)
    attention_module.attend(*tensors)
    assert not calls
    monkeypatch.setattr(attention_module, "_MOST_KEYS_WRITTEN_OUT", keys - 1)
    attention_module.attend(*tensors)
    assert calls == [1]


def test_training_in_bfloat16_writes_attention_out_and_inference_does_not(monkeypatch):
    """Through autocast, as the network runs it."""
    layer = LocallyGroupedAttention(DIM, HEADS, 7, "mask")
    tokens = torch.randn(1, 9, 10, DIM)
    kernel, calls = F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k))
    with torch.autocast("cpu", torch.bfloat16):
        trained = layer(tokens)
        assert not calls
        with torch.inference_mode():
            served = layer(tokens)
    assert calls == [1]
    torch.testing.assert_close(trained.float(), served.float(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocallyGroupedAttention(24, 3, 7),
        lambda: LocallyGroupedAttention(24, 3, 7, padding="mask"),
        lambda: GlobalSubsampledAttention(24, 4, 2),
        lambda: GlobalSubsampledAttention(24, 1, 1),
    ],
)
def test_a_folded_scale_changes_nothing_also_when_it_is_folded_twice(make, monkeypatch):
    torch.manual_seed(0)
    attention, tokens = make().double().eval(), torch.randn(2, 9, 12, 24, dtype=torch.float64)
    before = attention(tokens)
    scales = []
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, scale=None: scales.append(scale) or attend(*a, scale=scale)
    )
    for _ in range(2):
        fold_scales(nn.Sequential(attention))
        assert torch.allclose(attention(tokens), before, rtol=0, atol=1e-13)
    assert scales == [1.0, 1.0]
