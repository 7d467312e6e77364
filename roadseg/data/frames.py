"""Tables of frames that stay small for millions of files."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Frame(NamedTuple):
    """One labelled frame.

    Attributes:
        name: unique in its collection, and the same for every label set of the same picture.
        image: path of the image, relative to the table's folder.
        label: path of the label file, relative to the table's folder; what it holds is the dataset's affair.
        drive: the recording (sequence, drive, city) it was taken from; frames of one drive look alike.
        split: "train", "val" or "test", as published.
    """

    name: str
    image: str
    label: str
    drive: str
    split: str


class FrameTable:
    """Frames in order, in a few arrays: about the bytes of their names, and nothing that a worker process copies.

    Args:
        folder: what the paths are relative to.
        frames: the frames.
    """

    def __init__(self, folder: Path, frames: Iterable[Frame]) -> None:
        self.folder = folder
        texts, drives, splits = _Packer(), _Codes(), _Codes()
        for frame in frames:
            for text in (frame.name, frame.image, frame.label):
                texts.add(text)
            drives.add(frame.drive)
            splits.add(frame.split)
        self._blob, self._offsets = texts.packed()
        self._drive, self._drives = drives.packed()
        self._split, self._splits = splits.packed()
        self._rows = np.arange(len(self._drive))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Frame:
        """The frame at a position."""
        row = int(self._rows[index])
        name, image, label = (self._text(3 * row + part) for part in range(3))
        return Frame(name, image, label, self._drives[self._drive[row]], self._splits[self._split[row]])

    def __iter__(self) -> Iterator[Frame]:
        """The frames in order."""
        return (self[i] for i in range(len(self)))

    def name(self, index: int) -> str:
        """Name of the frame at a position."""
        return self._text(3 * int(self._rows[index]))

    def drive(self, index: int) -> str:
        """Drive of the frame at a position."""
        return self._drives[self._drive[self._rows[index]]]

    def split(self, index: int) -> str:
        """Split of the frame at a position."""
        return self._splits[self._split[self._rows[index]]]

    def image_path(self, index: int) -> Path:
        """Full path of a frame's image."""
        return self.folder / self._text(3 * int(self._rows[index]) + 1)

    def label_path(self, index: int) -> Path:
        """Full path of a frame's label file."""
        return self.folder / self._text(3 * int(self._rows[index]) + 2)

    @property
    def drives(self) -> list[str]:
        """The drives that occur, sorted."""
        return sorted({self._drives[code] for code in np.unique(self._drive[self._rows])})

    @property
    def splits(self) -> list[str]:
        """The splits that occur, sorted."""
        return sorted({self._splits[code] for code in np.unique(self._split[self._rows])})

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "FrameTable":
        """The table of some of these frames, in the order given; the texts are shared."""
        taken = object.__new__(FrameTable)
        taken.__dict__.update(self.__dict__)
        taken._rows = self._rows[np.asarray(indices, np.int64)]
        return taken

    def where(self, wanted: Callable[[Frame], bool]) -> "FrameTable":
        """The table of the frames that are wanted."""
        return self.take([i for i, frame in enumerate(self) if wanted(frame)])

    def _text(self, index: int) -> str:
        return self._blob[self._offsets[index] : self._offsets[index + 1]].tobytes().decode("utf-8", "surrogatepass")


class _Packer:
    """Strings in one array of bytes."""

    def __init__(self) -> None:
        self._bytes, self._lengths = bytearray(), array("q")

    def add(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._bytes += data
        self._lengths.append(len(data))

    def packed(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        offsets = np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int64)
        return np.frombuffer(bytes(self._bytes), np.uint8), offsets


class _Codes:
    """Strings of which few differ, as numbers into a list."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}
        self._codes = array("i")

    def add(self, text: str) -> None:
        self._codes.append(self._code_of.setdefault(text, len(self._code_of)))

    def packed(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        return np.array(self._codes, np.int32), list(self._code_of)
