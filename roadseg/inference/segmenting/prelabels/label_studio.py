"""Label Studio: a JSON list of tasks, each with a prediction of brush labels.

The list is described at https://labelstud.io/guide/predictions and the fields of a brush at
https://labelstud.io/tags/brushlabels. Its run-length encoding is that of @thi.ng/rle-pack over the four channels of an
RGBA picture: a 32-bit number of words (bytes of the picture), 5 bits of word size less one, four times 4 bits of
run-length size less one; then for each run a bit 1, two bits that choose one of the four sizes, the run's length less
one in so many bits, and the word.
"""

import json
from typing import IO, Any, ClassVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from roadseg.inference.segmenting.names import readable
from roadseg.inference.segmenting.prelabels.format import Header, LabelledImage
from roadseg.inference.segmenting.prelabels.runs import Region, regions
from roadseg.inference.segmenting.prelabels.xml_text import attribute

CHANNELS = 4
WORD_BITS = 8
SIZES = (3, 4, 8, 16)
"""Bits that a run's length may take."""

LONGEST = 1 << SIZES[-1]
FROM_NAME, TO_NAME = "label", "image"
"""Names of the labels and of the image in the project's labelling interface."""


class LabelStudioFile:
    """Writes a Label Studio file image by image; see `roadseg.inference.segmenting.prelabels.format.Format`.

    The labelling interface that it fits is `labelling_interface`.
    """

    file_name: ClassVar[str] = "prelabels-labelstudio.json"

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._header = header
        self._count = 0
        file.write(b"[")

    def encode(self, labelled: LabelledImage) -> bytes:
        """The task of an image."""
        height, width = labelled.mask.shape
        results: list[dict[str, Any]] = []
        for region in regions(labelled.mask.ravel()):
            name = self._header.taxonomy.names[region.class_id]
            results.append(
                {
                    "id": f"roadseg-{region.class_id}",
                    "type": "brushlabels",
                    "from_name": FROM_NAME,
                    "to_name": TO_NAME,
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {"format": "rle", "rle": brush_rle(region).tolist(), "brushlabels": [name]},
                }
            )
        prediction: dict[str, Any] = {"model_version": self._header.model_digest[:12], "result": results}
        if labelled.confidence is not None:
            prediction["score"] = labelled.confidence
        url = self._header.image_url + quote(readable(labelled.name))
        return json.dumps({"data": {"image": url}, "predictions": [prediction]}).encode()

    def add(self, labelled: LabelledImage, encoded: bytes) -> None:
        """Append an image."""
        self._file.write((b",\n" if self._count else b"\n") + encoded)
        self._count += 1

    def close(self) -> None:
        """Write the file's end."""
        self._file.write(b"\n]\n")


def brush_rle(region: Region) -> npt.NDArray[np.uint8]:
    """A region, along the rows, as the bytes of Label Studio's run-length encoding: 255 in it, 0 elsewhere."""
    counts = region.counts() * CHANNELS
    words = np.zeros(len(counts), np.int64)
    words[1::2] = 255
    words, counts = words[counts > 0], counts[counts > 0]
    pieces = -(-counts // LONGEST)  # runs that no size can say are given in several
    words = np.repeat(words, pieces)
    lengths = np.full(len(words), LONGEST, np.int64)
    lengths[np.cumsum(pieces) - 1] = counts - (pieces - 1) * LONGEST
    choice = np.searchsorted(SIZES, np.ceil(np.log2(np.maximum(lengths, 2))))
    bits = np.array(SIZES)[choice]
    codes = (((4 | choice) << bits | (lengths - 1)) << WORD_BITS) | words
    header = [(region.length * CHANNELS, 32), (WORD_BITS - 1, 5), *((size - 1, 4) for size in SIZES)]
    values = np.concatenate([[value for value, _ in header], codes])
    widths = np.concatenate([[width for _, width in header], 3 + bits + WORD_BITS])
    return _packed(values, widths)


def labelling_interface(header: Header) -> str:
    """The XML of a project's labelling interface that the predictions fit."""
    labels = "\n".join(
        f'    <Label value={attribute(c.name)} background="#{bytes(c.colour).hex()}"/>' for c in header.taxonomy.classes
    )
    return (
        f'<View>\n  <Image name="{TO_NAME}" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="{FROM_NAME}" toName="{TO_NAME}">\n{labels}\n  </BrushLabels>\n</View>\n'
    )


def _packed(values: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Numbers of so many bits each, at most 32, one behind the other, highest bit first; filled up with zeros."""
    bits = np.unpackbits(values.astype(">u4").view(np.uint8)).reshape(-1, 32).astype(bool)
    used = np.arange(32) >= 32 - widths[:, None]
    return np.packbits(bits[used])
