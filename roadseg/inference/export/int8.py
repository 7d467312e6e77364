"""int8 by post-training quantisation: NNCF measures values and places quantisers; what hurts most is found and kept.

NNCF's own accuracy-aware search runs the validation set once for each layer that it gives back, on CPUs for hours. Here
each layer is given back alone, on a few frames, and what is compared is the squared error of the logits, which sees
small changes that a score of masks does not. Then the fewest of the worst layers are kept in float32 with which the
network is good enough, and it is quantised once more without them. The frames that this is decided on are not those on
which the finished model is judged (`roadseg.inference.export.verify`), or it would be made to fit them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from openvino._offline_transformations import compress_quantize_weights_transformation
from tqdm import tqdm

from roadseg.inference.export.calibration import Calibration
from roadseg.inference.export.graph import IMAGE, WORKING_SIZE
from roadseg.inference.export.openvino import exact_nodes
from roadseg.inference.export.scoring import Scorer, Scores
from roadseg.inference.export.verify import VerificationFrames
from roadseg.inference.openvino_core import openvino_core
from roadseg.inference.openvino_engine import specialised
from roadseg.inference.scale import working_size

MAX_MIOU_LOSS = 0.005
"""What the search is content with: half of what an int8 model may lose before it is refused."""

MAX_DISAGREEMENT = 0.02
"""The same where frames have no labels: the share of pixels of another class than in float32."""

RANKING_FRAMES = 3
"""Layers are given back one by one on so many frames."""

MAX_KEPT_SHARE = 0.5
"""More layers than that are not kept: then the network does not bear int8, and verification says so."""

_PRODUCTS = frozenset({"Convolution", "GroupConvolution", "MatMul"})
_log = logging.getLogger(__name__)

Images = npt.NDArray[np.uint8]
Masks = list[Images]


@dataclass(frozen=True)
class Quality:
    """How good masks are.

    Attributes:
        disagreement: share of pixels of another class than in float32.
        scores: against labels; None where frames have none.
    """

    disagreement: float
    scores: Scores | None


@dataclass(frozen=True)
class Kept:
    """A layer that stays in float32.

    Attributes:
        layer: its name in the network.
        error_share: share of the logits' squared error that goes when this layer alone is given back.
    """

    layer: str
    error_share: float


def quantise(network: ov.Model, calibration: Calibration, short_side_px: int | None) -> tuple[ov.Model, dict[str, Any]]:
    """Quantise a network to int8.

    Args:
        network: in float32, as `roadseg.inference.export.openvino.convert` gives it.
        calibration: frames to measure on, and frames to choose layers by.
        short_side_px: of the model.

    Returns:
        The quantised network, and plain JSON values: calibration_frames; layers, how many could be quantised; kept, a
        list of `Kept`; chosen_on, how the layers were found: source and number of frames, and the `Quality` in float32,
        with every layer in int8, and with some kept. That is None where no layer was looked for.
    """
    runner = _Runner(short_side_px)
    final = every = _quantised(network, calibration.images, runner, [])
    layers = _quantised_layers(every)
    kept: list[Kept] = []
    chosen_on: dict[str, Any] | None = None
    if calibration.keep_layers:
        frames = calibration.frames or VerificationFrames("the calibration images", calibration.images)
        judge = _Judge(network, frames, runner)
        quality = everywhere = judge.quality(every)
        if not judge.accepts(everywhere):
            kept = _choose(network, every, layers, judge, runner)
            final = _quantised(network, calibration.images, runner, [one.layer for one in kept])
            quality = judge.quality(final)
        found = {"float32": judge.reference, "int8_everywhere": everywhere, "int8": quality}
        chosen_on = {"source": frames.source, "frames": len(frames.images)}
        chosen_on |= {name: asdict(one) for name, one in found.items()}
    compress_quantize_weights_transformation(final)
    return final, {
        "calibration_frames": len(calibration.images),
        "layers": len(layers),
        "kept": [asdict(one) for one in kept],
        "chosen_on": chosen_on,
    }


class _Runner:
    """Runs a network on images of any size, one by one."""

    def __init__(self, short_side_px: int | None) -> None:
        self._short_side_px = short_side_px
        self._core = openvino_core()

    def feeds(self, network: ov.Model, image: Images) -> dict[str, npt.NDArray[Any]]:
        feeds: dict[str, npt.NDArray[Any]] = {IMAGE: np.ascontiguousarray(image[None])}
        if any(WORKING_SIZE in port.get_names() for port in network.inputs):
            size = (image.shape[0], image.shape[1])
            feeds[WORKING_SIZE] = np.array(working_size(size, self._short_side_px), np.int64)
        return feeds

    def masks(self, network: ov.Model, images: Sequence[Images]) -> Masks:
        return [np.asarray(mask[0], np.uint8) for mask in self._run(network, images, "mask")]

    def logits(self, network: ov.Model, images: Sequence[Images]) -> list[npt.NDArray[np.float32]]:
        return self._run(network, images, "logits")

    def _run(self, network: ov.Model, images: Sequence[Images], output: str) -> list[npt.NDArray[Any]]:
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        request = self._core.compile_model(specialised(network, [output]), "CPU", config).create_infer_request()
        found = []
        for image in images:
            request.infer(self.feeds(network, image))
            found.append(np.array(request.get_tensor(output).data))
        return found


class _Judge:
    """Tells how good networks are on frames that it keeps.

    Args:
        network: in float32.
        frames: to judge on.
        runner: runs networks.
    """

    def __init__(self, network: ov.Model, frames: VerificationFrames, runner: _Runner) -> None:
        self.frames = frames
        self._runner = runner
        self._expected = runner.masks(network, frames.images)
        self.reference = Quality(0.0, self._scores(self._expected))

    def quality(self, network: ov.Model) -> Quality:
        masks = self._runner.masks(network, self.frames.images)
        differing = sum(int((a != b).sum()) for a, b in zip(masks, self._expected, strict=True))
        return Quality(differing / sum(mask.size for mask in masks), self._scores(masks))

    def accepts(self, quality: Quality) -> bool:
        return _is_good(quality, self.reference)

    def _scores(self, masks: Masks) -> Scores | None:
        if self.frames.truths is None or self.frames.label_sets is None:
            return None
        scorer = Scorer(self.frames.label_sets)
        for mask, truth in zip(masks, self.frames.truths, strict=True):
            scorer.add(mask, truth)
        return scorer.scores()


def _is_good(quality: Quality, reference: Quality) -> bool:
    if quality.scores is None or reference.scores is None or reference.scores.miou is None:
        return quality.disagreement <= MAX_DISAGREEMENT
    return reference.scores.miou - (quality.scores.miou or 0.0) <= MAX_MIOU_LOSS


def _quantised(network: ov.Model, images: Sequence[Images], runner: _Runner, kept: Sequence[str]) -> ov.Model:
    """The network with its quantisers, the weights still in float32."""
    logits = specialised(network, ["logits"])
    exact = {node.get_friendly_name() for node in exact_nodes(network)}
    # NNCF quantises what goes into depthwise convolutions channel by channel, and takes the rows of a token map for its
    # channels: such a network would run at the size of the calibration frames only. They are a hundredth of the work.
    exact |= {node.get_friendly_name() for node in network.get_ops() if node.get_type_name() == "GroupConvolution"}
    present = {node.get_friendly_name() for node in network.get_ops()}
    with _quiet():
        return nncf.quantize(
            network.clone(),
            nncf.Dataset(list(images), lambda image: runner.feeds(logits, image)),
            model_type=nncf.ModelType.TRANSFORMER,  # softmax, norms and what lies between them stay in float32
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=sorted((exact | set(kept)) & present), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(backend_params={"compress_weights": False}),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the line that NNCF logs for each operation that it leaves as it is."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _quantised_layers(network: ov.Model) -> list[str]:
    return [
        node.get_friendly_name()
        for node in network.get_ordered_ops()
        if node.get_type_name() in _PRODUCTS and any(_is_quantiser(value) for value in node.input_values())
    ]


def _given_back(network: ov.Model, layers: Sequence[str]) -> ov.Model:
    """A copy of a quantised network in which some layers take their inputs as they were."""
    copy, wanted = network.clone(), set(layers)
    for node in copy.get_ops():
        if node.get_type_name() in _PRODUCTS and node.get_friendly_name() in wanted:
            for port in node.inputs():
                if _is_quantiser(port.get_source_output()):
                    port.replace_source_output(port.get_source_output().get_node().input_value(0))
    return copy


def _is_quantiser(value: ov.Output) -> bool:
    return bool(value.get_node().get_type_name() == "FakeQuantize")


def _choose(network: ov.Model, every: ov.Model, layers: Sequence[str], judge: _Judge, runner: _Runner) -> list[Kept]:
    """The fewest layers to keep, of 1, 2, 4, ... of the worst, with which the network is good enough."""
    ranked = _ranked(network, every, layers, judge.frames.images[:RANKING_FRAMES], runner)
    most = int(MAX_KEPT_SHARE * len(ranked))
    counts = [2**power for power in range(most.bit_length()) if 2**power < most]
    for count in [*counts, most]:
        if judge.accepts(judge.quality(_given_back(every, [one.layer for one in ranked[:count]]))):
            return ranked[:count]
    _log.warning("int8 with %d of %d layers kept in float32 is still not good enough", most, len(ranked))
    return ranked[:most]


def _ranked(
    network: ov.Model, every: ov.Model, layers: Sequence[str], images: Sequence[Images], runner: _Runner
) -> list[Kept]:
    """Layers by how much of the logits' squared error goes when they are given back alone, the most first."""
    exact = runner.logits(network, images)
    whole = _squared_error(runner.logits(every, images), exact)
    errors = {
        layer: _squared_error(runner.logits(_given_back(every, [layer]), images), exact)
        for layer in tqdm(layers, desc="int8: layers", unit="layer", disable=None)
    }
    ranked = sorted(layers, key=lambda layer: errors[layer])
    return [Kept(layer, 1 - errors[layer] / whole if whole else 0.0) for layer in ranked]


def _squared_error(found: Sequence[npt.NDArray[np.float32]], exact: Sequence[npt.NDArray[np.float32]]) -> float:
    return float(np.mean([np.mean((a - b) ** 2, dtype=np.float64) for a, b in zip(found, exact, strict=True)]))
