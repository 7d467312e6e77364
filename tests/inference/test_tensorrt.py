"""What the TensorRT engine does with memory, shapes and threads, on a stand-in for TensorRT and CUDA.

The stand-in keeps to their documentation: memory has addresses and sizes, a context runs what its addresses name, and
shape tensors live on the host. It says nothing about TensorRT itself.
"""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from roadseg.errors import ArtefactError, EngineError
from roadseg.inference.artefact import FILES, ArtefactFacts, seal
from roadseg.inference.scale import working_size

OK, FULL = SimpleNamespace(name="cudaSuccess"), SimpleNamespace(name="cudaErrorMemoryAllocation")


class Gpu:
    """Memory of a GPU: every access outside of what was allocated fails."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytearray] = {}
        self.next, self.limit, self.copied = 4096, 1 << 30, []

    def cudaMalloc(self, size):
        if sum(map(len, self.blocks.values())) + size > self.limit:
            return FULL, 0
        self.next += 1 << 20
        self.blocks[self.next] = bytearray(size)
        return OK, self.next

    def cudaFree(self, address):
        del self.blocks[address]
        return (OK,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        if kind == "up":
            assert size <= len(self.blocks[target])
            self.blocks[target][:size] = ctypes.string_at(source, size)
        else:
            assert size <= len(self.blocks[source])
            ctypes.memmove(target, bytes(self.blocks[source][:size]), size)
            self.copied.append(size)
        return (OK,)

    def cudaStreamCreate(self):
        return OK, 7

    def module(self):
        names = ("cudaMalloc", "cudaFree", "cudaMemcpyAsync", "cudaStreamCreate")
        return SimpleNamespace(
            **{name: getattr(self, name) for name in names},
            cudaError_t=SimpleNamespace(cudaSuccess=OK),
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down"),
            cudaSetDevice=lambda number: (OK,),
            cudaGetDeviceCount=lambda: (OK, 1),
            cudaStreamSynchronize=lambda stream: (OK,),
            cudaStreamDestroy=lambda stream: (OK,),
        )


class Plan:
    """A network whose mask is the red channel; confidences are zero."""

    num_io_tensors = 4

    def __init__(self, gpu: Gpu) -> None:
        self.kinds = {"image": np.uint8, "working_size": np.int64, "mask": np.uint8, "confidence": np.float32}
        self.gpu, self.contexts, self.batches = gpu, 0, []

    def get_tensor_name(self, index):
        return list(self.kinds)[index]

    def get_tensor_dtype(self, name):
        return self.kinds[name]

    def get_tensor_location(self, name):
        return "host" if name == "working_size" else "device"

    def get_tensor_profile_shape(self, name, profile):
        return (1, 32, 32, 3), (1, 64, 64, 3), (4, 128, 128, 3)

    def create_execution_context(self):
        self.contexts += 1
        return Context(self)


class Context:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.shapes, self.addresses = plan, {}, {}

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return True

    def infer_shapes(self):
        return [name for name in ("image", "working_size") if name not in self.shapes]

    def get_tensor_shape(self, name):
        return self.shapes["image"][:3]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        least, _, greatest = self.plan.get_tensor_profile_shape("image", 0)
        assert all(a <= b <= c for a, b, c in zip(least, self.shapes["image"], greatest, strict=True))
        self.plan.batches.append(self.shapes["image"][0])
        size = np.frombuffer(ctypes.string_at(self.addresses["working_size"], 16), np.int64)
        assert size.tolist() == list(working_size(self.shapes["image"][1:3], 64))
        blocks, shape = self.plan.gpu.blocks, self.shapes["image"]
        image = np.frombuffer(blocks[self.addresses["image"]], np.uint8, int(np.prod(shape))).reshape(shape)
        mask = np.ascontiguousarray(image[..., 0])
        blocks[self.addresses["mask"]][: mask.nbytes] = mask.tobytes()
        return True


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu()
    plan = Plan(gpu)
    tensorrt = ModuleType("tensorrt")
    tensorrt.__version__ = "11.4.1"
    tensorrt.ICudaEngine = Plan
    tensorrt.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
    tensorrt.TensorLocation = SimpleNamespace(HOST="host")
    tensorrt.nptype = lambda kind: kind
    gpu.plan = plan
    tensorrt.Runtime = lambda log: SimpleNamespace(
        deserialize_cuda_engine=lambda data: plan if data == b"a plan" else None
    )
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = gpu.module()
    for name, module in {"tensorrt": tensorrt, "cuda": ModuleType("cuda"), "cuda.bindings": bindings}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "roadseg.inference.tensorrt_engine", raising=False)
    yield gpu
    sys.modules.pop("roadseg.inference.tensorrt_engine", None)


@pytest.fixture
def artefact(tiny_models, tmp_path):
    (tmp_path / FILES["tensorrt"][0]).write_bytes(b"a plan")
    details = {"tensorrt": "10.1", "working_sizes": [[32, 32], [128, 192]]}
    return seal(tmp_path, ArtefactFacts("tensorrt", "f16", tiny_models[64].header, "0" * 64, details=details))


def make(artefact, device="auto"):
    from roadseg.inference.tensorrt_engine import TensorRtEngine

    return TensorRtEngine(artefact, device)


def picture(batch, height, width):
    return np.random.default_rng(height * width).integers(0, 256, (batch, height, width, 3), np.uint8)


def test_sizes_may_grow_and_shrink(gpu, artefact):
    engine = make(artefact)
    for shape in ((1, 64, 64), (2, 128, 128), (1, 32, 64), (4, 128, 64)):
        images = picture(*shape)
        assert np.array_equal(engine.run(images, ("mask",))["mask"], images[..., 0])
    assert gpu.plan.contexts == 1 and len(gpu.blocks) == 3, "buffers that were outgrown are freed"


def test_only_what_is_asked_for_is_copied_back(gpu, artefact):
    make(artefact).run(picture(1, 64, 64), ("mask",))
    assert gpu.copied == [64 * 64]


def test_threads_never_share_a_context(gpu, artefact):
    engine = make(artefact)
    square = [picture(1 + i % 4, 64, 64) for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: engine.run(one, ("mask",))["mask"], square))
    assert all(np.array_equal(mask, one[..., 0]) for mask, one in zip(found, square, strict=True))
    assert 1 <= gpu.plan.contexts <= 4


@pytest.mark.parametrize("batch", [5, 8, 11])
def test_batches_above_what_the_plan_takes_run_in_parts(gpu, artefact, batch):
    images = picture(batch, 64, 64)
    found = make(artefact).run(images, ("mask", "confidence"))
    assert np.array_equal(found["mask"], images[..., 0]) and found["confidence"].shape == (batch, 64, 64)
    assert gpu.plan.batches == [4] * (batch // 4) + [batch % 4] * (batch % 4 > 0)


@pytest.mark.parametrize("shape", [(1, 16, 64), (1, 64, 256), (9, 129, 64)])
def test_images_that_the_plan_does_not_take_are_refused(gpu, artefact, shape):
    sides = f"{shape[1]}x{shape[2]}"
    with pytest.raises(EngineError, match=f"takes images 32x32 to 128x128 px, not {sides}: .*max_pixels.*--size"):
        make(artefact).run(picture(*shape), ("mask",))


def test_a_size_at_which_the_plans_network_sees_no_images_is_refused(gpu, artefact):
    with pytest.raises(EngineError, match="images that the network sees at 32x32 to 128x192 px, not 64x256"):
        make(artefact).run(picture(1, 32, 128), ("mask",))


def test_memory_that_is_not_there_is_named(gpu, artefact):
    engine, gpu.limit = make(artefact), 1000
    with pytest.raises(EngineError, match="CUDA could not get 12288 bytes on the GPU: cudaErrorMemoryAllocation"):
        engine.run(picture(1, 64, 64), ("mask",))
    gpu.limit = 1 << 30
    assert engine.run(picture(1, 64, 64), ("mask",))["mask"].shape == (1, 64, 64), "a failed run spoils nothing"


def test_a_plan_of_another_version_is_refused(gpu, artefact):
    artefact.file("model.plan").write_bytes(b"another plan")
    with pytest.raises(ArtefactError, match=r"built with TensorRT 10\.1 for one kind of GPU, here is 11\.4\.1"):
        make(artefact)


@pytest.mark.parametrize(("device", "message"), [("cpu", "no device 'cpu' for TensorRT"), ("cuda:3", "finds 1 GPUs")])
def test_devices_that_are_not_there_are_refused(gpu, artefact, device, message):
    with pytest.raises(EngineError, match=message):
        make(artefact, device)


@pytest.fixture
def writer(gpu, monkeypatch):
    monkeypatch.delitem(sys.modules, "roadseg.inference.export.tensorrt", raising=False)
    from roadseg.inference.export import tensorrt

    yield tensorrt
    sys.modules.pop("roadseg.inference.export.tensorrt", None)


@pytest.mark.parametrize(
    ("static_size", "short_side_px", "greatest"),
    [
        (None, 360, (1, 4096, 4096, 3)),
        (None, None, (4, 2048, 2048, 3)),
        ((512, 1024), None, (16, 512, 1024, 3)),
        ((1080, 1920), 360, (8, 1080, 1920, 3)),
        ((4320, 7680), 360, (1, 4320, 7680, 3)),
    ],
)
def test_the_memory_of_a_plan_is_bounded_by_batch_times_size(writer, static_size, short_side_px, greatest):
    least, usual, most = writer.image_profile(static_size, short_side_px)
    assert most == greatest
    assert all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True))
    assert most[0] == 1 or most[0] * most[1] * most[2] <= 4096 * 4096


@pytest.mark.parametrize("short_side_px", [64, 360, 1024])
def test_the_usual_size_at_which_images_are_seen_lies_in_its_profile(writer, short_side_px):
    least, usual, most = writer.seen_profile(short_side_px)
    assert usual == working_size((512, 1024), short_side_px)
    assert all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True))


@pytest.mark.parametrize("short_side_px", [None, 20])
def test_a_graph_for_tensorrt_has_bytes_at_its_border_only_and_computes_the_same(writer, short_side_px):
    import onnx

    from roadseg.inference.export.graph import compose
    from tests.inference.test_export_graph import network, session

    plain = compose(network(), short_side_px, conditional=False)
    graph = writer.bytes_at_the_border(plain)
    onnx.checker.check_model(graph, full_check=True)
    assert [node.op_type for node in graph.graph.node if "image" in node.input] == ["Cast"]
    types = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph.value_info
    assert not [value.name for value in types if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8]
    feeds = {"image": picture(2, 50, 70)} | ({"working_size": np.zeros(2, np.int64)} if short_side_px else {})
    for one, other in zip(*(session(each).run(None, feeds) for each in (plain, graph)), strict=True):
        assert np.array_equal(one, other)
