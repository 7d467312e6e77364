"""What every backbone promises, and what each variation of a Twins keeps."""

import copy

import pytest
import torch
from torch import nn

import roadseg
from roadseg.models.backbones import BACKBONES, FAMILIES
from roadseg.models.zoo import build_backbone

SMALLEST = [
    "twins_svt_nano",
    "twins_pcpvt_small",
    "pvt_v2_b0",
    "swin_tiny",
    "halonet_h0",
    "halonet26t",
    "resnet18",
    "convnext_tiny",
    "mobilenetv4_conv_small",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
]
VARIATIONS = [
    ("twins_svt_nano", {"pattern": "HG", "padding": "mask"}),
    ("twins_svt_nano", {"pattern": ["L", "LLG", "LLG", "G"], "window_size": [7, 8, 5, 4], "padding": "mask"}),
    ("twins_svt_nano", {"subsampling": "separable", "position": "none"}),
    ("twins_svt_nano", {"subsampling": "avgpool", "downsampling": "attention", "halo_size": 1}),
    ("twins_svt_nano", {"stem": "detail", "pattern": ["C", "C", "CG", "CG"]}),
    ("swin_tiny", {"position": "peg"}),
]
CASES = [(name, None) for name in SMALLEST] + VARIATIONS


def build(name: str, options: dict[str, object] | None, drop_path_rate: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    backbone = build_backbone(name, drop_path_rate=drop_path_rate, options=options)
    for parameter in backbone.parameters():  # the last norms of residual branches begin at zero, and hide the branch
        if not parameter.is_meta and not parameter.any():
            nn.init.normal_(parameter, std=0.5)
    return backbone


def sides(size: tuple[int, int], options: dict[str, object] | None = None) -> list[tuple[int, int]]:
    strides = (2, 4, 8, 16, 32) if options and options.get("stem") == "detail" else (4, 8, 16, 32)
    return [tuple(-(-side // stride) for side in size) for stride in strides]


def test_each_family_is_represented():
    assert all(set(SMALLEST) & set(family) for family in FAMILIES)
    assert sum(len(family) for family in FAMILIES) == len(BACKBONES) == len(roadseg.list_backbones())


@pytest.mark.parametrize("name", roadseg.list_backbones())
def test_features_are_at_strides_4_to_32(name):
    with torch.device("meta"):  # the large ones cost nothing there
        backbone = build_backbone(name).eval()
        features = backbone(torch.empty(2, 3, 96, 160))
    assert [tuple(f.shape) for f in features] == [
        (2, channels, *side) for channels, side in zip(backbone.out_channels, sides((96, 160)), strict=True)
    ]


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (33, 47), (45, 135), (32, 64)])
@pytest.mark.parametrize(("name", "options"), CASES)
@torch.inference_mode()
def test_any_size_is_taken_and_sides_are_rounded_up(name, options, size):
    features = build(name, options).eval()(torch.randn(1, 3, *size))
    assert [tuple(f.shape[2:]) for f in features] == sides(size, options)
    assert all(torch.isfinite(f).all() for f in features)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradients_reach_every_parameter(name, options):
    backbone = build(name, options).train()
    loss = sum((f * torch.randn_like(f)).sum() for f in backbone(torch.randn(2, 3, 70, 90)))
    loss.backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    still = [n for n, p in backbone.named_parameters() if p.grad is not None and not p.grad.any()]
    assert (without, still) == ([], [])


@pytest.mark.parametrize(("name", "options"), CASES)
@torch.inference_mode()
def test_an_image_in_a_batch_gives_what_it_gives_alone(name, options):
    backbone, images = build(name, options).double().eval(), torch.randn(3, 3, 40, 72, dtype=torch.float64)
    for together, alone in zip(backbone(images), backbone(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), CASES)
@torch.inference_mode()
def test_a_network_built_without_memory_takes_a_state_dict(name, options):
    original, image = build(name, options).eval(), torch.randn(1, 3, 40, 72)
    with torch.device("meta"):
        rebuilt = build_backbone(name, options=options).eval()
    rebuilt.load_state_dict(copy.deepcopy(original.state_dict()), assign=True)
    assert all(torch.equal(a, b) for a, b in zip(original(image), rebuilt(image), strict=True))


@pytest.mark.parametrize(("name", "options"), CASES)
@torch.inference_mode()
def test_half_and_double_precision_agree_with_single(name, options):
    backbone, image = build(name, options).eval(), torch.randn(1, 3, 64, 96)
    single = backbone(image)
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.15)):
        features = copy.deepcopy(backbone).to(dtype)(image.to(dtype))
        for feature, expected in zip(features, single, strict=True):
            assert feature.dtype == dtype
            error = (feature.double() - expected.double()).norm() / expected.double().norm()
            assert error < tolerance


@pytest.mark.parametrize(("name", "options"), CASES)
def test_mixed_precision_trains(name, options):
    backbone = build(name, options).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(f.float().square().mean() for f in backbone(torch.randn(2, 3, 64, 64)))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_and_evaluation_are_told_apart(name, options):
    backbone, image = build(name, options, drop_path_rate=0.5), torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        backbone.eval()
        assert torch.equal(backbone(image)[-1], backbone(image)[-1])
        backbone.train()
        assert not torch.equal(backbone(image)[-1], backbone(image)[-1])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_checkpointing_gives_the_same_gradients(name, options):
    backbone, image = build(name, options).double().train(), torch.randn(2, 3, 48, 64, dtype=torch.float64)
    start, gradients = copy.deepcopy(backbone.state_dict()), []
    for enable in (False, True):
        backbone.load_state_dict(start)
        backbone.set_grad_checkpointing(enable)
        backbone.zero_grad()
        sum(f.square().mean() for f in backbone(image)).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["twins_svt_nano", "twins_pcpvt_small", "pvt_v2_b0", "resnet18", "swin_tiny"])
@torch.inference_mode()
def test_compiled_whole_it_gives_the_same(name):
    torch.compiler.reset()
    backbone = build(name, None).eval()
    compiled = torch.compile(backbone, fullgraph=True, dynamic=False, backend="aot_eager")
    for size in ((64, 96), (70, 45)):
        image = torch.randn(2, 3, *size)
        for ours, expected in zip(compiled(image), backbone(image), strict=True):
            assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()
