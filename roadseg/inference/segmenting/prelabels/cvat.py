"""CVAT: the XML file of "CVAT for images 1.1", a mask a class.

The format is described at https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and
https://docs.cvat.ai/docs/dataset_management/formats/xml_format/. A mask's `rle` are the lengths of runs along the rows
of its bounding box, outside and inside in turn, the first outside.
"""

from typing import IO, ClassVar

import numpy as np

from roadseg.inference.segmenting.names import readable
from roadseg.inference.segmenting.prelabels.format import Header, LabelledImage
from roadseg.inference.segmenting.prelabels.runs import bounding_box, regions
from roadseg.inference.segmenting.prelabels.xml_text import attribute, element


class CvatFile:
    """Writes a CVAT file image by image; see `roadseg.inference.segmenting.prelabels.format.Format`.

    CVAT goes by the names of images and labels: the task's images keep their relative paths, and it has all classes as
    labels.
    """

    file_name: ClassVar[str] = "prelabels-cvat.xml"

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._names = header.taxonomy.names
        self._count = 0
        labels = "".join(
            f"<label><name>{element(c.name)}</name><color>#{bytes(c.colour).hex()}</color><type>mask</type>"
            "<attributes></attributes></label>\n"
            for c in header.taxonomy.classes
        )
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta>\n<task>\n'
            f"<name>{element(header.description)}</name>\n<mode>annotation</mode>\n"
            f"<labels>\n{labels}</labels>\n</task>\n</meta>\n".encode()
        )

    def encode(self, labelled: LabelledImage) -> bytes:
        """The masks of an image."""
        mask = labelled.mask
        lines = []
        for class_id in [region.class_id for region in regions(mask.ravel())]:
            left, top, width, height = bounding_box(mask, class_id)
            inside = mask[top : top + height, left : left + width] == class_id
            *_, own = regions(inside.view(np.uint8).ravel())
            rle = ", ".join(map(str, own.counts().tolist()))
            lines.append(
                f'<mask label={attribute(self._names[class_id])} source="auto" occluded="0" rle="{rle}" left="{left}" '
                f'top="{top}" width="{width}" height="{height}" z_order="0"></mask>\n'
            )
        return "".join(lines).encode()

    def add(self, labelled: LabelledImage, encoded: bytes) -> None:
        """Append an image."""
        height, width = labelled.mask.shape
        name = attribute(readable(labelled.name))
        self._file.write(
            f'<image id="{self._count}" name={name} width="{width}" height="{height}">\n'.encode() + encoded
        )
        self._file.write(b"</image>\n")
        self._count += 1

    def close(self) -> None:
        """Write the file's end."""
        self._file.write(b"</annotations>\n")
