"""The OpenVINO engine and its networks; what every engine promises is in tests/contracts/test_engines.py."""

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13

from roadseg.errors import ArtefactError, EngineError
from roadseg.inference.artefact import ArtefactFacts, read_artefact, seal
from roadseg.inference.engines import THREADS_VARIABLE
from roadseg.inference.export.graph import compose
from roadseg.inference.export.openvino import convert, save, write_openvino
from roadseg.inference.export.tokens import flatten_tokens
from roadseg.inference.openvino_core import openvino_core
from roadseg.inference.openvino_engine import COMPILED_SIZES, MANY_SIZES, OpenVinoEngine
from roadseg.inference.predictor import load_predictor
from roadseg.inference.torch_engine import TorchEngine

RNG = np.random.default_rng(0)
HAS_BF16 = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def pictures(batch, height, width):
    coarse = RNG.integers(0, 256, (batch, height // 8 + 1, width // 8 + 1, 3))
    return coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width].astype(np.uint8)


@pytest.fixture(scope="module")
def artefact(tiny_artefacts):
    return tiny_artefacts("openvino", 64)


@pytest.fixture(scope="module")
def engine(artefact):
    return OpenVinoEngine(artefact, "cpu", threads=1)


def compiled_of(engine, outputs=("mask",), size=(80, 112)):
    """What OpenVINO runs for a task, operation by operation."""
    engine.run(pictures(1, *size), outputs)
    (task,) = [task for task in engine._compiled if task.outputs == tuple(sorted(outputs)) and task.size == size]
    return engine._compiled[task].result().network


def layers(network):
    return [node.get_rt_info()["layerType"].astype(str) for node in network.get_runtime_model().get_ordered_ops()]


def precisions(network):
    nodes = network.get_runtime_model().get_ordered_ops()
    return {node.get_friendly_name(): node.get_rt_info()["runtimePrecision"].astype(str) for node in nodes}


def test_f32_is_f32_on_processors_that_have_bf16_too(engine):
    assert "bf16" not in set(precisions(compiled_of(engine)).values())


def test_layer_norms_are_one_operation_each(engine, artefact):
    norms = sum(
        node.get_type_name() == "MVN" for node in openvino_core().read_model(artefact.file("model.xml")).get_ops()
    )
    found = layers(compiled_of(engine))
    assert norms > 10 and found.count("MVN") == norms and "RMS" not in found


def test_logits_alone_need_no_interpolation_and_no_choice_of_classes(engine):
    found = layers(compiled_of(engine, ("logits",), (64, 96)))
    assert "TopK" not in found and found.count("Output") == 1


def test_images_at_the_working_size_are_not_resampled(engine):
    names = precisions(compiled_of(engine, ("logits",), (64, 96)))
    assert not any("MatMul" in name for name in names if name.startswith("before"))


def test_an_engine_for_all_sizes_gives_the_same_as_one_for_each(engine, artefact):
    """Sizes alternate: what a network keeps from one must not reach the next."""
    flexible = OpenVinoEngine(artefact, "cpu", threads=1, compiled_sizes=0)
    batches = [pictures(1, *size) for size in ((80, 112), (33, 200), (80, 112))]
    for images in batches:
        ours, theirs = (one.run(images, ("mask", "logits")) for one in (engine, flexible))
        assert np.abs(ours["logits"] - theirs["logits"]).max() <= 1e-4 * np.ptp(ours["logits"])
        assert (ours["mask"] == theirs["mask"]).mean() > 0.999
    assert len(flexible._compiled) == 1


def test_a_mask_does_not_depend_on_what_else_is_in_the_batch(engine):
    images = pictures(3, 80, 112)
    together = engine.run(images, ("mask", "confidence"))
    for i, image in enumerate(images):
        alone = engine.run(image[None], ("mask", "confidence"))
        assert np.array_equal(alone["mask"][0], together["mask"][i])
        assert np.array_equal(alone["confidence"][0], together["confidence"][i])


def test_streams_give_the_same_bits_as_one_network_on_all_cores(artefact):
    engine = OpenVinoEngine(artefact, "cpu", threads=2)
    streaming = OpenVinoEngine(artefact, "cpu", threads=2, streams=2)
    images = pictures(8, 80, 112)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: streaming.run(image[None], ("logits",))["logits"], images))
    for image, logits in zip(images, found, strict=True):
        np.testing.assert_array_equal(logits, engine.run(image[None], ("logits",))["logits"])
    (compiled,) = (future.result().network for future in streaming._compiled.values())
    assert compiled.get_property("NUM_STREAMS") == 2
    assert not compiled.get_property("ENABLE_CPU_PINNING"), "two networks' streams would share a core"


def test_exported_models_take_streams_and_other_engines_have_one(tiny_artefacts, monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "2")
    for format_name, given in (("openvino", 2), ("onnx", 1), ("torch", 1)):
        predictor = load_predictor(tiny_artefacts(format_name, 64).path, device="cpu", streams=2)
        assert (predictor.engine.name, predictor.engine.streams) == (format_name, given)


@pytest.mark.parametrize("streams", [0, -1, 1.5, "2", True, None])
@pytest.mark.parametrize("format_name", ["openvino", "torch"])
def test_streams_are_a_whole_number_from_1(tiny_artefacts, format_name, streams):
    with pytest.raises(EngineError, match=rf"streams is {streams!r}; use a whole number from 1"):
        load_predictor(tiny_artefacts(format_name, 64).path, device="cpu", streams=streams)


@pytest.mark.parametrize(("asked", "threads", "given"), [(1, 8, 1), (3, 8, 3), (9, 2, 2), (9, None, 4), (0, 2, 1)])
def test_there_is_at_most_one_stream_a_core(artefact, monkeypatch, asked, threads, given):
    monkeypatch.setattr("roadseg.inference.openvino_engine.usable_cores", lambda: 4)
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert OpenVinoEngine(artefact, "cpu", threads=threads, streams=asked).streams == given


def test_results_stay_as_they_are_when_the_engine_runs_again(engine):
    first, second = pictures(1, 80, 112), pictures(1, 80, 112)
    mask = engine.run(first, ("mask",))["mask"]
    kept = mask.copy()
    assert not np.array_equal(engine.run(second, ("mask",))["mask"], kept)
    assert np.array_equal(mask, kept)


def test_the_first_sizes_are_compiled_specially_and_all_others_once(artefact, caplog):
    engine = OpenVinoEngine(artefact, "cpu", threads=1)
    with caplog.at_level(logging.INFO):
        for i in [*range(COMPILED_SIZES + MANY_SIZES - 1), 0, COMPILED_SIZES]:
            engine.run(pictures(1, 64, 40 + i), ("logits",))
        assert not caplog.records, "a few sizes are no matter"
        for i in range(40, 43):
            engine.run(pictures(1, 64, 40 + i), ("logits",))
    sizes = [task.size for task in engine._compiled]
    assert sizes == [*((64, 40 + i) for i in range(COMPILED_SIZES)), None]
    assert sum("images come in many sizes" in record.message for record in caplog.records) == 1


def test_outputs_of_one_size_count_as_one_size(artefact):
    engine = OpenVinoEngine(artefact, "cpu", threads=1, compiled_sizes=1)
    for outputs in (("mask",), ("logits",), ("mask", "confidence")):
        engine.run(pictures(1, 64, 64), outputs)
    assert {task.size for task in engine._compiled} == {(64, 64)}


class SlowCore:
    """Compiles when it is told to."""

    def __init__(self, core):
        self.core, self.begun, self.go, self.compiled = core, threading.Event(), threading.Event(), 0

    def compile_model(self, *args):
        self.compiled += 1
        self.begun.set()
        assert self.go.wait(60)
        return self.core.compile_model(*args)


def test_a_size_that_is_being_compiled_holds_up_no_other_and_is_compiled_once(artefact):
    engine = OpenVinoEngine(artefact, "cpu", threads=1)
    known, new = pictures(1, 64, 64), pictures(1, 64, 96)
    engine.run(known, ("logits",))
    slow = engine._core = SlowCore(engine._core)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(engine.run, new, ("logits",)) for _ in range(2)]
        assert slow.begun.wait(60)
        engine.run(known, ("logits",))
        assert not any(one.done() for one in waiting)
        slow.go.set()
        first, second = (one.result(60)["logits"] for one in waiting)
    assert slow.compiled == 1 and np.array_equal(first, second)


def test_a_compilation_that_fails_is_tried_again(artefact):
    engine = OpenVinoEngine(artefact, "cpu", threads=1)
    core, images = engine._core, pictures(1, 64, 64)
    engine._core = SimpleNamespace(compile_model=lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.run(images, ("logits",))
    engine._core = core
    assert engine.run(images, ("logits",))["logits"].shape == (1, 11, 64, 64)


def test_the_facts_are_in_the_network_itself(artefact):
    network = openvino_core().read_model(artefact.file("model.xml"))
    assert network.get_rt_info("roadseg").astype(str) == '{"made": "by <tests> & \\"others\\""}'


def test_weights_are_stored_as_they_are(artefact, tiny_models):
    nodes = openvino_core().read_model(artefact.file("model.xml")).get_ops()
    kinds = {out.get_element_type().to_string() for node in nodes for out in node.outputs()}
    assert "f32" in kinds and not kinds & {"f16", "bf16"}
    stored = artefact.file("model.bin").read_bytes()
    weight = next(v for name, v in tiny_models[None].tensors.items() if name.endswith("mlp.fc1.bias"))
    assert weight.astype(np.float32).tobytes() in stored


@pytest.mark.skipif(not HAS_BF16, reason="the processor has no bf16")
def test_bf16_keeps_the_first_and_the_last_steps_in_f32(tiny_models, tiny_artefacts, tmp_path):
    network = convert(compose(tiny_artefacts.onnx_network, 64, conditional=False))
    save(network, tmp_path, "{}", "bf16")
    facts = ArtefactFacts("openvino", "bf16", tiny_models[64].header, "0" * 64, details={"inference_precision": "bf16"})
    engine = OpenVinoEngine(seal(tmp_path, facts), "cpu", threads=1)
    images = pictures(1, 80, 112)
    found = engine.run(images, ("mask", "logits"))
    exact = TorchEngine(tiny_models[64], "f32", "cpu").run(images, ("mask", "logits"))
    assert 0 < np.abs(found["logits"] - exact["logits"]).max() < 0.1 * np.ptp(exact["logits"]), "rounded, but not wrong"
    assert (found["mask"] == exact["mask"]).mean() > 0.95
    kinds = precisions(compiled_of(engine))
    assert "bf16" in kinds.values()
    assert {kind for name, kind in kinds.items() if "after/" in name and "Resize" in name} == {"f32"}
    assert {kind for name, kind in kinds.items() if "before" in name and "MatMul" in name} <= {"f32"}


@pytest.mark.parametrize("device", ["gpu", "gpu.1", "npu", "tpu", ""])
def test_devices_that_are_not_there_are_refused(artefact, device):
    if device.upper() in openvino_core().available_devices:
        pytest.skip("it is there")
    with pytest.raises(EngineError, match=rf"no device '{device}' for OpenVINO here; there are: auto, .*cpu"):
        OpenVinoEngine(artefact, device)


def test_cuda_is_refused(artefact):
    with pytest.raises(EngineError, match="device 'cuda:1' cannot be used here: OpenVINO runs on Intel's devices"):
        OpenVinoEngine(artefact, "cuda:1")


def test_a_precision_that_the_processor_lacks_is_refused(artefact, monkeypatch):
    class Old:
        available_devices = ("CPU",)

        def get_property(self, device, name):
            return {"OPTIMIZATION_CAPABILITIES": ["FP32", "INT8"], "FULL_DEVICE_NAME": "Old CPU"}[name]

    monkeypatch.setattr("roadseg.inference.openvino_engine.openvino_core", Old)
    facts = ArtefactFacts("openvino", "bf16", artefact.header, "0" * 64)
    bf16 = type(artefact)(facts, artefact.digest, artefact.path)
    with pytest.raises(EngineError, match=r"'cpu' \(Old CPU\) does not compute in bf16: OpenVINO names FP32, INT8"):
        OpenVinoEngine(bf16)


def test_a_network_that_openvino_cannot_read_is_refused(artefact, tmp_path):
    (tmp_path / "model.xml").write_text("<net name='x' version='11'><layers/>")
    (tmp_path / "model.bin").write_bytes(b"")
    broken = seal(tmp_path, artefact.facts)
    with pytest.raises(ArtefactError, match=r"OpenVINO .* cannot load .*model\.xml"):
        OpenVinoEngine(read_artefact(broken.path))


def test_int8_needs_frames(tiny_models, tmp_path):
    with pytest.raises(EngineError, match=r"int8 needs frames .*--calibration DIR"):
        write_openvino(tiny_models[None], "int8", tmp_path, "{}")


def test_the_engine_needs_no_torch(artefact):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from roadseg.inference.artefact import read_artefact\n"
        "from roadseg.inference.openvino_engine import OpenVinoEngine\n"
        f"engine = OpenVinoEngine(read_artefact(Path({str(artefact.path)!r})), threads=1)\n"
        "print(engine.run(np.zeros((1, 64, 64, 3), np.uint8), ('mask',))['mask'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(1, 64, 64)\n"), done.stderr


def values_of(model, *inputs):
    request = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    request.infer(dict(enumerate(inputs)))
    return request.get_output_tensor(0).data.copy()


def test_flattening_leaves_broadcasting_and_other_axes_alone():
    """What looks like a map of tokens and is none: one row over all rows, a mask of one channel, a norm over more."""
    tokens = opset13.parameter([-1, -1, -1, 8], np.float32)
    row = opset13.parameter([-1, 1, -1, 8], np.float32)
    scaled = opset13.multiply(tokens, opset13.constant(np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)))
    both = opset13.add(scaled, row)
    by_row = opset13.multiply(both, opset13.constant(np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)))
    norm = opset13.mvn(by_row, opset13.constant(np.array([2, 3], np.int64)), True, 1e-6, "INSIDE_SQRT")
    model = ov.Model([norm], [tokens, row])
    first, second = RNG.normal(size=(2, 3, 5, 8)).astype(np.float32), RNG.normal(size=(2, 1, 5, 8)).astype(np.float32)
    maps = (first * np.arange(8) + second).astype(np.float64) * np.array([1, 2, 3]).reshape(1, 3, 1, 1)
    expected = (maps - maps.mean((2, 3), keepdims=True)) / np.sqrt(maps.var((2, 3), keepdims=True) + 1e-6)
    assert flatten_tokens(model) == 1, "the scale of each channel, and nothing else"
    assert np.abs(values_of(model, first, second) - expected).max() < 1e-5


def test_a_flattened_norm_projection_and_sum_compute_the_same():
    weights, gain = RNG.normal(size=(8, 8)).astype(np.float32), RNG.normal(size=8).astype(np.float32)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain"], ["n"], axis=-1, epsilon=1e-5),
        helper.make_node("MatMul", ["n", "weights"], ["p"]),
        helper.make_node("Add", ["x", "p"], ["y"]),
    ]
    shape = ["b", "h", "w", 8]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(gain, "gain")],
    )
    model = openvino_core().read_model(
        helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    )
    x = RNG.normal(size=(2, 3, 5, 8)).astype(np.float32)
    exact = x.astype(np.float64)
    norm = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5) * gain
    assert flatten_tokens(model) >= 3
    found = values_of(model, x)
    assert found.shape == x.shape and np.abs(found - (exact + norm @ weights)).max() < 1e-4
