"""Backbones from timm against timm's own, and Swin's windows against attention over the whole map."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from roadseg.errors import ModelError
from roadseg.models.swin_peg import SwinBlock
from roadseg.models.timm_backbone import TimmBackbone, timm_shapes

SWIN = "swin_tiny_patch4_window7_224"
SMALLEST = {  # of each family, and a size that timm takes as it is
    "resnet18": (64, 96),
    "pvt_v2_b0": (64, 96),
    SWIN: (224, 224),
    "halonet26t": (256, 256),
    "convnext_tiny": (64, 96),
    "mobilenetv2_100": (64, 96),
    "mobilenetv3_large_100": (64, 96),
    "mobilenetv4_conv_small": (64, 96),
}
OTHERS = [
    *("resnet34", "resnet50", "resnet101", "pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b2_li", "pvt_v2_b3", "pvt_v2_b4"),
    *("pvt_v2_b5", "swin_small_patch4_window7_224", "swin_base_patch4_window7_224", "halonet50ts", "halonet_h1"),
    *("sehalonet33ts", "convnext_small", "convnext_base", "mobilenetv4_conv_medium"),
]
DILATABLE = [
    "resnet18",
    "resnet50",
    "convnext_tiny",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
]
CHOICES = [*((name, {}) for name in SMALLEST), (SWIN, {"position": "peg"}), ("resnet18", {"output_stride": 16})]


def random_weights(name: str) -> dict[str, torch.Tensor]:
    """A state dict of timm's full network in which nothing has its initial value."""
    torch.manual_seed(0)
    weights = timm.create_model(name).state_dict()
    for key, tensor in weights.items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            tensor.add_(0.02 * torch.randn_like(tensor))
    return weights


def timms_features(name: str, weights: dict[str, torch.Tensor], **options: object) -> nn.Module:
    """The feature extractor of timm, which writes some dots of the names as underscores."""
    theirs = timm.create_model(name, features_only=True, **options).double().eval()
    by_name = {key.replace(".", "_"): tensor for key, tensor in weights.items()}
    theirs.load_state_dict({key: by_name[key.replace(".", "_")] for key in theirs.state_dict()})
    return theirs


def assert_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        b = b if a.shape == b.shape else b.permute(0, 3, 1, 2)
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-10 * b.abs().max()


def loaded(name: str, weights: dict[str, torch.Tensor], **options: object) -> TimmBackbone:
    """The backbone with the weights of timm's whole network that it has a place for."""
    backbone = TimmBackbone(name, **options)
    backbone.load_state_dict({key: weights[key] for key in backbone.state_dict()})
    return backbone


@pytest.mark.parametrize("name", SMALLEST)
def test_features_are_timms(name):
    weights = random_weights(name)
    ours = loaded(name, weights).double().eval()
    image = torch.randn(1, 3, *SMALLEST[name], dtype=torch.float64)
    with torch.inference_mode():
        assert_close(ours(image), timms_features(name, weights)(image)[-4:])


@pytest.mark.parametrize("name", DILATABLE)
def test_dilated_features_are_timms(name):
    weights = random_weights(name)
    ours = loaded(name, weights, output_stride=16).double().eval()
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        assert_close(ours(image), timms_features(name, weights, output_stride=16)(image)[-4:])
        assert ours(image)[-1].shape[-2:] == (4, 6)
        assert ours(image[..., :33, :47])[-1].shape[-2:] == (3, 3)


def test_swin_shifts_on_the_axes_that_have_several_windows():
    """Made for 224x448, timm shifts the last stage, of 7x14 positions, to the right and not down."""
    weights = random_weights(SWIN)
    image = torch.randn(1, 3, 224, 448, dtype=torch.float64)
    with torch.inference_mode():
        ours = loaded(SWIN, weights).double().eval()(image)
        assert_close(ours, timms_features(SWIN, weights, img_size=(224, 448))(image))


@pytest.mark.parametrize(("name", "options"), CHOICES)
def test_keys_are_those_of_timms_whole_network_less_what_no_feature_passes_through(name, options):
    with torch.device("meta"):
        ours, theirs = TimmBackbone(name, **options).state_dict(), timm.create_model(name).state_dict()
    assert all(tensor.shape == theirs[key].shape for key, tensor in ours.items() if ".peg." not in key)
    unused = ("fc.", "classifier.", "norm.", "head.", "conv_head.", "norm_head.", "bn2.")
    left_out = {key for key in theirs if key not in ours}
    assert left_out and all(key.startswith(unused) or (options and "relative" in key) for key in left_out)


def test_resnet_has_the_keys_of_timms_feature_extractor():
    with torch.device("meta"):
        ours = TimmBackbone("resnet50").state_dict()
        theirs = timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4)).state_dict()
    assert list(ours) == list(theirs) and "layer1.0.conv1.weight" in ours


@pytest.mark.parametrize("name", [*SMALLEST, *OTHERS])
def test_features_round_up_at_any_size(name):
    with torch.device("meta"):
        network = TimmBackbone(name)
        assert set(network.state_dict()) < set(timm_shapes(name))
        for size in ((1, 1), (37, 70)):
            sides = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
            features = network(torch.empty(2, 3, *size))
            assert [tuple(f.shape) for f in features] == [
                (2, c, *s) for c, s in zip(network.out_channels, sides, strict=True)
            ]


@pytest.mark.parametrize("name", SMALLEST)
def test_edges_are_continued_not_dropped(name):
    """At other sizes: the features of the image with its last row and column repeated, cut."""
    network = TimmBackbone(name).double().eval()
    image = torch.randn(1, 3, 37, 35, dtype=torch.float64)
    with torch.inference_mode():
        whole = network(image[:, :, [*range(37), *[36] * 27]][..., [*range(35), *[34] * 29]])
        for a, b in zip(network(image), whole, strict=True):
            assert torch.equal(a, b[..., : a.shape[-2], : a.shape[-1]])


@pytest.mark.parametrize(("name", "options"), CHOICES)
def test_gradients_reach_every_parameter_with_and_without_checkpoints(name, options):
    torch.manual_seed(0)
    network = TimmBackbone(name, **options).train()
    again = copy.deepcopy(network)
    again.set_grad_checkpointing()
    image = torch.randn(2, 3, 40, 70)
    for n in (network, again):
        sum(feature.square().mean() for feature in n(image)).backward()
    for (key, a), b in zip(network.named_parameters(), again.parameters(), strict=True):
        assert a.grad is not None and a.grad.isfinite().all(), key
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("name", ["resnet18", SWIN, "pvt_v2_b0", "convnext_tiny"])
def test_checkpoints_keep_less_for_the_backward_pass(name):
    network, counts = TimmBackbone(name).train(), []
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        seen: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=seen: s.append(t.numel()) or t, lambda t: t):
            network(torch.randn(2, 3, 32, 64))
        counts.append(sum(seen))
    assert counts[1] < 0.7 * counts[0]


@pytest.mark.parametrize(("name", "options"), CHOICES)
def test_network_made_on_the_meta_device_takes_weights(name, options):
    network = TimmBackbone(name, **options).eval()
    with torch.device("meta"):
        empty = TimmBackbone(name, **options).eval()
    empty.load_state_dict(network.state_dict(), assign=True)
    image = torch.randn(1, 3, 40, 70)
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(empty(image), network(image), strict=True))


@pytest.mark.parametrize("name", SMALLEST)
def test_bfloat16_is_close_to_float32(name):
    torch.manual_seed(0)
    network, image = TimmBackbone(name).eval(), torch.randn(1, 3, 40, 70)
    with torch.inference_mode():
        expected = network(image)
        for a, b in zip(network.bfloat16()(image.bfloat16()), expected, strict=True):
            assert a.dtype == torch.bfloat16
            assert (a - b).abs().max() <= 0.1 * b.abs().max()  # 8 bits, over up to 50 layers


def small_block(position: str, shifted: bool, peg: bool = False) -> SwinBlock:
    """A block of 8 channels with windows of 3x3."""
    torch.manual_seed(0)
    timms = timm.models.swin_transformer.SwinTransformerBlock(8, (12, 12), num_heads=2, window_size=3)
    nn.init.normal_(timms.attn.relative_position_bias_table)
    return SwinBlock(timms, shifted, position, peg).double()


def attend_by_hand(block: SwinBlock, tokens: torch.Tensor) -> torch.Tensor:
    """Window attention as attention over the whole padded map, each position masked to those of its window."""
    (height, width), size = tokens.shape[1:3], 3
    padded = F.pad(tokens, (0, 0, 0, -width % size, 0, -height % size))
    places = [(y, x) for y in range(padded.shape[1]) for x in range(padded.shape[2])]

    def window(place):  # windows that begin half a window earlier, where windows are shifted
        return tuple(
            (p + size - size // 2 if block.shifted and side > size else p) // size
            for p, side in zip(place, (height, width), strict=True)
        )

    mask = torch.full((2, len(places), len(places)), -torch.inf, dtype=torch.float64)
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            if window(a) == window(b):
                table = block.attn.relative_position_bias_table
                offset = (a[0] - b[0] + size - 1) * (2 * size - 1) + a[1] - b[1] + size - 1
                mask[:, i, j] = 0 if table is None else table[offset]
    query, key, value = block.attn.qkv(padded.flatten(1, 2)).view(1, -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) / 4**0.5 + mask).softmax(-1)
    out = block.attn.proj((weights @ value).transpose(1, 2).reshape(1, len(places), 8))
    return out.view(padded.shape)[:, :height, :width]


@pytest.mark.parametrize("size", [(7, 5), (6, 9), (2, 7), (1, 1)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("position", ["relative_bias", "peg"])
def test_windows_are_the_definition_at_any_size(position, shifted, size):
    block = small_block(position, shifted)
    tokens = torch.randn(2, *size, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.cat([attend_by_hand(block, one[None]) for one in tokens])
        assert torch.allclose(block._attend(tokens), expected, rtol=1e-10, atol=1e-12)


def test_peg_replaces_the_relative_biases():
    with torch.device("meta"):
        biased, peg = TimmBackbone(SWIN), TimmBackbone(SWIN, position="peg")
    assert not [key for key in peg.state_dict() if "relative" in key]
    new = set(peg.state_dict()) - set(biased.state_dict())
    assert new == {f"layers.{i}.blocks.0.peg.proj.0.{kind}" for i in range(4) for kind in ("weight", "bias")}
    gained = sum(width * 3 * 3 + width for width in (96, 192, 384, 768))
    lost = sum(depth * 13 * 13 * heads for depth, heads in ((2, 3), (2, 6), (6, 12), (2, 24)))
    assert sum(p.numel() for p in peg.parameters()) - sum(p.numel() for p in biased.parameters()) == gained - lost


def test_only_peg_tells_positions_of_a_window_apart():
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    tokens = torch.randn(1, 3, 3, 8, dtype=torch.float64)
    shuffled = tokens.flatten(1, 2)[:, order].view_as(tokens)

    def equivariant(block):
        with torch.no_grad():
            return torch.allclose(block(tokens).flatten(1, 2)[:, order], block(shuffled).flatten(1, 2), atol=1e-12)

    peg = small_block("peg", shifted=False, peg=True)
    assert not equivariant(peg) and not equivariant(small_block("relative_bias", shifted=False))
    nn.init.zeros_(peg.peg.proj[0].weight)
    assert equivariant(peg)


def test_peg_is_a_depthwise_convolution_after_the_block():
    block = small_block("peg", shifted=True, peg=True)
    tokens = torch.randn(1, 6, 7, 8, dtype=torch.float64)
    with torch.no_grad():
        out, peg, block.peg = block(tokens), block.peg.proj[0], nn.Identity()
        maps = block(tokens).permute(0, 3, 1, 2)
        expected = maps + F.conv2d(maps, peg.weight, peg.bias, padding=1, groups=8)
    assert torch.allclose(out, expected.permute(0, 2, 3, 1), rtol=1e-10)


def test_stochastic_depth_is_off_unless_asked_for():
    for name in (SWIN, "resnet18", "pvt_v2_b0", "convnext_tiny"):
        with torch.device("meta"):
            rates = [
                [m.drop_prob for m in TimmBackbone(name, **options).modules() if isinstance(m, timm.layers.DropPath)]
                for options in ({}, {"drop_path_rate": 0.3})
            ]
        assert not any(rates[0]) and max(rates[1]) == pytest.approx(0.3)


def test_shapes_are_those_of_timms_whole_network():
    full = timm.create_model("resnet18").state_dict()
    assert timm_shapes("resnet18") == {key: tensor.shape for key, tensor in full.items()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet19", {}, "has no network 'resnet19'; timm.list_models"),
        (
            "vit_tiny_patch16_224",
            {},
            "'vit_tiny_patch16_224' is from timm's 'vision_transformer'.*use one from byoanet",
        ),
        ("resnet18", {"output_stride": 8}, "output_stride is 8; use 16 or 32"),
        ("pvt_v2_b0", {"output_stride": 16}, "last stage of 'pvt_v2_b0' cannot be dilated; use output_stride 32"),
        ("resnet18", {"position": "peg"}, "position is 'peg', an option of Swin that 'resnet18' does not have"),
        (SWIN, {"position": "sine"}, "position is 'sine'; use one of: relative_bias, peg"),
    ],
)
def test_what_cannot_work_is_named(name, options, message):
    with pytest.raises(ModelError, match=message), torch.device("meta"):
        TimmBackbone(name, **options)
