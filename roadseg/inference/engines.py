"""Engines: what runs a network. Each takes uint8 images and gives masks, so that 8-bit planes cross the border."""

import os
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from roadseg.errors import EngineError, is_installed, name_missing_extra
from roadseg.inference.artefact import Artefact
from roadseg.inference.bundled import name_to_type
from roadseg.inference.choices import PRECISIONS
from roadseg.inference.package import ModelFile
from roadseg.inference.scale import working_size

_ARTEFACT_ENGINES = {
    "onnx": "roadseg.inference.onnx_engine:OnnxEngine",
    "openvino": "roadseg.inference.openvino_engine:OpenVinoEngine",
    "tensorrt": "roadseg.inference.tensorrt_engine:TensorRtEngine",
    "torch": "roadseg.inference.torch_program:ProgramEngine",
}
"""Format of an artefact -> what makes its engine, of the artefact and a device. None is imported before it is used."""

MODEL_FILE_ENGINES = {
    "torch": "roadseg.inference.torch_engine:TorchEngine",
    "torch-compile": "roadseg.inference.compiled_engine:CompiledEngine",
}
"""Name of an engine -> what makes it, of a model file, a precision and a device. The others run artefacts only."""

_PACKAGES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "torch": "torch",
    "torch-compile": "torch",
}
"""Engine -> the package that runs it."""

ENGINES = ("auto", *dict.fromkeys((*MODEL_FILE_ENGINES, *_ARTEFACT_ENGINES)))
_TORCH_PRECISIONS = ("f32", "bf16")

THREADS_VARIABLE = "ROADSEG_THREADS"


Output = Literal["mask", "confidence", "logits"]
"""What an engine computes of an image.

mask: (B, H, W) uint8 of class ids, at the image's own size; 255 everywhere in an image of which the network's logits
    are not all finite.
confidence: (B, H, W) float32 in 0..1, the probability of the chosen class, at the image's own size; NaN everywhere in
    such an image.
logits: (B, C, h, w) float32 before softmax, at the size that the network saw; mask and confidence are those of these
    logits after bilinear interpolation to the image's size.
"""


class Engine(Protocol):
    """Runs one network on one device. Calls from several threads are allowed.

    Attributes:
        name: as in `ENGINES`.
        device: that it runs on: "cpu", or another.
        precision: that it computes in.
        special_sizes: images of so many sizes, the first that come, are run by networks compiled for their size, which
            differ from the one for all others in the last bits of logits; 0 where no image depends on earlier ones.
        batches: whether images of a batch run at once; where they run one by one, several only take memory.
        streams: so many calls from different threads run side by side, each on its part of the device; further ones
            would only slow these down.
    """

    name: str
    device: str
    precision: str
    special_sizes: int
    batches: bool
    streams: int

    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """Segment images of one size; computes nothing that is not asked for.

        Args:
            images: (B, H, W, 3) uint8 RGB.
            outputs: see `Output`.
            rescale: whether to bring images to the model's inference scale (`roadseg.inference.scale`); otherwise the
                network sees them as they are.

        Returns:
            The outputs that were asked for, by name.

        Raises:
            EngineError: when images are of another type or shape, or of a size that the engine was not made for.
        """
        ...


def make_engine(model: ModelFile | Artefact, engine: str, precision: str, device: str, *, streams: int = 1) -> Engine:
    """Make the engine that was asked for.

    Args:
        model: what to run.
        engine: one of `ENGINES`. An artefact runs in the engine of its format, a model file in torch or, converted, in
            openvino; for "auto", see `roadseg.inference.automatic`.
        precision: "auto" or one of `PRECISIONS`. An artefact has its own; of a model file, "auto" is f32.
        device: "auto", "cpu", "cuda" or "cuda:N".
        streams: how many images shall run side by side on a CPU in OpenVINO; other engines have one stream.

    Raises:
        EngineError: when a name is unknown, the model cannot run so, the device is not there, or `streams` is no number
            from 1.
        ArtefactError: when the runtime cannot read the artefact.
        MissingExtraError: when the engine's packages are not installed.
    """
    _refuse_choice(model, engine, precision)
    if type(streams) is not int or streams < 1:
        raise EngineError(f"streams is {streams!r}; use a whole number from 1")
    if isinstance(model, Artefact):
        own = model.facts.format
        with name_missing_extra(f"the {own} engine"):
            return _maker(_ARTEFACT_ENGINES[own])(model, device, **({"streams": streams} if own == "openvino" else {}))
    if engine == "auto":
        from roadseg.inference.automatic import automatic_engine

        return automatic_engine(model, precision, device, streams)
    if engine == "openvino":
        from roadseg.inference.automatic import openvino_engine

        return openvino_engine(model, precision, device, streams)
    with name_missing_extra(f"the {engine} engine"):
        return _maker(MODEL_FILE_ENGINES[engine])(model, "f32" if precision == "auto" else precision, device)


def check_choice(model: ModelFile | Artefact, engine: str, precision: str) -> None:
    """Refuse what `make_engine` would refuse on any device; no runtime is loaded for that.

    Args:
        model: what is to run.
        engine: as of `make_engine`.
        precision: as of `make_engine`.

    Raises:
        EngineError: when a name is unknown, the model cannot run so, or `ROADSEG_THREADS` is no number.
        MissingExtraError: when the engine's package is not installed.
    """
    _refuse_choice(model, engine, precision)
    thread_count()
    if isinstance(model, Artefact):
        engine = model.facts.format
    elif engine == "auto":
        engine = "openvino" if is_installed("openvino") else "torch"
    with name_missing_extra(f"the {engine} engine"):
        if not is_installed(_PACKAGES[engine]):
            raise ModuleNotFoundError(name=_PACKAGES[engine])


def _refuse_choice(model: ModelFile | Artefact, engine: str, precision: str) -> None:
    if engine not in ENGINES:
        raise EngineError(f"no engine '{engine}'; known: {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"no precision '{precision}'; known: {', '.join(PRECISIONS)}")
    if isinstance(model, Artefact):
        _refuse_for_artefact(model, engine, precision)
    elif engine in ("auto", "openvino"):
        from roadseg.inference.automatic import precision_of

        precision_of(model, precision)
    else:
        _refuse_for_model_file(model, engine, precision)


def _refuse_for_model_file(model: ModelFile, engine: str, precision: str) -> None:
    if engine not in MODEL_FILE_ENGINES:
        raise EngineError(
            f"engine '{engine}' does not run model files; export it first: `roadseg export {name_to_type(model.path)} "
            f"--format {engine} -o DIR`, and give DIR"
        )
    if precision not in ("auto", *_TORCH_PRECISIONS):
        raise EngineError(f"the {engine} engine has no precision '{precision}'; use {' or '.join(_TORCH_PRECISIONS)}")


def _refuse_for_artefact(artefact: Artefact, engine: str, precision: str) -> None:
    own = artefact.facts
    if engine not in ("auto", own.format):
        raise EngineError(
            f"{artefact.path} was exported for the engine '{own.format}' and cannot run in '{engine}'; use engine "
            f"'auto', or {_instead(engine)}"
        )
    if precision not in ("auto", own.precision):
        raise EngineError(
            f"{artefact.path} was exported in {own.precision} and cannot run in {precision}; use precision 'auto', or "
            f"export the model with --precision {precision}"
        )


def _instead(engine: str) -> str:
    if engine in _ARTEFACT_ENGINES:
        return f"export the model with --format {engine}"
    return "give the model file that it was exported from"


def _maker(name: str) -> Callable[..., Engine]:
    module, _, maker = name.partition(":")
    return cast(Callable[..., Engine], getattr(import_module(module), maker))


def check_images(images: npt.NDArray[np.uint8], outputs: Collection[str]) -> None:
    """What every engine refuses before it runs.

    Raises:
        EngineError: when images are not (B, H, W, 3) uint8 with B, H and W from 1, or an output is unknown.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise EngineError(
            f"images are {images.dtype} of shape {images.shape}; give uint8 (B, H, W, 3), RGB values 0..255"
        )
    if unknown := sorted(set(outputs) - set(get_args(Output))):
        raise EngineError(f"no output '{unknown[0]}'; known: {', '.join(get_args(Output))}")


def size_seen(artefact: Artefact, size: tuple[int, int], rescale: bool) -> tuple[int, int]:
    """(h, w) at which the network of an artefact sees images of (H, W).

    Args:
        artefact: that runs.
        size: of the images.
        rescale: as in `Engine.run`.

    Raises:
        EngineError: when the artefact was exported for one size and these images need another.
    """
    working = working_size(size, artefact.header.short_side_px) if rescale else size
    static = artefact.facts.static_size
    if static is None:
        return working
    only = working_size(static, artefact.header.short_side_px)
    if size != static or working != only:
        raise EngineError(
            f"{artefact.path} was exported for images of {static[0]}x{static[1]} px only, seen at {only[0]}x{only[1]}; "
            f"these are {size[0]}x{size[1]} px, seen at {working[0]}x{working[1]}: export the model without --size"
        )
    return working


def thread_count() -> int | None:
    """How many threads an engine may use on the CPU: `ROADSEG_THREADS`; None, its own choice, where it is not set.

    Raises:
        EngineError: when the variable is no whole number from 1.
    """
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise EngineError(f"{THREADS_VARIABLE} is '{text}'; set it to a whole number from 1, or leave it out")
    return int(text)
