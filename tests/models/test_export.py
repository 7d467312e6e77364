"""Networks exported once and run at many sizes: torch.export, ONNX Runtime, OpenVINO, torch.compile."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import roadseg
from roadseg.models.backbones import TWINS

onnxruntime = pytest.importorskip(
    "onnxruntime", reason="needs the export extra: pip install -c constraints.txt '.[export]'"
)
openvino = pytest.importorskip("openvino", reason="needs the export extra: pip install -c constraints.txt '.[export]'")

# 224 and 448 need no padding of 7x7 windows at any stage; the others need it at some.
SIZES = [(224, 224), (256, 320), (360, 480), (100, 150), (448, 224)]
BATCHES = (1, 3)
DYNAMIC = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
NUM_CLASSES = 19

# Exporting takes a time for each block. One of local and one of global attention at the first scale, where subsampling
# is the most, and at the last, where there is none, hold all that differs; the networks as they are take minutes.
SHALLOW = {"depths": [2, 1, 1, 2]}
HALO = {"pattern": "HG", "padding": "mask", "downsampling": "attention"}
DETAIL = {"stem": "detail", "pattern": ["C", "C", "CG", "CG"]}

Run = Callable[[np.ndarray], np.ndarray]


def make(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return roadseg.build_model(name, num_classes=NUM_CLASSES, backbone_options=options or None).eval()


def example() -> Tensor:
    """With a batch of 1 the exporter fixes the batch to 1."""
    return torch.rand(2, 3, 100, 164) * 255


def to_onnx(network: nn.Module, path: Path) -> Path:
    program = torch.onnx.export(
        network,
        (example(),),
        dynamo=True,
        dynamic_shapes=DYNAMIC,
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )
    program.save(path)
    return path


def onnx_runtime(path: Path) -> Run:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def open_vino(path: Path) -> Run:
    compiled = openvino.compile_model(openvino.convert_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: compiled(image)[0]


@torch.inference_mode()
def check(network: nn.Module, run: Run, batches: tuple[int, ...] = BATCHES) -> None:
    """Same logits, and the same class for all but a few pixels whose best two logits are nearly equal."""
    for size in SIZES:
        for batch in batches:
            image = torch.rand(batch, 3, *size) * 255
            expected, found = network(image).numpy(), run(image.numpy())
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= 1e-4
            assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9999


def check_onnx(network: nn.Module, folder: Path) -> None:
    path = to_onnx(network, folder / "network.onnx")
    check(network, onnx_runtime(path))
    check(network, open_vino(path), batches=(2,))


# The contract suite of the engines runs a tiny network in both, at sizes that need padding and one that does not.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TWINS))
def test_every_twins_is_exported(name, tmp_path):
    check_onnx(make(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "HG"},
        HALO,
        DETAIL,
        {"padding": "mask", "subsampling": "separable"},
        {"subsampling": "avgpool"},
        {"position": "none", "window_size": 8},
    ],
)
def test_variations_are_exported(options, tmp_path):
    check_onnx(make("twins_svt_nano", **options), tmp_path)


# Neither example may decide what the program can do: one that needs padding, and one that does not.
@pytest.mark.parametrize(
    ("options", "example"),
    [
        ({}, (100, 164)),
        ({}, (448, 448)),
        (DETAIL, (100, 164)),
        pytest.param(HALO, (100, 164), marks=pytest.mark.slow),
        pytest.param(HALO, (448, 448), marks=pytest.mark.slow),
    ],
)
def test_one_exported_program_takes_sizes_that_need_padding_and_sizes_that_do_not(options, example):
    network = make("twins_svt_nano", **options, **SHALLOW)
    program = torch.export.export(network, (torch.rand(2, 3, *example),), dynamic_shapes=DYNAMIC).module()
    check(network, lambda image: program(torch.from_numpy(image)).numpy())


# In the contract suite each family's smallest backbone is compiled whole.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("twins_svt_nano", SHALLOW),
        ("twins_svt_nano", DETAIL),
        *(pytest.param(name, None, marks=pytest.mark.slow) for name in sorted(TWINS)),
    ],
)
def test_no_twins_breaks_the_graph_that_a_compiler_sees(name, options):
    torch.compiler.reset()
    with torch.device("meta"):
        network = roadseg.build_model(name, num_classes=3, backbone_options=options).eval()
    torch.compile(network, fullgraph=True, backend="eager")(torch.empty(1, 3, 70, 90, device="meta"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TWINS))
@torch.inference_mode()
def test_compiled_by_inductor_it_gives_the_same(name):
    torch.compiler.reset()
    network = make(name)
    compiled = torch.compile(network, fullgraph=True)
    image = torch.rand(1, 3, 100, 150) * 255
    expected, found = network(image), compiled(image)
    assert (found - expected).abs().max() <= 1e-4
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.9999
