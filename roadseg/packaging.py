"""From a training checkpoint to a model file: `roadseg package`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.checkpoint import HEADER_KEY, NETWORK_PREFIX, read_checkpoint
from roadseg.errors import CheckpointError, ConfigError, ModelFileError
from roadseg.inference.package import (
    MAX_SHORT_SIDE_PX,
    MIN_SHORT_SIDE_PX,
    UNSPECIFIED_LICENCE,
    ModelFile,
    ModelHeader,
    parse_architecture,
    write_model_file,
)
from roadseg.inference.torch_engine import network_of
from roadseg.taxonomy import Taxonomy


def package_checkpoint(
    path: str | Path,
    output: str | Path,
    *,
    short_side_px: int | None = None,
    weights_licence: str = UNSPECIFIED_LICENCE,
    half: bool = False,
) -> str:
    """Turn a training checkpoint into a model file; of an averaged run the averaged weights.

    Args:
        path: a checkpoint of `lightning fit`.
        output: the model file to write, ending in `.safetensors`.
        short_side_px: resize images to this short side before the network; None runs them at their own size.
        weights_licence: under which terms the weights may be used.
        half: whether weights are stored as float16, in half the bytes. Buffers, which are the normalisation and the
            statistics of batch norms, keep float32, and the network computes in float32 in any case.

    Returns:
        The model file's SHA-256 digest.

    Raises:
        ConfigError: when short_side_px is out of range.
        CheckpointError: when the checkpoint cannot be used.
        ModelFileError: when the output's name is wrong, or the weights are not finite, do not fit their network, or
            are too large for float16.
    """
    if short_side_px is not None and not MIN_SHORT_SIDE_PX <= short_side_px <= MAX_SHORT_SIDE_PX:
        raise ConfigError(
            f"short_side_px is {short_side_px}; use {MIN_SHORT_SIDE_PX} to {MAX_SHORT_SIDE_PX}, or leave it out to "
            "keep images' own size"
        )
    checkpoint = read_checkpoint(path)
    model = _header_of(checkpoint, short_side_px, weights_licence, Path(path))
    weights = {
        name.removeprefix(NETWORK_PREFIX): (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(NETWORK_PREFIX)
    }
    # A file that could not be loaded is never written.
    network = network_of(ModelFile(model, weights, "", Path(path)))
    if half:
        weights |= {name: _as_float16(name, weights[name]) for name, _ in network.named_parameters()}
    return write_model_file(output, model, weights)


def scale_advice(header: ModelHeader) -> str:
    """What to tell of a model file that runs images at their own size though it was trained at another; "" if nothing.

    Validation scores are those at the scale of training, so that the model is not served as it was scored.

    Args:
        header: of the model file.
    """
    data = header.provenance.get("data")
    datasets = data.get("datasets") if isinstance(data, Mapping) else None
    trained = {
        str(dataset["dataset"]): dataset["short_side_px"]
        for dataset in datasets or []
        if isinstance(dataset, Mapping) and dataset.get("short_side_px") and "dataset" in dataset
    }
    if header.short_side_px is not None or not trained:
        return ""
    scales = ", ".join(f"{name} at a short side of {px} px" for name, px in trained.items())
    options = " or ".join(f"--short-side-px {px}" for px in dict.fromkeys(trained.values()))
    return (
        f"the model was trained and validated on {scales}, but runs images at their own size, where its scores may be "
        f"lower; to run it as it was trained, package it with {options}"
    )


def _as_float16(name: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):  # it is refused below, by name
        halved = values.astype(np.float16)
    if not np.isfinite(halved).all():
        raise ModelFileError(
            f"weight '{name}' holds {np.abs(values).max():g}, and float16 ends at {np.finfo(np.float16).max:g}; "
            "package without --half"
        )
    return halved


def _header_of(
    checkpoint: Mapping[str, Any], short_side_px: int | None, weights_licence: str, path: Path
) -> ModelHeader:
    header = checkpoint[HEADER_KEY]
    provenance = {key: header.get(key) for key in ("recipe", "data", "scores", "software")}
    provenance |= {key: header[key] for key in ("class_weights", "initialisation") if header.get(key)}
    provenance |= {key: checkpoint[key] for key in ("epoch", "global_step")}
    provenance["averaged_weights"] = "averaging_state" in checkpoint
    return ModelHeader(
        parse_architecture(header["architecture"]),
        Taxonomy.from_dict(header["taxonomy"]),
        _rgb(checkpoint, "mean", path),
        _rgb(checkpoint, "std", path),
        short_side_px,
        weights_licence,
        provenance,
    )


def _rgb(checkpoint: Mapping[str, Any], name: str, path: Path) -> tuple[float, float, float]:
    values = checkpoint["state_dict"].get(f"{NETWORK_PREFIX}{name}")
    if values is None or values.numel() != 3:
        raise CheckpointError(f"{path} is damaged: it holds no normalisation '{name}'; use another checkpoint")
    red, green, blue = (float(v) for v in values.flatten())
    return red, green, blue
