"""The model file: one `.safetensors` with everything that a mask depends on.

The header's metadata holds one key, `roadseg`, of sorted JSON: format version, architecture, taxonomy, normalisation,
inference scale, licence of the weights, provenance. Nothing in it is executed, so it is safe to load from anywhere.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from roadseg.errors import ModelFileError, TaxonomyError
from roadseg.inference.result import write_whole
from roadseg.taxonomy import Taxonomy

FORMAT_VERSION = 1
MIN_SHORT_SIDE_PX, MAX_SHORT_SIDE_PX = 32, 4096
UNSPECIFIED_LICENCE = "unspecified"
_KEY = "roadseg"
_PICKLE_SUFFIXES = frozenset({".ckpt", ".pth", ".pt", ".pkl"})


@dataclass(frozen=True)
class Architecture:
    """What `build_model` needs to make the network again.

    Attributes:
        backbone: name in the zoo.
        decoder: name in the zoo.
        num_classes: classes of the last projection.
        options: of the decoder.
        backbone_options: variations of the backbone.
    """

    backbone: str
    decoder: str
    num_classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    backbone_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelHeader:
    """Everything in a model file but its weights.

    Attributes:
        architecture: the network.
        taxonomy: its classes.
        mean: of the RGB values, in 0..255.
        std: of the RGB values, in 0..255.
        short_side_px: images are resized to this short side before the network; None runs them at their own size.
        weights_licence: under which terms the weights may be used.
        provenance: how they were made: data, recipe, versions, scores. Plain JSON values.
    """

    architecture: Architecture
    taxonomy: Taxonomy
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side_px: int | None = None
    weights_licence: str = UNSPECIFIED_LICENCE
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Sorted JSON, the same for the same header."""
        document = {
            "format_version": FORMAT_VERSION,
            "architecture": asdict(self.architecture),
            "taxonomy": self.taxonomy.to_dict(),
            "normalisation": {"mean": list(self.mean), "std": list(self.std)},
            "inference": {"short_side_px": self.short_side_px},
            "weights_licence": self.weights_licence,
            "provenance": dict(self.provenance),
        }
        return json.dumps(document, sort_keys=True)


@dataclass(frozen=True)
class ModelFile:
    """A model file that was read.

    Attributes:
        header: what the weights are.
        tensors: weights by the network's parameter names.
        digest: SHA-256 of the file, in hexadecimal.
        path: where it was read from.
    """

    header: ModelHeader
    tensors: Mapping[str, npt.NDArray[Any]]
    digest: str
    path: Path

    @property
    def name(self) -> str:
        """For people: the file's, without folder and `.safetensors`."""
        return self.path.name.removesuffix(".safetensors")


def write_model_file(path: str | Path, header: ModelHeader, tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write a model file, whole or not at all.

    Args:
        path: ends in `.safetensors`.
        header: see `ModelHeader`.
        tensors: weights by parameter name.

    Returns:
        The file's SHA-256 digest, in hexadecimal.

    Raises:
        ModelFileError: a wrong file ending, or weights that are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ModelFileError(f"a model file ends in .safetensors; '{path}' does not")
    _refuse_not_finite(tensors, path)
    data = safetensors.numpy.save(
        {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, metadata={_KEY: header.to_json()}
    )
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def read_model_file(path: str | Path) -> ModelFile:
    """Read a model file.

    Raises:
        ModelFileError: when the file is missing, a pickle, not a roadseg model file, damaged, or too new.
    """
    path = Path(path)
    _refuse_wrong_kind(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if path.suffix != ".safetensors":
            raise ModelFileError(
                f"{path} is another kind of file; a model file ends in .safetensors: make one with `roadseg package "
                "CKPT -o FILE`"
            ) from error
        raise ModelFileError(
            f"{path} is not a readable .safetensors file ({error}); it may be cut off: copy it again"
        ) from error
    if _KEY not in metadata:
        raise ModelFileError(
            f"{path} holds weights but no roadseg header; make a model file with `roadseg package CKPT -o FILE`"
        )
    _refuse_not_finite(tensors, path)
    return ModelFile(parse_header(metadata[_KEY], path), tensors, file_digest(path), path)


def _refuse_not_finite(tensors: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise ModelFileError(
                f"{path}: weight '{name}' holds NaN or infinite values: the training diverged; lower its learning rate"
            )


def _refuse_wrong_kind(path: Path) -> None:
    if not path.exists():
        raise ModelFileError(f"no model file at {path}; make one with `roadseg package CKPT -o FILE`")
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder, perhaps an exported model; give the .safetensors file itself")
    if not path.is_file():  # to open a pipe would wait for who writes to it, and hold up every thread meanwhile
        raise ModelFileError(f"{path} is no file but a pipe, socket or device; give a .safetensors file")
    if path.suffix in _PICKLE_SUFFIXES:
        raise ModelFileError(
            f"{path} is a training checkpoint, which can run code when loaded; turn it into a model file first: "
            f"`roadseg package {path} -o {path.with_suffix('.safetensors').name}`"
        )


def parse_header(text: str, path: Path) -> ModelHeader:
    """A header from its JSON.

    Raises:
        ModelFileError: when it is damaged, or of another format version; the message names `path`.
    """
    try:
        document = json.loads(text)
        version = document["format_version"]
        if type(version) is not int:
            raise ValueError(f"format version {version!r}")
        if version != FORMAT_VERSION:
            raise ModelFileError(
                f"{path} has format version {version}; this roadseg reads version {FORMAT_VERSION}: update roadseg"
            )
        return ModelHeader(
            parse_architecture(document["architecture"]),
            Taxonomy.from_dict(document["taxonomy"], f"{path}: taxonomy"),
            _three(document["normalisation"]["mean"]),
            _three(document["normalisation"]["std"], above=0),
            _short_side(document["inference"]["short_side_px"]),
            _typed(document["weights_licence"], str),
            _typed(document["provenance"], dict),
        )
    except (
        json.JSONDecodeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        TaxonomyError,
    ) as error:
        raise ModelFileError(
            f"{path} has a damaged header ({type(error).__name__}: {error}); package it again"
        ) from error


def parse_architecture(data: Any) -> Architecture:
    """An architecture from plain values.

    Raises:
        TypeError: when a part is missing, unknown or of the wrong type.
    """
    architecture = Architecture(**_typed(data, dict))
    for value, kind in (
        (architecture.backbone, str),
        (architecture.decoder, str),
        (architecture.num_classes, int),
        (architecture.options, dict),
        (architecture.backbone_options, dict),
    ):
        _typed(value, kind)
    return architecture


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} where a {kind.__name__} is expected")
    return value


def _three(values: Any, above: float = -math.inf) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    if not all(above < v < math.inf for v in (red, green, blue)):
        raise ValueError(f"normalisation {values}")
    return red, green, blue


def _short_side(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not MIN_SHORT_SIDE_PX <= value <= MAX_SHORT_SIDE_PX):
        raise ValueError(f"short_side_px {value!r}")
    return value


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
