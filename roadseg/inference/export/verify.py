"""Whether an exported model computes what its model file does: run in its own runtime, against torch in float32.

Its engine is asked for masks and confidences at several sizes and batches. Frames are segmented as a user would do it,
by a predictor, so that nothing is written which `load_predictor` could not use.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.errors import MismatchError, plural
from roadseg.inference.engines import Engine, Output
from roadseg.inference.export.scoring import Scorer, Scores, difference_table
from roadseg.inference.package import ModelFile
from roadseg.inference.predictor import Predictor
from roadseg.inference.torch_engine import TorchEngine
from roadseg.label_sets import LabelSets

SIZES = ((64, 96), (97, 131), (224, 224), (256, 320), (360, 480))
"""(H, W) in px: whole patches and such that need padding, squares, larger and smaller than usual short sides."""

BATCHES = (1, 2)

MIN_AGREEMENT = {"f32": 0.9999, "f16": 0.995, "bf16": 0.995, "int8": 0.97}
"""Least share of pixels of the same class, by precision; where frames have labels, int8 is held to `MAX_MIOU_LOSS`."""

MIN_WORST_AGREEMENT = {"f32": 0.999, "f16": 0.95, "bf16": 0.95, "int8": 0.9}
"""The same at each size and batch, and of the frames: one that goes wrong must not drown in the sum, nor in the score
of frames of another size."""

MAX_MIOU_LOSS = 0.01
"""Of int8, on labelled frames."""

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VerificationFrames:
    """Pictures to verify on.

    Attributes:
        source: what they are, in words.
        images: (H, W, 3) uint8 RGB each, at least one.
        truths: (H, W) uint8 set ids each, 255 ignored; None where they have no labels in the model's classes.
        label_sets: meaning of the ids in truths; None with them.
    """

    source: str
    images: Sequence[Images]
    truths: Sequence[Images] | None = None
    label_sets: LabelSets | None = None


@dataclass(frozen=True)
class Check:
    """One size and batch.

    Attributes:
        size: (H, W) in px.
        batch: images that ran together.
        agreement: share of pixels with the class that torch gives.
        confidence_difference: greatest difference of a pixel's confidence from torch's.
    """

    size: tuple[int, int]
    batch: int
    agreement: float
    confidence_difference: float


@dataclass(frozen=True)
class Verification:
    """What was compared, and found.

    Attributes:
        source: of the frames.
        frames: how many.
        checks: frames resized to `SIZES`, in batches of `BATCHES`.
        agreement: share of all pixels of `checks` and of the frames with the class that torch gives.
        frames_agreement: of the frames alone, as a predictor segments them: at their own size, by the model's own rule
            for the size at which the network sees them.
        scores: of the exported model's masks of the frames; None where they have no labels.
        scores_of_model: of torch's.
    """

    source: str
    frames: int
    checks: tuple[Check, ...]
    agreement: float
    frames_agreement: float
    scores: Scores | None = None
    scores_of_model: Scores | None = None

    @property
    def miou_loss(self) -> float | None:
        """How much lower the exported model's mIoU is; None without labels."""
        if self.scores is None or self.scores_of_model is None or self.scores_of_model.miou is None:
            return None
        return self.scores_of_model.miou - (self.scores.miou or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"checks": [asdict(check) | {"size": list(check.size)} for check in self.checks]}

    def to_text(self) -> str:
        """A table."""
        lines = [f"{'size':>9}  {'batch':>5}  {'agreement':>9}  {'confidence differs by':>21}"]
        lines += [
            f"{check.size[0]:>4}x{check.size[1]:<4}  {check.batch:>5}  {check.agreement:>9.4%}  "
            f"{check.confidence_difference:>21.1e}"
            for check in self.checks
        ]
        frames = plural(self.frames, "frame")
        lines.append(f"all pixels of these and of {frames} ({self.source}): {self.agreement:.4%} agree with torch")
        lines.append(f"of the {frames} alone, at their own size: {self.frames_agreement:.4%}")
        if self.scores is not None and self.scores_of_model is not None:
            lines += ["", difference_table(self.scores_of_model, self.scores)]
        return "\n".join(lines)


def verify(
    engine: Engine, model: ModelFile, frames: VerificationFrames | None, static_size: tuple[int, int] | None = None
) -> Verification:
    """Compare an engine with torch in float32 on the CPU.

    Args:
        engine: runs what was exported.
        model: what it was exported from.
        frames: None takes made-up pictures: smooth colours, no road.
        static_size: (H, W) of the only images that the engine takes; it replaces `SIZES`, and frames are resized to it.

    Raises:
        MismatchError: when what the engine gives is no mask, or no confidence: what no predictor could use.
        EngineError: when a predictor cannot run the engine on the frames, as a user of the model would.
    """
    frames = frames or made_up_frames()
    reference = TorchEngine(model, "f32", "cpu")
    classes = len(model.header.taxonomy)
    checks = tuple(
        _compare(engine, reference, images, classes)
        for images in _resized(frames.images, (static_size,) if static_size else SIZES)
    )
    counted = [(check.agreement, check.batch * check.size[0] * check.size[1]) for check in checks]
    scorers = [Scorer(frames.label_sets) for _ in range(2)] if frames.label_sets else []
    shown: list[tuple[float, int]] = []
    predictors = [Predictor(one, model.header, model.digest, static_size=static_size) for one in (engine, reference)]
    truths: Sequence[Images | None] = frames.truths or [None] * len(frames.images)
    for image, truth in zip(frames.images, truths, strict=True):
        shown_image = _scaled(image, static_size) if static_size else image
        masks = [predictor(shown_image).mask for predictor in predictors]
        shown.append((float((masks[0] == masks[1]).mean()), masks[0].size))
        if truth is not None:
            for mask, scorer in zip(masks, scorers, strict=True):
                scorer.add(_like(mask, truth), truth)
    agreement, of_frames = _share([*counted, *shown]), _share(shown)
    return Verification(
        frames.source, len(frames.images), checks, agreement, of_frames, *(scorer.scores() for scorer in scorers)
    )


def refuse_mismatch(found: Verification, kind: str, precision: str) -> None:
    """Refuse an exported model that differs by more than its precision explains.

    Raises:
        MismatchError: then; the message holds the table of what was found.
    """
    least = MIN_AGREEMENT[precision]
    worst_allowed = MIN_WORST_AGREEMENT[precision]
    loss = found.miou_loss if precision == "int8" else None
    if loss is not None and not loss <= MAX_MIOU_LOSS:
        raise _mismatch(found, kind, precision, f"its mIoU is {loss:.4f} lower; at most {MAX_MIOU_LOSS} is allowed")
    if loss is None and not found.agreement >= least:
        raise _mismatch(found, kind, precision, f"{found.agreement:.4%} of the pixels agree; {least:.2%} have to")
    places = {f"at {one.size[0]}x{one.size[1]} px, batch {one.batch}": one.agreement for one in found.checks}
    places["of the frames"] = found.frames_agreement
    worst = min(places, key=lambda place: places[place])
    if not all(agreement >= worst_allowed for agreement in places.values()):
        reason = f"{places[worst]:.4%} of the pixels agree {worst}; {worst_allowed:.2%} have to"
        raise _mismatch(found, kind, precision, reason)


def made_up_frames(count: int = 4) -> VerificationFrames:
    """Smooth colours from a fixed seed, 360x480 px: where no frames are at hand."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 9, 12, 3), np.uint8)
    images = [cv2.resize(one, (480, 360), interpolation=cv2.INTER_CUBIC) for one in small]
    return VerificationFrames("made-up pictures", [np.asarray(image, np.uint8) for image in images])


def _resized(images: Sequence[Images], sizes: Sequence[tuple[int, int]]) -> Iterator[Images]:
    """Batches (B, H, W, 3); each takes the next of the images."""
    endless = cycle(images)
    for size in sizes:
        for batch in BATCHES:
            yield np.stack([_scaled(image, size) for image in islice(endless, batch)])


def _scaled(image: Images, size: tuple[int, int]) -> Images:
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _like(mask: Images, truth: Images) -> Images:
    if mask.shape == truth.shape:
        return mask
    return np.asarray(cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def _share(parts: Sequence[tuple[float, int]]) -> float:
    """The mean of shares, each of so many pixels."""
    return sum(share * pixels for share, pixels in parts) / sum(pixels for _, pixels in parts)


def _compare(engine: Engine, reference: Engine, images: Images, classes: int) -> Check:
    found, expected = (_run(one, images, classes) for one in (engine, reference))
    return Check(
        (images.shape[1], images.shape[2]),
        len(images),
        float((found["mask"] == expected["mask"]).mean()),
        float(np.abs(found["confidence"] - expected["confidence"]).max()),
    )


def _run(engine: Engine, images: Images, classes: int) -> dict[Output, npt.NDArray[Any]]:
    """The masks and confidences that an engine gives for a batch.

    Raises:
        MismatchError: when that is of a wrong shape, no class, or not finite. No option keeps such a model.
    """
    found = engine.run(images, ("mask", "confidence"))
    wrong = [name for name, values in found.items() if values.shape != images.shape[:3]]
    reason = f"its {wrong[0]} has the shape {found[wrong[0]].shape}" if wrong else None
    if reason is None and not np.isfinite(found["confidence"]).all():
        reason = "its confidences are not finite"
    if reason is None and found["mask"].max() >= classes:
        reason = f"it gives class {found['mask'].max()}, and the last one is {classes - 1}"
    if reason is None:
        return found
    raise MismatchError(
        f"the model cannot be used in the engine {engine.name} in {engine.precision}: for images of shape "
        f"{images.shape} {reason}; use --precision f32, or if it is, train the model anew"
    )


def _mismatch(found: Verification, kind: str, precision: str, reason: str) -> MismatchError:
    return MismatchError(
        f"{found.to_text()}\nthe {kind} model in {precision} differs from its model file: {reason}. Choose another "
        "--precision, or keep it all the same by --allow-mismatch"
    )
