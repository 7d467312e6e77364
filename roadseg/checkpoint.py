"""Training checkpoints: what roadseg adds to Lightning's, and what it checks before it uses one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from roadseg.errors import CheckpointError, TaxonomyError
from roadseg.inference.package import (
    parse_architecture,
)
from roadseg.taxonomy import Taxonomy

HEADER_KEY = "roadseg"
"""Key of a Lightning checkpoint under which a task describes itself."""

LATER_SETTINGS: Mapping[str, Any] = dict(
    loss=[{"name": "cross_entropy"}], layer_decay=1.0, no_decay=[], auxiliary=None, init_from=None, coarse_steps=0
)
"""With what checkpoints were trained that are older than a setting of the segmentation task."""

_WEIGHT_PARTS = {"state_dict": dict, "epoch": int, "global_step": int}
_RESUME_PARTS = {
    "pytorch-lightning_version": str,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "callbacks": dict,
    "current_model_state": dict,
    "averaging_state": dict,
}

NETWORK_PREFIX = "network."
"""Prefix of the network's weights in a task's state dict."""


def read_checkpoint(path: str | Path, *, resume: bool = False, task: str = "segmentation") -> dict[str, Any]:
    """Read a checkpoint written by `lightning fit`; no code in it is run.

    Args:
        path: the file.
        resume: whether training shall go on from it, for which it needs more than weights.
        task: for which it is wanted, "segmentation" or "classification".

    Raises:
        CheckpointError: when it is missing, unreadable, was not written by roadseg, is of another task, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; `lightning fit` writes them to runs/NAME/version_N/checkpoints"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({reason}); is it cut off, or another kind of file?"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(HEADER_KEY), dict):
        raise CheckpointError(f"{path} was not written by roadseg; give a checkpoint of `lightning fit`")
    _check_task(checkpoint[HEADER_KEY], path, task)
    _check_parts(checkpoint, path, _WEIGHT_PARTS | (_RESUME_PARTS if resume else {}))
    return checkpoint


def _check_task(header: Mapping[str, Any], path: Path, wanted: str) -> None:
    held = header.get("task", "segmentation")
    if held == wanted:
        return
    if held == "classification":
        raise CheckpointError(
            f"{path} holds an image classifier, which gives no masks: train a segmentation model that starts from it "
            f"(lightning fit -c configs/roadseg.yaml --model.pretrained {path}), or score it as a classifier "
            f"(lightning validate -c configs/pretrain.yaml --ckpt_path {path})"
        )
    if held == "segmentation":
        raise CheckpointError(
            f"{path} holds a segmentation model, and the configuration's task is {wanted}; give a checkpoint of "
            f"{wanted}, or the configuration that made this one"
        )
    raise CheckpointError(f"{path} is damaged: its task is {held!r}; use another checkpoint")


def _check_parts(checkpoint: Mapping[str, Any], path: Path, parts: Mapping[str, type]) -> None:
    for part, kind in parts.items():
        if not isinstance(checkpoint.get(part), kind):
            raise CheckpointError(
                f"{path} is damaged: its '{part}' is missing or no {kind.__name__}; use another checkpoint"
            )
    header = checkpoint[HEADER_KEY]
    try:
        _DESCRIPTIONS[header.get("task", "segmentation")](header)
        dict(header["recipe"])
    except (KeyError, TypeError, ValueError, TaxonomyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{path} is damaged: its description is wrong ({reason}); use another checkpoint"
        ) from error
    for name, tensor in checkpoint["state_dict"].items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            raise CheckpointError(f"{path} is damaged: weight '{name}' is no dense tensor; use another checkpoint")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: weight '{name}' holds NaN or infinite values: the training diverged; take an earlier one"
            )


def _parse_segmentation(header: Mapping[str, Any]) -> None:
    parse_architecture(header["architecture"])
    Taxonomy.from_dict(header["taxonomy"])


def _parse_classification(header: Mapping[str, Any]) -> None:
    num_classes, names = dict(header["architecture"])["num_classes"], list(header["class_names"])
    if len(names) != num_classes or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{len(names)} class names for {num_classes} classes")


_DESCRIPTIONS = {"segmentation": _parse_segmentation, "classification": _parse_classification}
"""Task to what its description must hold."""


def check_same_model(checkpoint: Mapping[str, Any], architecture: Mapping[str, Any], taxonomy: Taxonomy) -> None:
    """Check that a checkpoint's weights belong to this network.

    Raises:
        CheckpointError: naming each value that differs.
    """
    header = checkpoint[HEADER_KEY]
    differing = _differences(header["architecture"], architecture)
    if header["taxonomy"] != taxonomy.to_dict():
        names = [c["name"] for c in header["taxonomy"]["classes"]]
        differing.append(
            f"taxonomy: {header['taxonomy']['name']} {names} in the checkpoint, {taxonomy.name} {taxonomy.names} now"
        )
    if differing:
        raise CheckpointError(
            f"the checkpoint holds another model: {'; '.join(differing)}. Give the configuration that made it"
        )


def check_same_classifier(
    checkpoint: Mapping[str, Any], architecture: Mapping[str, Any], class_names: Sequence[str]
) -> None:
    """Check that a checkpoint's weights belong to this classifier.

    Raises:
        CheckpointError: naming each value that differs; of the classes, the first.
    """
    header = checkpoint[HEADER_KEY]
    differing = _differences(header["architecture"], architecture)
    for index, (before, now) in enumerate(zip(header["class_names"], class_names, strict=False)):
        if before != now:
            differing.append(f"class {index} is '{before}' in the checkpoint, '{now}' in the data")
            break
    if differing:
        raise CheckpointError(
            f"the checkpoint holds another classifier: {'; '.join(differing)}. Give the configuration that made it, "
            "and images of the same classes"
        )


def check_same_weights(checkpoint: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> None:
    """Check that a checkpoint holds the weights that a task needs.

    Raises:
        CheckpointError: naming the first that is missing, unknown, or has another shape.
    """
    held = checkpoint["state_dict"]
    for name in sorted(set(held) ^ set(wanted)):
        raise CheckpointError(
            f"the checkpoint is damaged: weight '{name}' is {'missing' if name in wanted else 'unknown'}; use another"
        )
    for name, tensor in wanted.items():
        if held[name].shape != tensor.shape:
            raise CheckpointError(
                f"the checkpoint is damaged: weight '{name}' has shape {tuple(held[name].shape)}, not "
                f"{tuple(tensor.shape)}; use another"
            )


def check_same_recipe(checkpoint: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Check that training goes on with the hyperparameters it began with; the optimizer's state would win silently.

    Raises:
        CheckpointError: naming each value that differs.
    """
    before = {key: value for key, value in LATER_SETTINGS.items() if key in recipe} | checkpoint[HEADER_KEY]["recipe"]
    differing = _differences(before, recipe)
    if differing:
        raise CheckpointError(
            f"the checkpoint was trained with other hyperparameters: {'; '.join(differing)}. To go on with that run, "
            "leave them as they were; to train with new ones, start without --ckpt_path"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {json.dumps(before.get(key))} in the checkpoint, {json.dumps(now.get(key))} now"
        for key in sorted(set(before) | set(now))
        if before.get(key) != now.get(key)
    ]


def end_epoch(checkpoint: Mapping[str, Any]) -> None:
    """Count the epoch as ended at whose end a checkpoint was written; Lightning 2.6 writes it just before.

    A run that is limited by steps would go into that epoch once more, for one batch, and count it twice from then on.

    Args:
        checkpoint: as Lightning loads it; changed in place.
    """
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    total = epochs["total"]
    if total["ready"] == total["started"] == total["processed"] == total["completed"] + 1:
        for count in epochs.values():
            count["completed"] += 1
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False
