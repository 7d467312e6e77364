"""Weights of classes in the loss, as the recipe gives them or as the training data does."""

import math
from collections.abc import Mapping

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from roadseg.data.class_shares import RULES, class_weights_by_rule, read_labelled_parts
from roadseg.data.datamodule import RoadDataModule
from roadseg.errors import ConfigError, TaxonomyError
from roadseg.taxonomy import Taxonomy


def parse_class_weights(class_weights: object) -> dict[str, float] | str:
    """Weights by class name, copied, or the name of a rule; what they say is checked by `class_weight_tensor`.

    Raises:
        ConfigError: when they are neither, or a weight is no number.
    """
    if isinstance(class_weights, str):
        return class_weights
    if class_weights is None:
        return {}
    if not isinstance(class_weights, Mapping):
        raise ConfigError(
            f"model.class_weights is {class_weights!r}; use {', '.join(sorted(RULES))}, or class names with weights: "
            "{pole: 2}"
        )
    for name, weight in class_weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigError(f"model.class_weights.{name} is {weight!r}; use 0 or a finite number above it")
    return dict(class_weights)


def class_weight_tensor(class_weights: Mapping[str, float] | str | None, taxonomy: Taxonomy) -> Tensor | None:
    """Weights (C,) float32; None where all are equal, and ones where a rule gives them once the data is known.

    Args:
        class_weights: class name to weight, classes not named having 1; or the name of a rule.
        taxonomy: the classes.

    Raises:
        ConfigError: when a class, a rule or a weight cannot be, or all weights are 0.
    """
    if not class_weights:
        return None
    weights = torch.ones(len(taxonomy))
    if isinstance(class_weights, str):
        if class_weights not in RULES:
            raise ConfigError(
                f"model.class_weights is '{class_weights}'; use {', '.join(sorted(RULES))}, or class names with weights"
            )
        return weights
    for name, weight in class_weights.items():
        try:
            index = taxonomy.id_of(name)
        except TaxonomyError as error:
            raise ConfigError(f"model.class_weights: {error}") from error
        if not 0 <= weight < math.inf:
            raise ConfigError(f"model.class_weights.{name} is {weight}; use 0 or a finite value above it")
        weights[index] = weight
    if not weights.any():
        raise ConfigError("model.class_weights are all 0, so that nothing would be learned; give one class more than 0")
    return weights


def weights_of_training_data(rule: str, data: object) -> dict[str, float]:
    """Class name to the weight that a rule gives it on the training data; every process computes the same.

    Args:
        rule: one of `roadseg.data.class_shares.RULES`.
        data: the data module.

    Raises:
        ConfigError: when the data module is none of roadseg's.
        DataError: when no pixel is labelled, or a mask is broken.
    """
    if not isinstance(data, RoadDataModule):
        raise ConfigError(
            f"model.class_weights is '{rule}', which needs the training data: train with RoadDataModule, or give class "
            "names with weights"
        )
    frames = data.frames("train")
    labelled = read_labelled_parts(frames, [config.weight for config in data.configs])
    weights, missing = class_weights_by_rule(rule, labelled, frames.label_sets)
    if missing:
        rank_zero_warn(
            f"model.class_weights: no pixel of the {len(labelled.weights)} training masks that were read is labelled "
            f"{', '.join(missing)}; {'its weight is' if len(missing) == 1 else 'their weights are'} 1"
        )
    return dict(zip(frames.label_sets.taxonomy.names, weights.tolist(), strict=True))
