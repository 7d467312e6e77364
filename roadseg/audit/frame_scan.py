"""Reading frames once, and keeping a few bytes of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from roadseg.audit.image_files import THUMB_SIDE_PX, inspect_frame
from roadseg.audit.label_space import LabelSpace
from roadseg.audit.mask_files import explain_palette, explain_refused
from roadseg.audit.mask_values import Defect, explain_unknown, histogram, is_binary, is_lossy, list_values
from roadseg.audit.tally import LabelTally
from roadseg.data.mapped import MappedFrames
from roadseg.errors import DataError
from roadseg.taxonomy import IGNORE_INDEX


class Part(NamedTuple):
    """The frames of one dataset in one split.

    Attributes:
        split: name of the split.
        frames: what is read.
    """

    split: str
    frames: MappedFrames

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.frames.source.name


class Chunk(NamedTuple):
    """Some frames of a part: positions start to stop - 1."""

    part: int
    start: int
    stop: int


class FrameDefect(NamedTuple):
    """A defect of a frame of a chunk."""

    frame: int
    file: Literal["image", "mask"]
    defect: Defect


@dataclass
class ChunkFacts:
    """What is kept of the frames of a chunk.

    Attributes:
        chunk: which frames.
        thumbs: (n, 256) uint8.
        has_thumb: (n,) whether there is a picture to compare.
        sizes: (n, 2) int32, (H, W) or zeros where it is unknown.
        tally: of the masks' labels.
        defects: what is wrong.
        binary: positions of the masks that hold nothing but 0 and 255, the latter being a label.
    """

    chunk: Chunk
    thumbs: npt.NDArray[np.uint8]
    has_thumb: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int32]
    tally: LabelTally = field(default_factory=LabelTally)
    defects: list[FrameDefect] = field(default_factory=list)
    binary: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, chunk: Chunk) -> "ChunkFacts":
        """Facts of frames that were not looked at yet."""
        count = chunk.stop - chunk.start
        thumbs = np.zeros((count, THUMB_SIDE_PX**2), np.uint8)
        return cls(chunk, thumbs, np.zeros(count, bool), np.zeros((count, 2), np.int32))


class FrameScanner:
    """Reads frames.

    Args:
        parts: where they are.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._spaces: dict[int, LabelSpace] = {}

    def __call__(self, chunk: Chunk) -> ChunkFacts:
        """Read the frames of a chunk; never raises for what their files hold."""
        facts = ChunkFacts.empty(chunk)
        for index in range(chunk.start, chunk.stop):
            self._scan(index, facts)
        return facts

    def _scan(self, index: int, facts: ChunkFacts) -> None:
        frames = self._parts[facts.chunk.part].frames
        image = inspect_frame(frames.source, index)
        facts.defects += [FrameDefect(index, "image", defect) for defect in image.defects]
        row = index - facts.chunk.start
        if image.thumb is not None:
            facts.thumbs[row], facts.has_thumb[row] = image.thumb, True
        if image.size is None:
            return
        facts.sizes[row] = image.size
        space = self._space(facts.chunk.part)
        path = frames.source.frames.label_path(index)
        try:
            labels = frames.source.read_labels(index, image.size)
        except DataError as error:
            found = explain_refused(path, image.size, image.turned, space, str(error))
            facts.defects += [FrameDefect(index, "mask", defect) for defect in found]
        except Exception as error:  # whatever a reader makes of a damaged file is a finding, not the audit's end
            detail = f"{type(error).__name__}: {error}"
            facts.defects.append(FrameDefect(index, "mask", Defect("unreadable-mask", detail)))
        else:
            self._examine(index, labels, space, facts)

    def _examine(self, index: int, labels: npt.NDArray[np.integer], space: LabelSpace, facts: ChunkFacts) -> None:
        frames = self._parts[facts.chunk.part].frames
        values, counts = histogram(labels)
        known = space.known[np.minimum(values, 65535)]
        defect = None
        if is_binary(values) and not space.known[255]:
            defect = Defect("binary-mask", f"values {list_values(values, counts)}")
        else:
            defect = explain_palette(frames.source.frames.label_path(index), labels, values, space)
        if defect is None:
            facts.tally.add(labels, values, counts)
            if is_binary(values):
                facts.tally.binary += 1
                facts.binary.append(index)
            defect = _judge_values(labels, values, counts, known, space, frames)
        if defect is not None:
            facts.defects.append(FrameDefect(index, "mask", defect))

    def _space(self, part: int) -> LabelSpace:
        if part not in self._spaces:
            self._spaces[part] = LabelSpace(self._parts[part].frames.source.classes)
        return self._spaces[part]


def _judge_values(
    labels: npt.NDArray[np.integer],
    values: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    known: npt.NDArray[np.bool_],
    space: LabelSpace,
    frames: MappedFrames,
) -> Defect | None:
    if not known.all():
        return explain_unknown(labels, values, counts, space)
    if is_lossy(labels):
        return Defect("lossy-mask", f"{len(values)} values that climb along the borders")
    if (frames.table.look_up(values.astype(np.uint16)) == IGNORE_INDEX).all():
        return Defect("mask-all-ignored", f"values {list_values(values, counts)}")
    if len(values) == 1:
        return Defect("mask-constant", f"value {values[0]} everywhere")
    return None
