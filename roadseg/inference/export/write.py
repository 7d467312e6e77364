"""Exporting: a model file becomes an artefact, verified before it gets its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import roadseg
from roadseg.errors import EngineError, name_missing_extra
from roadseg.inference.artefact import Artefact, ArtefactFacts, read_artefact, seal
from roadseg.inference.engines import make_engine
from roadseg.inference.export.staging import check_output, staged
from roadseg.inference.export.verify import Verification, VerificationFrames, refuse_mismatch
from roadseg.inference.export.verify import verify as compare_with_torch
from roadseg.inference.package import ModelFile


@dataclass(frozen=True)
class Writer:
    """What writes one format.

    Attributes:
        function: "module:name" of a function as `roadseg.inference.export.runtimes` describes it.
        precisions: that it takes; the first is float32, since less is only used when asked for.
        packages: whose versions the artefact notes, beside roadseg's.
    """

    function: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]


WRITERS: Mapping[str, Writer] = {
    "onnx": Writer(
        "roadseg.inference.export.runtimes:write_onnx", ("f32", "f16"), ("torch", "onnx", "onnxscript", "onnxruntime")
    ),
    "openvino": Writer(
        "roadseg.inference.export.openvino:write_openvino",
        ("f32", "bf16", "f16", "int8"),
        ("torch", "onnx", "onnxscript", "openvino", "nncf"),
    ),
    "tensorrt": Writer(
        "roadseg.inference.export.tensorrt:write_tensorrt",
        ("f32", "f16"),
        ("torch", "onnx", "onnxscript", "tensorrt"),
    ),
    "torch": Writer("roadseg.inference.export.runtimes:write_torch", ("f32", "bf16"), ("torch",)),
}
"""Format -> its writer."""

UNVERIFIED = "it was exported with verify=False: nobody compared it with its model file"


def export_model(
    model: ModelFile,
    kind: str,
    precision: str,
    output: str | Path,
    *,
    frames: VerificationFrames | None = None,
    static_size: tuple[int, int] | None = None,
    allow_mismatch: bool = False,
    verify: bool = True,
    report: Callable[[Verification], None] | None = None,
    **options: Any,
) -> Artefact:
    """Export a model file and verify what came of it; nothing is left under `output` if that fails.

    Args:
        model: the model file.
        kind: format, one of `WRITERS`.
        precision: "auto", which is f32, or one of the format's precisions.
        output: folder to make; an artefact that is there is replaced.
        frames: pictures to verify on; None takes made-up ones, see `roadseg.inference.export.verify`.
        static_size: (H, W) of the only images that the artefact shall take; None takes every size.
        allow_mismatch: whether to keep an artefact that differs from its model file by more than is allowed. What was
            found is stored in it either way.
        verify: whether to compare with torch; if not, the artefact says so, and nobody knows what it computes.
        report: is called with what was found, unless that is refused.
        options: for the format's writer, such as frames to calibrate int8 with.

    Returns:
        The artefact, as it can be read from `output`.

    Raises:
        EngineError: when format, precision or size cannot be.
        OutputError: when `output` is something else, or cannot be written.
        MismatchError: when what was exported computes something else than the model file.
        MissingExtraError: when the format's packages are not installed.
    """
    writer, precision = check_target(kind, precision, static_size)
    versions = _versions(writer.packages)
    facts = ArtefactFacts(
        kind, precision, model.header, model.digest, static_size, versions=versions, model_name=model.name
    )
    output = check_output(output)
    with staged(output) as folder, name_missing_extra(f"exporting to {kind}"):
        details = _function(writer)(model, precision, folder, facts.metadata(), static_size=static_size, **options)
        facts = replace(facts, details=details, unverified=UNVERIFIED)
        artefact = seal(folder, facts)
        if verify:
            engine = make_engine(artefact, kind, precision, "auto")
            found = compare_with_torch(engine, model, frames, static_size)
            del engine  # it may hold the files open, which some systems do not rename then
            if not allow_mismatch:
                refuse_mismatch(found, kind, precision)
            if report is not None:
                report(found)
            seal(folder, replace(facts, verification=found.to_dict(), unverified=""))
    return read_artefact(output)


def check_target(kind: str, precision: str, static_size: tuple[int, int] | None) -> tuple[Writer, str]:
    """The writer of a format and the precision that is meant; arguments as of `export_model`.

    Raises:
        EngineError: when format, precision or size cannot be.
    """
    if kind not in WRITERS:
        raise EngineError(f"no format '{kind}'; known: {', '.join(WRITERS)}")
    writer = WRITERS[kind]
    precision = writer.precisions[0] if precision == "auto" else precision
    if precision not in writer.precisions:
        able = ", ".join(name for name, other in WRITERS.items() if precision in other.precisions) or "no format"
        raise EngineError(
            f"format '{kind}' has no precision '{precision}'; use {', '.join(writer.precisions)} ({precision}: {able})"
        )
    if static_size is not None and min(static_size) < 1:
        raise EngineError(f"the size is {static_size[0]}x{static_size[1]} px; use sides from 1")
    return writer, precision


def _function(writer: Writer) -> Callable[..., dict[str, Any]]:
    module, _, name = writer.function.partition(":")
    function: Callable[..., dict[str, Any]] = getattr(import_module(module), name)
    return function


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {"roadseg": roadseg.__version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # some come under other names, or are not needed for every precision
            continue
    return found
