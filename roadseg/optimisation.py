"""Parameter groups: which learning rate and weight decay each part of a network has.

A group's learning rate is that of the recipe, times `decoder_lr_multiple` for the decoder and the auxiliary head, and,
for the backbone, times `layer_decay` to the power of the layers above it (arXiv 2106.08254, 2111.06377). The decoder is
the top, with power 0; the backbone's last layer has power 1, the layer below it 2, and so on down to the stem.

Matrices and kernels decay; vectors, which are biases and the weights of norms, do not, nor does what `no_decay` names.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from roadseg.errors import ConfigError
from roadseg.models.halonet import HaloNet
from roadseg.models.timm_backbone import TimmBackbone
from roadseg.models.twins import Twins


def parameter_groups(
    parts: Mapping[str, nn.Module],
    *,
    lr: float,
    decoder_lr_multiple: float = 1.0,
    weight_decay: float = 0.0,
    layer_decay: float = 1.0,
    no_decay: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The groups of an optimizer; every trained parameter is in exactly one.

    Args:
        parts: name to module; "backbone" has the rate itself, all others a multiple of it.
        lr: of the backbone's last layer, before the layer decay.
        decoder_lr_multiple: of the other parts.
        weight_decay: of what decays.
        layer_decay: 1 gives all layers of the backbone one rate.
        no_decay: modules, by a part of their dotted name, that do not decay: "pos_block" is `pos_block.0.proj` too.

    Returns:
        Groups with `name`, `params`, `lr` and `weight_decay`: one for what decays and one for what does not, of each
        part and, where rates differ, of each layer; empty ones are left out.

    Raises:
        ConfigError: when `no_decay` names something that no part has.
    """
    _check_named(no_decay, parts)
    groups = []
    for part, module in parts.items():
        rate = lr if part == "backbone" else lr * decoder_lr_multiple
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if part != "backbone" or layer_decay == 1:
            groups += _by_decay(part, trained, rate, weight_decay, no_decay)
            continue
        layers = backbone_layers(module)
        for depth in reversed(range(len(layers))):
            of_layer = {name: p for name, p in trained.items() if layer_of(name, layers) == depth}
            factor = layer_decay ** (len(layers) - depth)
            groups += _by_decay(f"{part} layer {depth}", of_layer, rate * factor, weight_decay, no_decay)
    return [group for group in groups if group["params"]]


def backbone_layers(backbone: nn.Module) -> list[list[str]]:
    """The layers of a backbone as prefixes of its parameters' names, from the image up.

    Twins: the stem and the patch embedding of the image, then every block; what lies between the stages (their patch
    embeddings and positional encodings) belongs to the block behind it. Other backbones: the stem, then the stages.
    """
    if isinstance(backbone, Twins):
        return list(_twins_layers(backbone))
    if isinstance(backbone, HaloNet):
        return [["stem"], *([f"stages.{i}"] for i in range(len(backbone.stages)))]
    if isinstance(backbone, TimmBackbone):
        (*stem, first), *others = backbone.steps_by_feature
        return [stem, [first], *others]
    raise ConfigError(f"model.layer_decay does not know the layers of {type(backbone).__name__}; leave it at 1")


def layer_of(name: str, layers: Sequence[Sequence[str]]) -> int:
    """The layer, counted from the image, that a parameter of this name belongs to.

    Raises:
        KeyError: when it belongs to none.
    """
    for depth, prefixes in enumerate(layers):
        if any(name.startswith(f"{prefix}.") for prefix in prefixes):
            return depth
    raise KeyError(f"no layer has the parameter '{name}'")


def _twins_layers(backbone: Twins) -> Iterator[list[str]]:
    yield ["detail", "patch_embeds.0"]
    for stage, blocks in enumerate(backbone.blocks):
        assert isinstance(blocks, nn.ModuleList)
        for index in range(len(blocks)):
            around = [f"patch_embeds.{stage}"] * (stage > 0) + [f"pos_block.{stage}"] if index == 0 else []
            yield [*around, f"blocks.{stage}.{index}"]


def _by_decay(
    title: str, parameters: Mapping[str, nn.Parameter], lr: float, weight_decay: float, no_decay: Sequence[str]
) -> list[dict[str, Any]]:
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    exempt = [p for name, p in parameters.items() if p.ndim > 1 and _is_in(name, no_decay)]
    decayed = [p for name, p in parameters.items() if p.ndim > 1 and not _is_in(name, no_decay)]
    return [
        {"name": title, "params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"name": f"{title} norms and biases", "params": vectors, "lr": lr, "weight_decay": 0.0},
        {"name": f"{title} without decay", "params": exempt, "lr": lr, "weight_decay": 0.0},
    ]


def _is_in(name: str, modules: Collection[str]) -> bool:
    return not set(modules).isdisjoint(name.split("."))


def _check_named(no_decay: Sequence[str], parts: Mapping[str, nn.Module]) -> None:
    names = [name for module in parts.values() for name, _ in module.named_parameters()]
    for module in no_decay:
        if not any(_is_in(name, [module]) for name in names):
            raise ConfigError(
                f"model.no_decay names '{module}', which the network does not have; name modules of it, such as "
                "pos_block of Twins"
            )


def check_rates(
    lr: float,
    decoder_lr_multiple: float,
    layer_decay: float,
    weight_decay: float,
    warmup_steps: int,
    poly_power: float,
) -> None:
    """Check what the settings of the optimizer and of its schedule are.

    Raises:
        ConfigError: when one cannot work.
    """
    for name, value in (("lr", lr), ("decoder_lr_multiple", decoder_lr_multiple), ("poly_power", poly_power)):
        if not 0 < value < math.inf:
            raise ConfigError(f"model.{name} is {value}; use a finite value above 0")
    for name, value in (("weight_decay", weight_decay), ("warmup_steps", warmup_steps)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"model.{name} is {value}; use 0 or a finite value above it")
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"model.layer_decay is {layer_decay}; use a value above 0, at most 1, which is off")
