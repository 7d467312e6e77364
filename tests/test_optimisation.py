"""Parameter groups against rates worked out by hand."""

from itertools import chain

import pytest
import torch
from torch import nn

from roadseg.errors import ConfigError
from roadseg.models.zoo import build_backbone, build_model
from roadseg.optimisation import backbone_layers, layer_of, parameter_groups


@pytest.fixture(scope="module")
def nano():
    with torch.device("meta"):
        return build_model("twins_svt_nano", "linear_concat", 3, width=8)


def rates_of(groups, module: nn.Module) -> dict[str, tuple[float, float]]:
    """(lr, weight decay) of each parameter by name."""
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    return {name: settings[id(p)] for name, p in module.named_parameters()}


def groups_of(network, **options):
    return parameter_groups({"backbone": network.backbone, "decoder": network.decoder}, **options)


def test_layer_decay_of_twins_by_hand(nano):
    """Stages of 2, 2, 6 and 2 blocks and the stem are 13 layers: the last block has power 1, the stem 13."""
    groups = groups_of(nano, lr=2.0, decoder_lr_multiple=3.0, weight_decay=0.05, layer_decay=0.5)
    rates = {name: lr for name, (lr, _) in rates_of(groups, nano).items()}
    powers = {
        "patch_embeds.0.proj.weight": 13,
        "patch_embeds.0.norm.bias": 13,
        "blocks.0.0.attn.qkv.weight": 12,
        "pos_block.0.proj.0.weight": 12,  # it follows the stage's first block
        "blocks.0.1.norm1.weight": 11,
        "patch_embeds.1.proj.weight": 10,
        "blocks.1.0.mlp.fc1.bias": 10,
        "blocks.1.1.mlp.fc1.weight": 9,
        "patch_embeds.2.proj.bias": 8,
        "blocks.2.0.norm1.weight": 8,
        "blocks.2.5.norm1.weight": 3,
        "blocks.3.0.norm1.weight": 2,
        "pos_block.3.proj.0.bias": 2,
        "blocks.3.1.mlp.fc2.weight": 1,
    }
    for name, power in powers.items():
        assert rates[f"backbone.{name}"] == pytest.approx(2.0 * 0.5**power), name
    assert {lr for name, lr in rates.items() if name.startswith("decoder.")} == {6.0}


@pytest.mark.parametrize(
    ("backbone", "powers"),
    [
        ("resnet18", {"conv1.weight": 5, "bn1.bias": 5, "layer1.0.conv1.weight": 4, "layer4.1.bn2.weight": 1}),
        ("convnext_tiny", {"stem.0.weight": 5, "stages.0.blocks.0.gamma": 4, "stages.2.downsample.1.weight": 2}),
        ("mobilenetv2_100", {"conv_stem.weight": 5, "blocks.0.0.bn1.weight": 5, "blocks.1.0.bn1.weight": 4}),
        ("mobilenetv2_100", {"blocks.2.0.bn1.weight": 3, "blocks.3.0.bn1.weight": 2, "blocks.4.0.bn1.weight": 2}),
        (
            "swin_tiny",
            {"patch_embed.proj.weight": 5, "layers.0.blocks.0.norm1.bias": 4, "layers.3.blocks.1.mlp.fc1.bias": 1},
        ),
    ],
)
def test_layer_decay_of_other_backbones_by_their_stages(backbone, powers):
    with torch.device("meta"):
        module = build_backbone(backbone)
    rates = rates_of(parameter_groups({"backbone": module}, lr=1.0, layer_decay=0.5), module)
    for name, power in powers.items():
        assert rates[name][0] == 0.5**power, name


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("twins_svt_nano", {"position": "none"}),
        ("twins_svt_nano", {"downsampling": "attention"}),
        ("twins_svt_nano", {"stem": "detail", "pattern": ["C", "C", "CG", "CG"]}),
        ("pvt_v2_b0", {}),
        ("swin_tiny", {"position": "peg"}),
        ("halonet_h0", {}),
        ("halonet26t", {}),
        ("mobilenetv4_conv_small", {}),
    ],
)
def test_every_parameter_of_every_family_has_a_layer(backbone, options):
    with torch.device("meta"):
        module = build_backbone(backbone, options=options)
    layers = backbone_layers(module)
    used = {layer_of(name, layers) for name, _ in module.named_parameters()}
    assert used == set(range(len(layers))), "and no layer is empty"
    prefixes = [p for layer in layers for p in layer]
    for name, _ in module.named_parameters():
        assert sum(name.startswith(f"{prefix}.") for prefix in prefixes) == 1, name


@pytest.mark.parametrize("layer_decay", [1.0, 0.9])
def test_every_trained_parameter_is_in_exactly_one_group(nano, layer_decay):
    frozen = nano.backbone.patch_embeds[0].proj.weight.requires_grad_(False)
    head = nn.Conv2d(4, 3, 1)
    parts = {"backbone": nano.backbone, "decoder": nano.decoder, "auxiliary": head}
    groups = parameter_groups(parts, lr=1.0, weight_decay=0.1, layer_decay=layer_decay, no_decay=["pos_block", "head"])
    held = [id(p) for group in groups for p in group["params"]]
    wanted = [id(p) for p in chain(nano.parameters(), head.parameters()) if p is not frozen]
    frozen.requires_grad_(True)
    assert len(held) == len(set(held)) and set(held) == set(wanted)
    names = [group["name"] for group in groups]
    assert len(names) == len(set(names)) and all(group["params"] for group in groups)


def test_vectors_and_named_modules_do_not_decay(nano):
    groups = groups_of(nano, lr=1.0, weight_decay=0.1, no_decay=["pos_block"])
    for name, (_, decay) in rates_of(groups, nano).items():
        vector = nano.get_parameter(name).ndim <= 1
        assert decay == (0.0 if vector or ".pos_block." in name else 0.1), name


def test_without_layer_decay_the_groups_are_those_of_old_checkpoints(nano):
    """Optimizer states are by number: another order would give a parameter the moments of another."""
    groups = groups_of(nano, lr=1.0, decoder_lr_multiple=10.0, weight_decay=0.1)
    assert [(g["name"], g["lr"]) for g in groups] == [
        ("backbone", 1.0),
        ("backbone norms and biases", 1.0),
        ("decoder", 10.0),
        ("decoder norms and biases", 10.0),
    ]
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in nano.backbone.parameters() if p.ndim > 1]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in nano.backbone.parameters() if p.ndim <= 1]


def test_a_module_that_is_not_there_is_named(nano):
    with pytest.raises(ConfigError, match="model.no_decay names 'pos_blok', which the network does not have"):
        groups_of(nano, lr=1.0, no_decay=["pos_blok"])


def test_an_unknown_backbone_has_no_layer_decay():
    with pytest.raises(ConfigError, match="model.layer_decay does not know the layers of Conv2d"):
        parameter_groups({"backbone": nn.Conv2d(1, 1, 1)}, lr=1.0, layer_decay=0.9)
