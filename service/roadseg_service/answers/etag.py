"""Entity tags: an answer's identity, known before the network runs, and the requests that ask whether it changed.

A request with `If-None-Match` is answered 304 when it matches. RFC 9110, section 13.1.2, has 304 for GET and HEAD and
412 for other methods, since these change something; `POST /segment` changes nothing, it is a GET whose query has a
body, and 304 says what is the case: the answer that you have is the answer still.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from roadseg import __version__
from roadseg.images import Orientation
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg_service.answers.options import AnswerOptions

CACHING = {"Vary": "Accept", "Cache-Control": "private, no-cache"}
"""Of answers with an entity tag. An answer belongs to one upload: no shared cache may keep it for others, and a client
that keeps it asks again, as the model may have been changed."""

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


@dataclass(frozen=True)
class EntityTags:
    """Makes the entity tags of the answers to one request; all but the image is known from its headers.

    Attributes:
        predictor: what segments.
        model_name: which JSON answers tell.
        inference: options in place of the predictor's own, or None.
        orientation: which raster is segmented.
        options: what the answer is to be.
    """

    predictor: Predictor
    model_name: str
    inference: InferenceOptions | None
    orientation: Orientation
    options: AnswerOptions

    def of(self, data: bytes) -> str:
        """The strong entity tag of the answer to an image file."""
        predictor = self.predictor
        engine, regions = predictor.engine, predictor.ignore_regions
        answered_by = {
            "service": __version__,
            "model": [self.model_name, predictor.digest],
            "engine": [engine.name, engine.device, engine.precision],
            "ignore_regions": None if regions is None else regions.digest,
            "inference": (self.inference or predictor.options).to_dict(),
            "orientation": self.orientation,
            "answer": self.options.canonical(),
            "upload": hashlib.sha256(data).hexdigest(),
        }
        return tag_of(json.dumps(answered_by, sort_keys=True).encode())


def tag_of(content: bytes) -> str:
    """The strong entity tag of what these bytes determine."""
    return f'"{hashlib.sha256(content).hexdigest()}"'


class IfNoneMatch:
    """An If-None-Match header (RFC 9110, section 13.1.2).

    What cannot be read of it is left out: the request is then answered in full.

    Args:
        values: the header's values, of all its lines.
    """

    def __init__(self, values: Iterable[str]) -> None:
        text = ",".join(values).strip()
        self.any = text == "*"
        # Weak comparison, as the standard has it here: the W/ does not count.
        self._tags = frozenset(_TAG.findall(text))

    def matches(self, tag: str) -> bool:
        """Whether it holds a tag; `*` does not count as one."""
        return tag in self._tags


class NotModifiedError(Exception):
    """Ends a request with 304.

    Args:
        tag: the entity tag of the answer that the client has.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag
