"""The matrix products that engines are compared with: their arithmetic, and that each engine computes them."""

import numpy as np
import pytest

from roadseg.benching import ceilings
from roadseg.benching.ceilings import (
    LINKS,
    CeilingKey,
    ceiling_gflops,
    chain_operands,
    make_chain,
    operations,
    share_of_ceiling,
)
from roadseg.benching.machine import describe_machine
from roadseg.benching.timing import interleaved_times, summarise
from roadseg.errors import EngineError
from tests.benching.test_timing import Clock

SIDE = 48
_EXACT_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}


def exact_product():
    x, weights = chain_operands(SIDE)
    product = x.astype(np.float64)
    for weight in weights:
        product = product @ weight.astype(np.float64)
    return product


def test_operations_are_a_multiplication_and_an_addition_each():
    # A product of 3x3 matrices: 9 results of 3 multiplications and as many additions to a sum.
    assert operations(3) == LINKS * 9 * (3 + 3)


def test_a_ceiling_is_operations_by_the_median_second():
    clock = Clock()
    (times,) = interleaved_times([clock.takes(0.5)], 5, clock=clock)
    # 4 products x 2 x 2048^3 = 68.72e9 operations in half a second
    assert ceiling_gflops(2048, summarise(times).median_s) == pytest.approx(137.438953472)


def test_the_share_counts_two_operations_a_multiply_accumulate_and_each_image():
    # 38 GMAC in 0.33 s are 230.3 GFLOP/s, of 235: the figures of a two-core server.
    assert share_of_ceiling(38_000_000_000, 1, 0.33, 235.0) == pytest.approx(76 / 0.33 / 235)
    assert share_of_ceiling(1_000_000_000, 8, 2.0, 16.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("engine", "precision", "error"),
    [
        ("torch", "f32", 1e-5),
        ("torch", "bf16", 0.02),
        ("onnx", "f32", 1e-5),
        ("onnx", "int8", 0.05),
        ("openvino", "f32", 1e-5),
        ("openvino", "bf16", 0.02),
        ("openvino", "int8", 0.05),
    ],
)
def test_each_engine_computes_the_chain_and_at_its_precision(engine, precision, error, monkeypatch):
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    if precision == "int8" and not _EXACT_INT8 & set(describe_machine()["instructions"]):
        pytest.skip(f"products of 8-bit numbers saturate on a processor without {', '.join(sorted(_EXACT_INT8))}")
    monkeypatch.setenv("ROADSEG_THREADS", "1")
    try:
        run = make_chain(CeilingKey(engine, precision, "cpu"), SIDE)
    except EngineError as refusal:
        pytest.skip(str(refusal))
    expected = exact_product()
    run()
    product = run()  # operands must outlive the making
    assert product.dtype == np.float32 and product.shape == (SIDE, SIDE)
    found = np.sqrt(np.mean((product - expected) ** 2)) / expected.std()
    assert found < error
    if precision != "f32":  # or it was float32 under another name
        assert found > 5e-4


def test_products_neither_grow_nor_vanish():
    x, _ = chain_operands(SIDE)
    assert 0.5 < exact_product().std() / x.std() < 2


def test_what_is_not_written_is_refused_by_name():
    with pytest.raises(EngineError, match=r"'abacus'; known: .*torch"):
        make_chain(CeilingKey("abacus", "f32", "cpu"), SIDE)
    with pytest.raises(EngineError, match="no int8 matrix products are measured in torch; known: f32, bf16, f16"):
        make_chain(CeilingKey("torch", "int8", "cpu"), SIDE)


def test_a_precision_that_openvino_would_replace_is_refused(monkeypatch):
    pytest.importorskip("openvino")

    class Core:
        def get_property(self, device, name):
            return {"OPTIMIZATION_CAPABILITIES": ["FP32", "INT8"], "FULL_DEVICE_NAME": "Old CPU"}[name]

    monkeypatch.setattr("roadseg.inference.openvino_core.openvino_core", Core)
    with pytest.raises(EngineError, match="does not compute in bf16: OpenVINO names FP32, INT8"):
        ceilings.make_chain(CeilingKey("openvino", "bf16", "cpu"), SIDE)
