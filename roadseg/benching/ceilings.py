"""The most that an engine computes in a second on this machine: measured on matrix products, nothing else.

Inside the engine runs a chain of square products x W1 W2 W3 W4, each matrix `side` wide. A chain and not one product,
because what enters and leaves is float32: at low precision its conversion would take a good part of a single product's
time, which a network, whose layers follow each other, pays only once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.errors import EngineError
from roadseg.inference.engines import thread_count

LINKS = 4
"""Products in the chain."""

Run = Callable[[], Any]


@dataclass(frozen=True)
class CeilingKey:
    """Whose ceiling: an engine's, at a precision, on a device."""

    engine: str
    precision: str
    device: str


def operations(side: int) -> int:
    """Multiplications and additions of the chain: 2 side^3 in each product."""
    return LINKS * 2 * side**3


def ceiling_gflops(side: int, seconds: float) -> float:
    """10^9 operations a second of a chain that took `seconds`."""
    return operations(side) / seconds / 1e9


def share_of_ceiling(macs: int, batch: int, seconds: float, ceiling: float) -> float:
    """What share of a ceiling a network reaches.

    Args:
        macs: multiply-accumulates for one image; each is two operations.
        batch: images that ran together.
        seconds: that they took.
        ceiling: 10^9 operations a second.
    """
    return 2 * macs * batch / seconds / 1e9 / ceiling


def make_chain(key: CeilingKey, side: int) -> Run:
    """The chain, ready to run in an engine.

    Args:
        key: which engine, precision and device.
        side: of the matrices.

    Returns:
        A function that runs the chain once, to its end, and gives the product as a float32 (side, side) array.

    Raises:
        EngineError: when no chain is written for that engine and precision.
        ModuleNotFoundError: when a package is not installed.
    """
    if key.engine not in _MAKERS:
        raise EngineError(f"no matrix products are measured in '{key.engine}'; known: {', '.join(sorted(_MAKERS))}")
    return _MAKERS[key.engine](key, side)


def chain_operands(side: int) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
    """Operands x and W of the chain, (side, side) each: the products stay within the range of x."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (side, side)).astype(np.float32)
    # Of variance 1/side, so that a product varies as its left side does.
    weight = (rng.uniform(-1, 1, (side, side)) * np.sqrt(3 / side)).astype(np.float32)
    return x, [np.roll(weight, link + 1, axis=0) for link in range(LINKS)]


def _refuse(key: CeilingKey, known: str) -> EngineError:
    return EngineError(f"no {key.precision} matrix products are measured in {key.engine}; known: {known}")


def _torch_chain(key: CeilingKey, side: int) -> Run:
    import torch

    types = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    if key.precision not in types:
        raise _refuse(key, ", ".join(types))
    x, weights = chain_operands(side)
    start = torch.from_numpy(x).to(key.device, types[key.precision])
    links = [torch.from_numpy(weight).to(key.device, types[key.precision]) for weight in weights]

    @torch.inference_mode()
    def run() -> npt.NDArray[np.float32]:
        product = start
        for link in links:
            product = product @ link
        return product.float().cpu().numpy()  # waits for a GPU

    return run


def _openvino_chain(key: CeilingKey, side: int) -> Run:
    from roadseg.benching.openvino_chain import chain_model
    from roadseg.inference.openvino_core import openvino_core
    from roadseg.inference.openvino_engine import check_precision

    core, device = openvino_core(), key.device.upper()
    check_precision(core, device, key.precision)  # it would take another precision without a word
    x, weights = chain_operands(side)
    hint = "f32" if key.precision == "int8" else key.precision  # int8 is in the model itself
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if (threads := thread_count()) is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(chain_model(x, weights, key.precision == "int8"), device, settings)
    request = compiled.create_infer_request()

    def run() -> npt.NDArray[np.float32]:
        request.infer({0: x}, share_inputs=True)
        return request.get_output_tensor().data

    return run


def _onnx_chain(key: CeilingKey, side: int) -> Run:
    import onnxruntime

    from roadseg.benching.onnx_chain import chain_bytes

    precisions = ("f32", "f16", "int8")
    if key.precision not in precisions:
        raise _refuse(key, ", ".join(precisions))
    x, weights = chain_operands(side)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if (threads := thread_count()) is not None:
        options.intra_op_num_threads = threads
    on_gpu = key.device.startswith("cuda")
    providers = ["CUDAExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(chain_bytes(x, weights, key.precision), options, providers=providers)
    return lambda: session.run(["product"], {"x": x})[0]


_MAKERS: dict[str, Callable[[CeilingKey, int], Run]] = {
    "torch": _torch_chain,
    "onnx": _onnx_chain,
    "openvino": _openvino_chain,
}
