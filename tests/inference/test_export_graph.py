"""The nodes round the network, against the Python that they repeat and torch in float64."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from roadseg.inference.export.graph import OUTPUTS, WANTS, compose
from roadseg.inference.export.nodes import Nodes
from roadseg.inference.export.resizing import add_image, add_working_size
from roadseg.inference.openvino_core import openvino_core
from roadseg.inference.scale import working_size

RNG = np.random.default_rng(0)
NUM_CLASSES = 5
IMAGE = helper.make_tensor_value_info("image", TensorProto.UINT8, ["b", "h", "w", 3])
SIZE = helper.make_tensor_value_info("working_size", TensorProto.INT64, [2])


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_nodes(nodes, output, kind):
    return run_graph(graph_of(nodes, output, kind))


def graph_of(nodes, output, kind):
    nodes.add("Identity", output, output="out")
    result = helper.make_tensor_value_info("out", kind, None)
    graph = helper.make_graph(nodes.nodes, "g", [IMAGE, SIZE], [result], nodes.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


def run_in_openvino(model):
    core = openvino_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda image, size: compiled({"image": image, "working_size": np.array(size, np.int64)})["out"]


def run_graph(model):
    opened = session(model)
    return lambda image, size: opened.run(None, {"image": image, "working_size": np.array(size, np.int64)})[0]


def network(kind=TensorProto.FLOAT):
    """One convolution, as a stand-in for what torch exports."""
    weights = RNG.normal(size=(NUM_CLASSES, 3, 3, 3)) / 50
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["network_image", "weights"], ["network_logits"], pads=[1, 1, 1, 1])],
        "network",
        [helper.make_tensor_value_info("network_image", kind, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("network_logits", kind, ["b", NUM_CLASSES, "h", "w"])],
        [numpy_helper.from_array(weights.astype(dtype), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


def sizes_with_ties(short_side_px):
    """Sizes whose scaled sides fall on or next to halves, slivers, and what cameras give."""
    short = 2 * short_side_px  # halved, an odd side is a tie
    halves = [(short, short + 2 * i + 1) for i in range(150)]
    cameras = [(480, 640), (1080, 1920), (2160, 3840), (4320, 7680), (376, 1241), (886, 1920), (1, 1), (1, 9000)]
    drawn = [tuple(map(int, size)) for size in RNG.integers(1, 9000, (300, 2))]
    return [*halves, *cameras, *drawn, *((w, h) for h, w in cameras + halves)]


@pytest.mark.parametrize("short_side_px", [32, 360, 721])
def test_the_size_rule_is_that_of_python_to_the_last_bit(short_side_px):
    nodes = Nodes("n")
    rule = run_nodes(nodes, add_working_size(nodes, "image", "working_size", short_side_px), TensorProto.INT64)
    sizes = sizes_with_ties(short_side_px)
    assert sum(side * short_side_px % min(size) * 2 == min(size) for size in sizes for side in size) >= 300, "ties"
    for size in sizes:
        no_pixels = np.empty((0, *size, 3), np.uint8)
        assert tuple(rule(no_pixels, (0, 0))) == working_size(size, short_side_px), size
    assert tuple(rule(np.empty((0, 50, 70, 3), np.uint8), (33, 47))) == (33, 47), "a wish is followed"


@pytest.mark.parametrize(
    ("size", "working"),
    [
        *[((97, 64), (61, 40)), ((200, 300), (64, 96)), ((33, 47), (64, 91)), ((65, 66), (64, 65)), ((7, 90), (7, 45))],
        *[((1, 1), (1, 1)), ((1, 1), (70, 70)), ((400, 3), (5, 1)), ((3, 400), (1, 129)), ((31, 700), (33, 97))],
        *[((150, 20), (149, 21)), ((2, 1000), (2, 999)), ((500, 8), (32, 64)), ((90, 2), (65, 2049))],
    ],
)
def test_resampling_is_torchs_triangle_filter(size, working):
    """In float64: torch's own float32 rounds the places of samples, by up to 1e-3 grey levels at these sizes."""
    image = RNG.integers(0, 256, (2, *size, 3), np.uint8)
    nodes = Nodes("n")
    resample = run_nodes(nodes, add_image(nodes, "image", "working_size", compare=False), TensorProto.FLOAT)
    exact = torch.from_numpy(image).permute(0, 3, 1, 2).double()
    expected = F.interpolate(exact, working, mode="bilinear", antialias=True).numpy()
    assert np.abs(resample(image, working) - expected).max() < 1e-4


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("size", "working"), [((1, 32768), (1, 32767)), ((2, 32768), (1, 411)), ((9, 2), (32768, 1)), ((32768, 1), (9, 3))]
)
def test_places_of_samples_do_not_overflow_on_the_longest_sides(size, working, runtime):
    """OpenVINO computes 64-bit integers in 32 bits: at 32768 px the numbers come within 0.01 % of their end."""
    image = RNG.integers(0, 256, (1, *size, 3), np.uint8)
    nodes = Nodes("n")
    graph = graph_of(nodes, add_image(nodes, "image", "working_size", compare=False), TensorProto.FLOAT)
    resample = run_in_openvino(graph) if runtime == "openvino" else run_graph(graph)
    exact = torch.from_numpy(image).permute(0, 3, 1, 2).double()
    expected = F.interpolate(exact, working, mode="bilinear", antialias=True).numpy()
    assert np.abs(resample(image, working) - expected).max() < 1e-3


def test_the_numbers_that_places_are_computed_with_fit_32_bits_up_to_32768_px():
    """Each number of `_resampled_rows`, in Python's integers, at its greatest."""
    for n, out in ((32768, 32768), (32768, 1), (1, 32768), (32768, 411), (131_072, 8192)):
        reach = 2 * max(n, out)
        centre, place = (2 * out - 1) * n, (2 * n - 1) * out
        apart = max(abs(centre - out), abs(n - place))
        assert max(centre, place, apart, reach + out) < 2**31, (n, out)
        assert reach < 2**24, "weights are whole numbers below it, exact in float32"


def test_an_image_that_has_its_size_already_is_not_touched():
    image = RNG.integers(0, 256, (2, 41, 67, 3), np.uint8)
    for compare in (False, True):
        nodes = Nodes("n")
        resample = run_nodes(nodes, add_image(nodes, "image", "working_size", compare=compare), TensorProto.FLOAT)
        assert np.array_equal(resample(image, (41, 67)), image.transpose(0, 3, 1, 2))
        assert resample(image, (41, 66)).shape == (2, 3, 41, 66), "and the next one is"


@pytest.mark.parametrize("short_side_px", [None, 40])
def test_a_plain_graph_gives_what_a_conditional_one_does(short_side_px):
    bare = network()
    graphs = [compose(bare, short_side_px, conditional=conditional) for conditional in (True, False)]
    operators = [Counter(node.op_type for node in graph.graph.node) for graph in graphs]
    assert operators[0]["If"] >= 2 and operators[1]["If"] == 0
    opened = [session(graph) for graph in graphs]
    assert [value.name for value in opened[1].get_inputs()] == [
        "image",
        *["working_size"] * (short_side_px is not None),
    ]
    feeds = {"image": RNG.integers(0, 256, (2, 50, 70, 3), np.uint8)}
    if short_side_px:
        feeds["working_size"] = np.zeros(2, np.int64)
    for one, other in zip(*(each.run(list(OUTPUTS), feeds) for each in opened), strict=True):
        assert one.size and np.array_equal(one, other)


@pytest.mark.parametrize("short_side_px", [None, 40])
@pytest.mark.parametrize("wants", [(False, False), (True, False), (False, True)])
def test_what_is_not_wanted_is_empty(short_side_px, wants):
    opened = session(compose(network(), short_side_px))
    feeds = {"image": RNG.integers(0, 256, (2, 50, 70, 3), np.uint8)}
    if short_side_px:
        feeds["working_size"] = np.zeros(2, np.int64)
    whole = opened.run(list(OUTPUTS), feeds)
    part = opened.run(list(OUTPUTS), feeds | {name: np.array(want) for name, want in zip(WANTS, wants, strict=True)})
    for wanted, full, found in zip((*wants, True), whole, part, strict=True):
        assert np.array_equal(found, full) if wanted else found.size == 0


@pytest.mark.parametrize(
    ("static_size", "short_side_px", "seen"),
    [((50, 70), None, (50, 70)), ((50, 70), 40, (40, 56)), ((40, 70), 40, (40, 70)), ((30, 40), 40, (40, 53))],
)
def test_a_graph_of_one_size_gives_what_a_dynamic_one_does(static_size, short_side_px, seen):
    bare = network()
    static, dynamic = (session(compose(bare, short_side_px, static_size=size)) for size in (static_size, None))
    assert [value.shape for value in static.get_inputs()] == [["batch", *static_size, 3]]
    image = RNG.integers(0, 256, (3, *static_size, 3), np.uint8)
    feeds = {"image": image} | ({"working_size": np.zeros(2, np.int64)} if short_side_px else {})
    one, other = static.run(list(OUTPUTS), {"image": image}), dynamic.run(list(OUTPUTS), feeds)
    assert one[2].shape == (3, NUM_CLASSES, *seen)
    assert (one[0] == other[0]).mean() > 0.999 and np.abs(one[1] - other[1]).max() < 1e-5


def test_a_network_in_half_precision_has_the_same_inputs_and_outputs():
    opened = session(compose(network(TensorProto.FLOAT16), 40))
    feeds = {"image": RNG.integers(0, 256, (1, 50, 70, 3), np.uint8), "working_size": np.zeros(2, np.int64)}
    mask, confidence, logits = opened.run(list(OUTPUTS), feeds)
    assert (mask.dtype, confidence.dtype, logits.dtype) == (np.uint8, np.float32, np.float32)
    assert confidence.shape == mask.shape == (1, 50, 70)


def test_equal_scores_give_the_first_class_and_even_odds():
    bare = network()
    bare.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((NUM_CLASSES, 3, 3, 3), np.float32), "weights"))
    image = RNG.integers(0, 256, (1, 9, 9, 3), np.uint8)
    mask, confidence, _ = session(compose(bare, None)).run(list(OUTPUTS), {"image": image})
    assert not mask.any() and np.allclose(confidence, 1 / NUM_CLASSES)


def bright_images_overflow(kind=TensorProto.FLOAT, factor=3e38):
    """A network whose scores are infinite, or as far as they go, where an image is bright."""
    bare = network(kind)
    weights = np.zeros((NUM_CLASSES, 3, 3, 3), helper.tensor_dtype_to_np_dtype(kind))
    weights[2, 0, 1, 1] = factor
    bare.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    images = np.zeros((3, 20, 30, 3), np.uint8)
    images[1, 7, 11] = 255
    return bare, images


@pytest.mark.parametrize("short_side_px", [None, 10])
@pytest.mark.parametrize("conditional", [True, False])
def test_an_image_with_one_infinite_logit_has_no_mask_and_its_neighbours_have_theirs(short_side_px, conditional):
    bare, images = bright_images_overflow()
    feeds = {"image": images} | ({"working_size": np.zeros(2, np.int64)} if short_side_px else {})
    opened = session(compose(bare, short_side_px, conditional=conditional))
    mask, confidence, logits = opened.run(list(OUTPUTS), feeds)
    assert np.isinf(logits[1]).any() and np.isfinite(logits[[0, 2]]).all()
    assert (mask[1] == 255).all() and not mask[[0, 2]].any()
    assert np.isnan(confidence[1]).all() and np.allclose(confidence[[0, 2]], 1 / NUM_CLASSES)


@pytest.mark.parametrize("hint", ["f32", "bf16"])
@pytest.mark.parametrize("static", [False, True])
def test_openvino_leaves_the_test_for_infinite_logits_in_the_graph(hint, static):
    core = openvino_core()
    if hint.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") and hint != "f32":
        pytest.skip("the processor does not compute in bf16")
    bare, images = bright_images_overflow()
    model = core.read_model(compose(bare, None, conditional=False).SerializeToString())
    if static:
        model.reshape({"image": list(images.shape)})
    found = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})(images)
    assert (found["mask"][1] == 255).all() and not found["mask"][[0, 2]].any()
    assert np.isnan(found["confidence"][1]).all() and not np.isnan(found["confidence"][[0, 2]]).any()


@pytest.mark.parametrize(
    ("kind", "factor", "brightness", "broken"),
    [(TensorProto.FLOAT, 3e38, 255, True), (TensorProto.FLOAT, 1.0, 255, False), (TensorProto.FLOAT16, 6e4, 1, False)],
)
def test_a_network_that_enlarges_its_logits_is_tested_before_that(kind, factor, brightness, broken):
    """Scores of 60000 are numbers of float16; the sum of two is not."""
    bare, images = bright_images_overflow(kind, factor)
    images[1] = np.where(images[1], brightness, brightness if kind == TensorProto.FLOAT16 else 0)
    bare.graph.node[0].output[0] = "small"
    resize = helper.make_node("Resize", ["small", "", "scales"], ["large"], mode="linear")
    crop = helper.make_node("Gather", ["large", "rows"], ["network_logits"], axis=2)
    bare.graph.node.extend([resize, crop])
    constants = {"scales": np.array([1, 1, 4, 4], np.float32), "rows": np.arange(40)}
    bare.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    graph = compose(bare, 10, conditional=False)
    (summed,) = (node for node in graph.graph.node if node.op_type == "Cast" and "small" in node.input)
    assert summed.attribute[0].i == TensorProto.FLOAT
    (mask,) = session(graph).run(["mask"], {"image": images, "working_size": np.zeros(2, np.int64)})
    assert [bool((one == 255).all()) for one in mask] == [False, broken, False]


def test_finite_scores_are_never_taken_for_infinite_ones():
    bare, images = bright_images_overflow(factor=1e30)
    mask, confidence, _ = session(compose(bare, None)).run(list(OUTPUTS), {"image": images})
    assert mask[1, 7, 11] == 2 and (mask != 255).all() and np.isfinite(confidence).all()


def test_scores_far_from_zero_do_not_overflow():
    bare = network()
    weights = np.zeros((NUM_CLASSES, 3, 3, 3), np.float32)
    weights[:, :, 1, 1] = np.arange(NUM_CLASSES)[:, None] * 1000.0
    bare.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    mask, confidence, _ = session(compose(bare, None)).run(
        list(OUTPUTS), {"image": np.full((1, 4, 4, 3), 255, np.uint8)}
    )
    assert (mask == NUM_CLASSES - 1).all() and (confidence == 1).all()


def test_the_checker_of_onnx_accepts_the_graph_with_full_shape_inference():
    for conditional in (True, False):
        onnx.checker.check_model(compose(network(), 40, conditional=conditional), full_check=True)
