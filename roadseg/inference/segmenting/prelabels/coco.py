"""COCO: one JSON file, masks in the compressed run-length encoding of pycocotools.

The data format is described at https://cocodataset.org/#format-data; as in COCO-Stuff, an image has one annotation a
class with all its pixels.
"""

import json
import tempfile
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt

from roadseg.inference.segmenting.names import readable
from roadseg.inference.segmenting.prelabels.format import Header, LabelledImage
from roadseg.inference.segmenting.prelabels.runs import bounding_box, regions


class CocoFile:
    """Writes a COCO file image by image; see `roadseg.inference.segmenting.prelabels.format.Format`.

    Category ids are class ids plus one, because in COCO 0 stands for none.
    """

    file_name: ClassVar[str] = "prelabels-coco.json"

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._header = header
        self._images = tempfile.TemporaryFile()  # their list follows that of the annotations
        self._count = 0
        self._annotations = 0
        file.write(b'{"annotations": [')

    def encode(self, labelled: LabelledImage) -> list[dict[str, Any]]:
        """Annotations of an image, without ids."""
        mask = labelled.mask
        found = []
        for region in regions(mask.ravel(order="F")):
            found.append(
                {
                    "category_id": region.class_id + 1,
                    "segmentation": {"size": list(mask.shape), "counts": compressed_counts(region.counts())},
                    "area": region.area,
                    "bbox": list(bounding_box(mask, region.class_id)),
                    "iscrowd": 0,
                }
            )
        return found

    def add(self, labelled: LabelledImage, encoded: list[dict[str, Any]]) -> None:
        """Append an image."""
        self._count += 1
        height, width = labelled.mask.shape
        image = {"id": self._count, "file_name": readable(labelled.name), "width": width, "height": height}
        self._images.write((",\n" if self._count > 1 else "\n").encode() + json.dumps(image).encode())
        for annotation in encoded:
            self._annotations += 1
            numbered = {"id": self._annotations, "image_id": self._count, **annotation}
            self._file.write((",\n" if self._annotations > 1 else "\n").encode() + json.dumps(numbered).encode())

    def close(self) -> None:
        """Write what follows the annotations."""
        classes = enumerate(self._header.taxonomy.classes, 1)
        categories = [{"id": i, "name": c.name, "supercategory": c.group} for i, c in classes]
        info = {"description": self._header.description, "version": self._header.model_digest}
        self._file.write(b'\n],\n"images": [')
        self._images.seek(0)
        while chunk := self._images.read(1 << 20):
            self._file.write(chunk)
        self._images.close()
        ending = f'\n],\n"categories": {json.dumps(categories)},\n"info": {json.dumps(info)}}}\n'
        self._file.write(ending.encode())


def compressed_counts(counts: npt.NDArray[np.int64]) -> str:
    """Run lengths in the text form of pycocotools.

    From the fourth on, a length is given as its difference to the one before the last, since lengths of a shape
    resemble those of the column before. A number is written in groups of 5 bits, lowest first, as the character
    48 + bits + 32 if more groups follow; bit 4 of the last group is its sign.

    Args:
        counts: (n,) lengths along the columns, the first of background.
    """
    left = counts.copy()
    left[3:] -= counts[1:-2]
    groups, used = [], []
    unfinished = np.ones(len(left), bool)
    while unfinished.any():
        bits = left & 0x1F
        left = left >> 5
        more = np.where(bits & 0x10, left != -1, left != 0)
        groups.append(bits + 48 + 32 * more)
        used.append(unfinished)
        unfinished = unfinished & more
    # Groups of a number stand together: numbers are rows, groups columns.
    return np.stack(groups, 1).astype(np.uint8)[np.stack(used, 1)].tobytes().decode("ascii")
