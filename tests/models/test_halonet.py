"""HaloNet against the paper's table, timm, and attention written position by position."""

import copy

import pytest
import timm
import torch
from timm.layers.halo_attn import HaloAttn
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import nn

from roadseg.errors import ModelError
from roadseg.models.halonet import HALONETS, HaloNet, HaloNetSizes, PaddedHaloAttention

TINY = HaloNetSizes(8, 3, 1.0, 0.5, (1, 2, 1, 1), None, 256, 0.0)


def randomised(network: nn.Module) -> nn.Module:
    """As after some training: no batch norm is what it was at first, none is zero."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.double().eval()


def counts_by_hand(sizes: HaloNetSizes, num_classes: int) -> dict[str, int]:
    """Parameters by kind of layer, from the paper's table alone."""
    counts = dict.fromkeys(
        ("stem", "convolutions", "projections", "attention", "positions", "norms", "final", "head"), 0
    )
    counts["stem"] = 7 * 7 * 3 * 64 + 2 * 64
    channels = 64
    for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), sizes.depths, strict=True)):
        values, out = width * sizes.value_ratio, width * sizes.output_ratio
        for index in range(depth):
            counts["convolutions"] += channels * width + values * out
            counts["attention"] += width * (2 * width + values)
            counts["positions"] += 2 * (2 * (sizes.block_size + 2 * sizes.halo_size) - 1) * 16
            counts["norms"] += 2 * (width + values + out)
            if channels != out or (stage > 0 and index == 0):
                counts["projections"] += channels * out + 2 * out
            channels = out
    if sizes.final_width:
        counts["final"] = channels * sizes.final_width + 2 * sizes.final_width
    counts["head"] = ((sizes.final_width or channels) + 1) * num_classes
    return {name: int(count) for name, count in counts.items()}


def kind_of(name: str) -> str:
    """The kind, as above, of a parameter."""
    for part, kind in {
        "stem.": "stem",
        "final_conv.": "final",
        "head.": "head",
        "shortcut.": "projections",
        "pos_embed.": "positions",
        "self_attn.": "attention",
        "post_attn.": "norms",
        ".bn.": "norms",
    }.items():
        if part in name:
            return kind
    return "convolutions"


@pytest.mark.parametrize("name", HALONETS)
def test_every_layer_has_the_papers_size(name):
    with torch.device("meta"):
        network = HaloNet(HALONETS[name], 1000)
    counts = dict.fromkeys(counts_by_hand(HALONETS[name], 1000), 0)
    for key, parameter in network.named_parameters():
        counts[kind_of(key)] += parameter.numel()
    assert counts == counts_by_hand(HALONETS[name], 1000)


@pytest.mark.parametrize("name", sorted(set(HALONETS) - {"halonet_h3"}))
def test_classifier_has_the_published_size(name):
    with torch.device("meta"):
        millions = sum(p.numel() for p in HaloNet(HALONETS[name], 1000).parameters()) / 1e6
    assert millions == pytest.approx(HALONETS[name].published_parameters, rel=0.007)


def test_h3_lacks_what_a_wider_final_convolution_would_bring():
    """The paper prints d_f = 1024 and 12.3 M; all other rows agree with their counts as it does with 1280."""
    sizes = HALONETS["halonet_h3"]
    counts = counts_by_hand(sizes, 1000)
    assert sum(counts.values()) == 11_821_960
    wider = (1280 - 1024) * (768 + 2 + 1000)
    assert counts["final"] + counts["head"] == 1024 * (768 + 2 + 1000) + 1000
    assert (sum(counts.values()) + wider) / 1e6 == pytest.approx(sizes.published_parameters, abs=0.05)


def test_h1_is_timms_but_for_its_heads():
    """There are 8 heads in every stage of timm's, so that tables of positions have width / 8 channels, not 16."""
    with torch.device("meta"):
        ours = {k: v.shape for k, v in HaloNet(HALONETS["halonet_h1"], 1000).state_dict().items()}
        theirs = {k: v.shape for k, v in timm.create_model("halonet_h1").state_dict().items()}
    assert ours.keys() == theirs.keys()
    different = {key for key in ours if ours[key] != theirs[key]}
    assert all("pos_embed" in key for key in different)
    more = sum(theirs[key].numel() - ours[key].numel() for key in different)
    assert more == sum(
        depth * 2 * 27 * (w // 8 - 16) for depth, w in zip((3, 3, 10, 3), (64, 128, 256, 512), strict=True)
    )


@pytest.mark.parametrize("output_ratio", [0.5, 1.0, 1.25])
def test_network_is_timms(output_ratio):
    """At what timm can express: value ratio 1, sizes that are multiples of the block at every stride."""
    depths, widths = (1, 2, 1, 1), (64, 128, 256, 512)
    blocks = tuple(
        ByoBlockCfg(
            type="self_attn",
            d=depth,
            c=int(width * output_ratio),
            s=1 if stage == 0 else 2,
            gs=0,
            br=1 / output_ratio,
            self_attn_layer="halo",
            self_attn_kwargs={"block_size": 8, "halo_size": 3, "num_heads": width // 16},
        )
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True))
    )
    config = ByoModelCfg(blocks, stem_chs=64, stem_type="7x7", stem_pool="maxpool", self_attn_layer="halo")
    theirs = randomised(ByobNet(config, num_classes=7))
    ours = HaloNet(HaloNetSizes(8, 3, 1.0, output_ratio, depths, None, 256, 0.0), 7).double().eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 256, 256, dtype=torch.float64)
    with torch.inference_mode():
        logits, features = ours.classify(image), ours(image)
        _, expected = theirs.forward_intermediates(image, indices=[1, 2, 3, 4])
        for a, b in zip(features, expected, strict=True):
            assert (a - b).abs().max() <= 1e-10 * b.abs().max()
        assert torch.allclose(logits, theirs(image), rtol=1e-10, atol=1e-10)


def attend_by_hand(attention: HaloAttn, maps: torch.Tensor) -> torch.Tensor:
    """Halo attention, one query after the other: what lies outside of the map has zero keys and values."""
    heads, dim, values = attention.num_heads, attention.dim_head_qk, attention.dim_head_v
    block, halo, stride = attention.block_size, attention.halo_size, attention.block_stride
    height, width = maps.shape[-2:]
    query = torch.einsum("oc,chw->ohw", attention.q.weight[..., 0, 0], maps).view(heads, dim, height, width)
    both = torch.einsum("oc,chw->ohw", attention.kv.weight[..., 0, 0], maps).view(heads, dim + values, height, width)
    side = block + 2 * halo
    out = maps.new_zeros(heads, values, -(-height // stride), -(-width // stride))
    for y in range(0, height, stride):
        for x in range(0, width, stride):
            top, left = y // block * block - halo, x // block * block - halo
            around = maps.new_zeros(heads, dim + values, side, side)
            for i in range(max(0, -top), min(side, height - top)):
                for j in range(max(0, -left), min(side, width - left)):
                    around[:, :, i, j] = both[:, :, top + i, left + j]
            q = query[:, :, y, x]
            row, column = y % block // stride, x % block // stride  # timm's offsets of strided queries
            down = q @ attention.pos_embed.height_rel[side - 1 - row : 2 * side - 1 - row].T
            right = q @ attention.pos_embed.width_rel[side - 1 - column : 2 * side - 1 - column].T
            logits = torch.einsum("hc,hcij->hij", q, around[:, :dim]) * dim**-0.5 + down[:, :, None] + right[:, None]
            weights = logits.flatten(1).softmax(-1).view_as(logits)
            out[:, :, y // stride, x // stride] = torch.einsum("hij,hcij->hc", weights, around[:, dim:])
    return out.flatten(0, 1)


@pytest.mark.parametrize("size", [(8, 12), (5, 11), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_attention_is_the_definition_at_any_size(stride, size):
    torch.manual_seed(0)
    attention = PaddedHaloAttention(8, 20, stride=stride, num_heads=2, dim_head=4, block_size=4, halo_size=1).double()
    maps = torch.randn(2, 8, *size, dtype=torch.float64)
    with torch.no_grad():
        attended = attention(maps)
        for a, b in zip(attended, maps, strict=True):
            assert torch.allclose(a, attend_by_hand(attention, b), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("block_size", "stride"), [(4, 1), (4, 2), (3, 1), (3, 2)])
def test_attention_is_timms_where_blocks_fit(block_size, stride):
    torch.manual_seed(0)
    options = {"num_heads": 2, "dim_head": 4, "block_size": block_size, "halo_size": 1, "stride": stride}
    ours, theirs = PaddedHaloAttention(8, **options), HaloAttn(8, **options)
    ours.load_state_dict(theirs.state_dict())
    maps = torch.randn(1, 8, 2 * block_size, 4 * block_size)
    assert torch.equal(ours(maps), theirs(maps))


def test_odd_blocks_keep_the_last_row():
    attention = PaddedHaloAttention(8, stride=2, num_heads=2, block_size=3, halo_size=1)
    assert attention(torch.zeros(1, 8, 3, 7)).shape == (1, 8, 2, 4)


@pytest.mark.parametrize("name", HALONETS)
@pytest.mark.parametrize("size", [(1, 1), (37, 70), (128, 64)])
def test_features_round_up(name, size):
    with torch.device("meta"):
        network = HaloNet(HALONETS[name])
        shapes = [tuple(f.shape) for f in network(torch.empty(2, 3, *size))]
    sides = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert shapes == [(2, c, *s) for c, s in zip(network.out_channels, sides, strict=True)]


def test_gradients_reach_every_parameter_with_and_without_checkpoints():
    network, image = randomised(HaloNet(TINY, drop_path_rate=0.0)).train(), torch.randn(2, 3, 70, 50).double()
    again = copy.deepcopy(network)
    again.set_grad_checkpointing()
    for n in (network, again):
        sum(feature.square().mean() for feature in n(image)).backward()
    for (name, a), b in zip(network.named_parameters(), again.parameters(), strict=True):
        assert a.grad is not None and a.grad.abs().max() > 0, name
        assert torch.allclose(a.grad, b.grad, rtol=1e-10), name


def test_network_made_on_the_meta_device_takes_weights():
    network = randomised(HaloNet(TINY))
    with torch.device("meta"):
        empty = HaloNet(TINY)
    empty.load_state_dict(network.state_dict(), assign=True)
    image = torch.randn(1, 3, 40, 33, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(empty.eval()(image), network(image), strict=True))


def test_bfloat16_is_close_to_float64():
    network, image = randomised(HaloNet(TINY)), torch.randn(1, 3, 64, 48, dtype=torch.float64)
    expected = network(image)
    for a, b in zip(network.bfloat16()(image.bfloat16()), expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a - b).abs().max() <= 0.05 * b.abs().max()


def test_stochastic_depth_grows_linearly():
    rates = [
        getattr(b.drop_path, "drop_prob", 0.0) for stage in HaloNet(TINY, drop_path_rate=0.4).stages for b in stage
    ]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_backbone_cannot_classify():
    with pytest.raises(ModelError, match="num_classes is 0; build it with num_classes=1000"):
        HaloNet(TINY).classify(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_size": 0}, "block_size is 0"),
        ({"depths": (1, 2, 3)}, r"depths is \(1, 2, 3\); use four"),
        ({"value_ratio": 1.03}, "value_ratio is 1.03; use a multiple of 1/16"),
        ({"output_ratio": 0.0}, "output_ratio is 0.0; use a multiple of 1/64"),
    ],
)
def test_impossible_sizes_are_named(change, message):
    with pytest.raises(ModelError, match=message):
        HaloNetSizes(
            **(
                {
                    "block_size": 8,
                    "halo_size": 3,
                    "value_ratio": 1.0,
                    "output_ratio": 1.0,
                    "depths": (1, 1, 1, 1),
                    "final_width": None,
                    "image_size": 256,
                    "published_parameters": 8.1,
                }
                | change
            )
        )
