"""The artefact: a folder that `roadseg export` makes, with a model in the form that one runtime takes.

It holds the runtime's files and `artefact.json`, sorted JSON with everything that a mask depends on: the model file's
header and digest, what it was exported to, and the SHA-256 of each file beside it. So the SHA-256 of `artefact.json`
stands for the whole folder. Digests tell damage and mixed-up files, not who made the folder: load artefacts from those
you trust. Reading and writing need neither torch nor the runtime.
"""

import hashlib
import json
import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roadseg.errors import ArtefactError, ModelFileError, OutputError
from roadseg.inference.choices import ARTEFACT_PRECISIONS
from roadseg.inference.package import ModelFile, ModelHeader, file_digest, parse_header, read_model_file

ARTEFACT_VERSION = 1
DESCRIPTION = "artefact.json"

FILES = {
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "tensorrt": ("model.plan",),
    "torch": ("model.pt2",),
}
"""Format -> the files that its runtime reads."""

_SUFFIXES = {Path(name).suffix for names in FILES.values() for name in names} | {Path(DESCRIPTION).suffix}


@dataclass(frozen=True)
class ArtefactFacts:
    """What an artefact is; everything about it but its files.

    Attributes:
        format: one of `FILES`.
        precision: one of `ARTEFACT_PRECISIONS`.
        header: of the model file that it was made of.
        model_digest: SHA-256 of that model file, in hexadecimal.
        static_size: (H, W) of the only images that it takes; None takes every size.
        verification: what was compared with the model file, and found. Plain JSON values; None where that was not done.
        unverified: why that was not done; empty where it was.
        versions: of the packages that made it.
        details: what else the format's writer notes, such as the device that a plan was built for. Plain JSON values.
        model_name: of that model file, for people; empty in artefacts that do not say.
    """

    format: str
    precision: str
    header: ModelHeader
    model_digest: str
    static_size: tuple[int, int] | None = None
    verification: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    unverified: str = ""
    model_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "artefact_version": ARTEFACT_VERSION,
            "format": self.format,
            "precision": self.precision,
            "model": json.loads(self.header.to_json()),
            "model_digest": self.model_digest,
            "model_name": self.model_name,
            "static_size": None if self.static_size is None else list(self.static_size),
            "verification": None if self.verification is None else dict(self.verification),
            "unverified": self.unverified,
            "versions": dict(self.versions),
            "details": dict(self.details),
        }

    def metadata(self) -> str:
        """Sorted JSON for the runtime file's own metadata; it is written before anything could be verified."""
        facts = {key: value for key, value in self.to_dict().items() if key not in ("verification", "unverified")}
        return json.dumps(facts, sort_keys=True)


@dataclass(frozen=True)
class Artefact:
    """An artefact that was read, its files as they were written.

    Attributes:
        facts: what it is.
        digest: SHA-256 of its `artefact.json`, in hexadecimal; it stands for the whole folder.
        path: the folder.
    """

    facts: ArtefactFacts
    digest: str
    path: Path

    @property
    def header(self) -> ModelHeader:
        """Of the model file that it was made of."""
        return self.facts.header

    @property
    def name(self) -> str:
        """For people: the name of the model file that it was made of, else the folder's."""
        return self.facts.model_name or os.path.basename(os.path.abspath(self.path))

    def file(self, name: str) -> Path:
        """The path of one of its files."""
        return self.path / name


def is_artefact(path: Path) -> bool:
    """Whether a path is a folder with an `artefact.json`."""
    return (path / DESCRIPTION).is_file()


def read_model(path: Path) -> ModelFile | Artefact:
    """Read a model file, or the folder of an exported model.

    Raises:
        ModelFileError: when there is none, or it is damaged; of a folder, an ArtefactError.
    """
    if path.is_dir():
        return read_artefact(path)
    _refuse_part(path)
    return read_model_file(path)


def read_artefact(folder: str | Path) -> Artefact:
    """Read an artefact and check its files.

    Args:
        folder: that `roadseg export` made.

    Raises:
        ArtefactError: when it is no artefact, is damaged or incomplete, a file was changed, or it is of another
            version.
    """
    folder = Path(folder)
    description = folder / DESCRIPTION
    if not description.is_file():
        raise ArtefactError(
            f"{folder} is no exported model: there is no {DESCRIPTION} in it; make one with `roadseg export MODEL "
            "--format onnx -o DIR`"
        )
    try:
        text = description.read_bytes()
        document = json.loads(text)
        _refuse_other_version(document["artefact_version"], description)
        facts, digests = _parse(document, description)
        _check_files(folder, facts.format, digests)
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:  # damaged JSON is a ValueError
        raise ArtefactError(f"{description} is damaged ({type(error).__name__}: {error}); export it again") from error
    return Artefact(facts, hashlib.sha256(text).hexdigest(), folder)


def _refuse_part(path: Path) -> None:
    """Refuse a file of an artefact, or of a runtime: the folder says what its classes are."""
    if path.suffix not in _SUFFIXES:
        return
    if is_artefact(path.parent):
        raise ArtefactError(f"{path} is a part of an exported model; give its folder, {path.parent}")
    raise ArtefactError(
        f"{path} is no model file; give the folder that `roadseg export MODEL --format FORMAT -o DIR` made, which says "
        "what the classes are, or a .safetensors file"
    )


def seal(folder: Path, facts: ArtefactFacts) -> Artefact:
    """Write the `artefact.json` of a folder that holds a runtime's files.

    Raises:
        ArtefactError: when a file is missing.
        OutputError: when it cannot be written.
    """
    missing = [name for name in FILES[facts.format] if not (folder / name).is_file()]
    if missing:
        raise ArtefactError(
            f"{folder} lacks {', '.join(missing)}, which an artefact of the format '{facts.format}' holds"
        )
    document = facts.to_dict() | {"files": {name: file_digest(folder / name) for name in FILES[facts.format]}}
    text = (json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    try:
        (folder / DESCRIPTION).write_bytes(text)
    except OSError as error:
        raise OutputError(f"cannot write {folder / DESCRIPTION}: {error.strerror or error}; make room") from error
    return Artefact(facts, hashlib.sha256(text).hexdigest(), folder)


def _refuse_other_version(version: Any, description: Path) -> None:
    if type(version) is not int:
        raise ValueError(f"artefact_version {version!r}")
    if version != ARTEFACT_VERSION:
        raise ArtefactError(
            f"{description} has version {version}; this roadseg reads version {ARTEFACT_VERSION}: update roadseg, or "
            "export the model again"
        )


def _parse(document: Any, description: Path) -> tuple[ArtefactFacts, Mapping[str, str]]:
    if document["format"] not in FILES or document["precision"] not in ARTEFACT_PRECISIONS:
        raise ValueError(f"format {document['format']!r} in precision {document['precision']!r}")
    try:
        header = parse_header(json.dumps(document["model"]), description)
    except ModelFileError as error:
        raise ArtefactError(f"{error}, or export it again") from error
    facts = ArtefactFacts(
        document["format"],
        document["precision"],
        header,
        _text(document["model_digest"]),
        _size(document["static_size"]),
        None if document["verification"] is None else _plain(document["verification"]),
        _plain(document["versions"]),
        _plain(document["details"]),
        _text(document["unverified"]),
        _text(document.get("model_name", "")),  # older ones do not say
    )
    return facts, _plain(document["files"])


def _check_files(folder: Path, kind: str, digests: Mapping[str, str]) -> None:
    for name in FILES[kind]:
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{folder} lacks {name}; copy the whole folder, or export the model again")
        found = file_digest(path)
        if found != digests[name]:
            raise ArtefactError(
                f"{path} is not the file that was exported: its SHA-256 is {found}, {DESCRIPTION} says "
                f"{digests[name]}; copy the folder again, or export the model again"
            )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a text is expected")
    return value


def _plain(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} where an object is expected")
    return value


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = value
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise ValueError(f"static_size {value!r}")
    return height, width
