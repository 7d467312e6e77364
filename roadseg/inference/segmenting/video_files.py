"""Reading frames of a video, and writing masks as a lossless one."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.errors import CorruptImageError, OutputError, UnsupportedImageError
from roadseg.images import Orientation
from roadseg.inference.segmenting.containers import is_cut_off
from roadseg.taxonomy import IGNORE_INDEX


class VideoReader:
    """The frames of a video file.

    Attributes:
        fps: frames a second, as the file says; 0 where it says nothing.
        said: how many frames the file says that it has. In many formats that is an estimate, and it is wrong where the
            frame rate varies, the sound is longer, or the video was trimmed; 0 where the file says nothing.

    Raises:
        CorruptImageError: when the file is cut off.
        UnsupportedImageError: when it is no video that this machine can decode.
        DataError: when the file cannot be read.
    """

    def __init__(self, path: Path, orientation: Orientation) -> None:
        self._path = path
        if is_cut_off(path):
            raise CorruptImageError(f"{path} is cut off: the file ends before its own lengths say; copy it again")
        self._video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._video.isOpened():
            raise UnsupportedImageError(
                f"{path} is no video that can be decoded here: empty, damaged, cut off, or of an unknown codec; try it "
                "with ffplay, or convert it to H.264"
            )
        self._video.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(orientation == "displayed"))
        self.fps = float(self._video.get(cv2.CAP_PROP_FPS)) or 0.0
        self.said = max(0, int(self._video.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The frames, (H, W, 3) uint8 RGB.

        Raises:
            CorruptImageError: when there is none.
        """
        count = 0
        while True:
            there, picture = self._video.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if count == 0:
            raise CorruptImageError(f"{self._path} is a video without a frame that can be decoded")

    def __enter__(self) -> "VideoReader":
        """Nothing is left to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._video.release()


class MaskVideoWriter:
    """Writes masks as grey FFV1 video in Matroska: what is decoded from it is what was written, bit by bit.

    FFV1 through OpenCV has even sides: masks of odd ones get a column or a row of 255 more, on the right or below.

    Args:
        path: of the file, which must not be there; it ends in .mkv.
        fps: frames a second.
        size: (H, W) of the masks.

    Raises:
        OutputError: when it cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._path = path
        self._padding = size[0] % 2, size[1] % 2
        height, width = size[0] + self._padding[0], size[1] + self._padding[1]
        codec = cv2.VideoWriter.fourcc(*"FFV1")
        self._video = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height), isColor=False)
        if not self._video.isOpened():
            raise OutputError(f"cannot write {path}: OpenCV opens no FFV1 video there; choose another place")

    def add(self, mask: npt.NDArray[np.uint8]) -> None:
        """Append a mask (H, W) uint8."""
        below, right = self._padding
        if below or right:
            mask = np.pad(mask, ((0, below), (0, right)), constant_values=IGNORE_INDEX)
        self._video.write(np.ascontiguousarray(mask))

    def close(self, frames: int) -> None:
        """End the file, and make sure that it holds so many frames: OpenCV does not tell of a full disk.

        Raises:
            OutputError: when it does not.
        """
        self.release()
        written = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        held = 0
        while written.grab():
            held += 1
        written.release()
        if held != frames:
            raise OutputError(
                f"cannot write {self._path}: of {frames} frames it holds {held}; choose another place or make room"
            )

    def release(self) -> None:
        """End the file, whatever it holds."""
        self._video.release()
