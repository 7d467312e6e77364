"""Losses by name, and their weighted sums: the only place where names become losses."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.losses.pixels import BoundaryCrossEntropy, FocalLoss, LabelSetCrossEntropy, OnlineHardExampleMining
from roadseg.losses.regions import DiceLoss, LovaszSoftmax

LOSSES: Mapping[str, Callable[..., nn.Module]] = {
    "cross_entropy": LabelSetCrossEntropy,
    "ohem": OnlineHardExampleMining,
    "focal": FocalLoss,
    "boundary": BoundaryCrossEntropy,
    "dice": DiceLoss,
    "lovasz": LovaszSoftmax,
}
"""Losses by their names in configurations."""

_SHARED = ("class_weights", "label_smoothing")
"""Settings that all losses share, and that are no options of a term."""


class WeightedSum(nn.Module):
    """A weighted sum of losses.

    Args:
        losses: name to loss.
        weights: name to weight.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleDict(losses), dict(weights)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The sum, a scalar; arguments as of `terms`."""
        return torch.stack([*self.terms(logits, mask).values()]).sum()

    def terms(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Name to the loss of that name times its weight, scalars that add up to the sum.

        Args:
            logits: (B, C, H, W).
            mask: (B, H, W) int64 of set ids; 255 is ignored.
        """
        return {name: self.weights[name] * loss(logits, mask) for name, loss in self.losses.items()}


def build_loss(
    terms: Sequence[Mapping[str, Any]],
    label_sets: LabelSets,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> WeightedSum:
    """A weighted sum of losses, from plain values.

    Args:
        terms: one mapping a loss: its `name`, its `weight` (1 if not given), and its own options.
        label_sets: meaning of the ids in masks.
        class_weights: (C,), of those losses that judge pixels; None for equal ones.
        label_smoothing: of cross-entropy.

    Raises:
        ConfigError: when a name, an option or a value cannot work.
    """
    terms = parse_terms(terms)
    if not terms:
        raise ConfigError("model.loss is empty, so that nothing would be learned; name a loss: cross_entropy")
    if label_smoothing and all(term.get("name") != "cross_entropy" for term in terms):
        raise ConfigError(
            f"model.label_smoothing is {label_smoothing}, which only cross_entropy has; name it, or use 0"
        )
    losses, weights = {}, {}
    for term in terms:
        name, options = _name_of(term), {k: v for k, v in term.items() if k not in ("name", "weight")}
        if name in losses:
            raise ConfigError(f"model.loss names {name} twice; give it one weight")
        _check_options(name, options)
        shared = {"class_weights": class_weights, "label_smoothing": label_smoothing}
        known = inspect.signature(LOSSES[name]).parameters
        try:
            losses[name] = LOSSES[name](label_sets, **{k: v for k, v in shared.items() if k in known}, **options)
        except ConfigError as error:
            raise ConfigError(f"model.loss: {name}: {error}") from error
        except TypeError as error:
            raise ConfigError(f"model.loss: {name} cannot be made with {options}: {error}; use numbers") from error
        weights[name] = _weight_of(name, term)
    return WeightedSum(losses, weights)


def parse_terms(terms: object) -> list[dict[str, Any]]:
    """The terms of a loss, copied, in plain values; what they say is checked by `build_loss`.

    Raises:
        ConfigError: when they are no list of mappings.
    """
    if isinstance(terms, str | Mapping) or not isinstance(terms, Sequence):
        raise ConfigError(f"model.loss is {terms!r}; give a list of terms: [{{name: cross_entropy}}]")
    for term in terms:
        if not isinstance(term, Mapping):
            raise ConfigError(f"model.loss holds {term!r}; write each term as a mapping: {{name: {term}}}")
    return [dict(term) for term in terms]


def _name_of(term: Mapping[str, Any]) -> str:
    name = term.get("name")
    if not isinstance(name, str) or name not in LOSSES:
        raise ConfigError(f"model.loss names {name!r}; known: {', '.join(LOSSES)}")
    return name


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    known = set(inspect.signature(LOSSES[name]).parameters) - {"label_sets", *_SHARED}
    for option in options:
        if option not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise ConfigError(f"model.loss: {name} has no option '{option}'; {has}")


def _weight_of(name: str, term: Mapping[str, Any]) -> float:
    weight = term.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ConfigError(f"model.loss: {name}.weight is {weight!r}; use a finite number above 0")
    return float(weight)
