"""One upload and the answer that it must get."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from service_corpus import scene

BOUNDARY = "multipart/form-data; boundary=b"


PHOTO = scene(40, 56)


GREY = PHOTO[..., 0]


@dataclass(frozen=True)
class Upload:
    """One upload.

    Attributes:
        row: first column of its row in the table.
        name: of the test.
        body: what is sent.
        status: of the answer.
        says: in the problem's detail.
        pixels: (H, W, 3) uint8 that the mask must be of.
        content_type: of the request.
        query: of the request.
        headers: that the answer must have.
    """

    row: str
    name: str
    body: bytes
    status: int = 200
    says: tuple[str, ...] = ()
    pixels: np.ndarray | None = None
    content_type: str = "application/octet-stream"
    query: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)


def by_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]


def taken(row, name, body, pixels=None, **options):
    return Upload(row, name, body, pixels=by_opencv(body) if pixels is None else pixels, **options)
