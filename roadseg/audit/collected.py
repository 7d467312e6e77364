"""What a scan leaves behind: some 300 bytes a frame, and sums."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from roadseg.audit.findings import FindingStore, Occurrence
from roadseg.audit.frame_scan import ChunkFacts, Part
from roadseg.audit.image_files import THUMB_SIDE_PX
from roadseg.audit.tally import LabelTally


class Collected:
    """Facts of all frames, in the order of the parts.

    Args:
        parts: what is scanned; those of a split stand together.
        store: takes what is wrong with single frames.

    Attributes:
        parts: as given.
        thumbs: (n, 256) uint8.
        has_thumb: (n,) whether there is a picture to compare.
        sizes: (n, 2) int32, (H, W) of the images, zeros where unknown.
        tallies: of each part's labels.
        binary: positions in each part of the masks that hold 0 and 255 only, the first few.
    """

    def __init__(self, parts: Sequence[Part], store: FindingStore) -> None:
        self.parts = list(parts)
        self._starts = [0, *accumulate(len(part.frames) for part in parts)]
        count = self._starts[-1]
        self.thumbs = np.zeros((count, THUMB_SIDE_PX**2), np.uint8)
        self.has_thumb = np.zeros(count, bool)
        self.sizes = np.zeros((count, 2), np.int32)
        self.tallies = [LabelTally() for _ in parts]
        self.binary: list[list[int]] = [[] for _ in parts]
        self._store = store

    def add(self, facts: ChunkFacts) -> None:
        """Take in the facts of a chunk."""
        part, start, stop = facts.chunk
        rows = slice(self._starts[part] + start, self._starts[part] + stop)
        self.thumbs[rows], self.has_thumb[rows], self.sizes[rows] = facts.thumbs, facts.has_thumb, facts.sizes
        self.tallies[part].merge(facts.tally)
        self.binary[part] += facts.binary[: max(0, 20 - len(self.binary[part]))]
        frames = self.parts[part].frames.source.frames
        for index, kind, defect in facts.defects:
            path = frames.image_path(index) if kind == "image" else frames.label_path(index)
            self._store.add(self.occurrence(part, defect.check, frames.name(index), str(path), defect.detail))

    def occurrence(self, part: int, check: str, subject: str, file: str = "", detail: str = "") -> Occurrence:
        """An occurrence in a part."""
        return Occurrence(check, self.parts[part].dataset, self.parts[part].split, subject, file, detail)

    def rows(self, part: int) -> slice:
        """Rows of a part's frames."""
        return slice(self._starts[part], self._starts[part + 1])

    def locate(self, row: int) -> tuple[int, int]:
        """Part, and position in it, of a row."""
        part = bisect_right(self._starts, row) - 1
        return part, row - self._starts[part]

    def image_path(self, row: int) -> str:
        """Path of the image of a row."""
        part, index = self.locate(row)
        return str(self.parts[part].frames.source.frames.image_path(index))

    def image_occurrence(self, row: int, check: str, detail: str) -> Occurrence:
        """An occurrence of a check at the image of a row."""
        part, index = self.locate(row)
        return self.occurrence(part, check, self.parts[part].frames.name(index), self.image_path(row), detail)

    def rows_of_split(self, split: str) -> npt.NDArray[np.int64]:
        """Rows of a split's frames that have a picture to compare."""
        rows = [
            np.arange(*self.rows(i).indices(len(self.thumbs))) for i, p in enumerate(self.parts) if p.split == split
        ]
        joined = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return joined[self.has_thumb[joined]]

    def sizes_of(self, parts: Iterable[int]) -> "Counter[tuple[int, int]]":
        """How many images of some parts have which (H, W)."""
        counted: Counter[tuple[int, int]] = Counter()
        for part in parts:
            values, counts = np.unique(self.sizes[self.rows(part)], axis=0, return_counts=True)
            for (height, width), count in zip(values.tolist(), counts.tolist(), strict=True):
                if height:
                    counted[height, width] += count
        return counted

    @property
    def splits(self) -> list[str]:
        """The splits, in order."""
        return list(dict.fromkeys(part.split for part in self.parts))
