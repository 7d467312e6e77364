"""Training checkpoints: what roadseg adds to Lightning's, and what it checks before it uses one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from roadseg.errors import CheckpointError, ConfigError
from roadseg.inference.package import Architecture, ModelFile, ModelHeader, write_model_file
from roadseg.inference.torch_engine import network_of
from roadseg.taxonomy import Taxonomy

HEADER_KEY = "roadseg"
"""Key of a Lightning checkpoint under which a task describes itself."""

_NETWORK = "network."
"""Prefix of the network's weights in a task's state dict."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint written by `lightning fit`; no code in it is run.

    Raises:
        CheckpointError: when it is missing, unreadable, or was not written by roadseg.
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
    header = checkpoint.get(HEADER_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(header, dict) or not {"architecture", "recipe", "taxonomy"} <= set(header):
        raise CheckpointError(f"{path} was not written by roadseg; give a checkpoint of `lightning fit`")
    return checkpoint


def check_same_model(checkpoint: Mapping[str, Any], architecture: Mapping[str, Any], taxonomy: Taxonomy) -> None:
    """Check that a checkpoint's weights belong to this network.

    Raises:
        CheckpointError: naming each value that differs.
    """
    header = checkpoint.get(HEADER_KEY)
    if header is None:
        raise CheckpointError("the checkpoint was not written by roadseg; give a checkpoint of `lightning fit`")
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


def check_same_recipe(checkpoint: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Check that training goes on with the hyperparameters it began with; the optimizer's state would win silently.

    Raises:
        CheckpointError: naming each value that differs.
    """
    differing = _differences(checkpoint[HEADER_KEY]["recipe"], recipe)
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


def package_checkpoint(
    path: str | Path, output: str | Path, *, short_side_px: int | None = None, weights_licence: str = "unspecified"
) -> str:
    """Turn a training checkpoint into a model file; of an averaged run the averaged weights.

    Args:
        path: a checkpoint of `lightning fit`.
        output: the model file to write, ending in `.safetensors`.
        short_side_px: resize images to this short side before the network; None runs them at their own size.
        weights_licence: under which terms the weights may be used.

    Returns:
        The model file's SHA-256 digest.

    Raises:
        CheckpointError: when the checkpoint cannot be used.
        ModelFileError: when the output's name is wrong, or the weights are not finite or do not fit their network.
    """
    if short_side_px is not None and short_side_px < 32:
        raise ConfigError(
            f"short_side_px is {short_side_px}; use at least 32, or leave it out to keep images' own size"
        )
    checkpoint = read_checkpoint(path)
    header = checkpoint[HEADER_KEY]
    weights = {
        name.removeprefix(_NETWORK): tensor.numpy()
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(_NETWORK)
    }
    provenance = {key: header.get(key) for key in ("recipe", "data", "scores", "software")}
    provenance |= {"epoch": checkpoint["epoch"], "global_step": checkpoint["global_step"]}
    provenance["averaged_weights"] = "averaging_state" in checkpoint
    model = ModelHeader(
        Architecture(**header["architecture"]),
        Taxonomy.from_dict(header["taxonomy"], str(path)),
        _rgb(weights["mean"]),
        _rgb(weights["std"]),
        short_side_px,
        weights_licence,
        provenance,
    )
    network_of(ModelFile(model, weights, "", Path(path)))  # a file that could not be loaded is never written
    return write_model_file(output, model, weights)


def _rgb(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values.ravel())
    return red, green, blue
