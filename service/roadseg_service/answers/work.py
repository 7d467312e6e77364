"""An image file's way to its answer, as work for the pipeline; shared by the routes for one file and for many."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from roadseg.images import DecodedImage, Orientation
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult
from roadseg_service.answers.encoding import Answer, encode_answer
from roadseg_service.answers.etag import CACHING, EntityTags, IfNoneMatch, NotModifiedError
from roadseg_service.answers.options import AnswerOptions
from roadseg_service.answers.overlay import refuse_beyond_webp
from roadseg_service.answers.parameters import SegmentQuery, answer_options
from roadseg_service.pipeline import Work
from roadseg_service.scheduling.admission import Ticket
from roadseg_service.service import Service
from roadseg_service.upload import UploadFormat


@dataclass(frozen=True)
class AnswerPlan:
    """What a request wants done with an image file, whichever it sends.

    Attributes:
        predictor: what segments.
        model_name: of its model.
        orientation: which raster is segmented.
        max_pixels: largest width x height.
        max_side_px: longest side.
        inference: options in place of the predictor's own, or None.
        answer: what the answer is to be.
    """

    predictor: Predictor
    model_name: str
    orientation: Orientation
    max_pixels: int
    max_side_px: int
    inference: InferenceOptions | None
    answer: AnswerOptions

    @classmethod
    def of(cls, query: SegmentQuery, media_type: str, predictor: Predictor, service: Service) -> "AnswerPlan":
        """The plan of a query.

        Raises:
            ProblemError: invalid-parameter, when it names an unknown class.
        """
        options = answer_options(query, media_type, predictor.taxonomy)
        least = query.min_confidence
        inference = None if least is None else replace(predictor.options, min_confidence=least)
        settings = service.settings
        return cls(
            predictor,
            service.model.name_of(predictor),
            query.orientation,
            settings.max_pixels,
            settings.max_side_px,
            inference,
            options,
        )

    def work(self, read: Callable[[], bytes], ticket: Ticket, if_none_match: IfNoneMatch | None = None) -> Work[Answer]:
        """What the pipeline does with a file.

        Its decoding raises `NotModifiedError` where the client has the answer already.

        Args:
            read: gives the file; called in a thread.
            ticket: what decoding takes is counted there.
            if_none_match: of the request.
        """
        tags = EntityTags(self.predictor, self.model_name, self.inference, self.orientation, self.answer)
        file = _File(self, tags, read, ticket, if_none_match or IfNoneMatch([]))
        return Work(file.decode, self.predictor, file.encode, self.answer.confidence, self.inference)


class _File:
    """One file, between its decoding and its answer."""

    def __init__(
        self, plan: AnswerPlan, tags: EntityTags, read: Callable[[], bytes], ticket: Ticket, if_none_match: IfNoneMatch
    ) -> None:
        self._plan = plan
        self._tags = tags
        self._read = read
        self._ticket = ticket
        self._if_none_match = if_none_match
        self._tag = ""

    def decode(self) -> DecodedImage:
        data, plan = self._read(), self._plan
        # A form's boundary differs from request to request: the file alone tells whether it is the same upload.
        self._tag = self._tags.of(data)
        if self._if_none_match.matches(self._tag):
            raise NotModifiedError(self._tag)
        image = UploadFormat(None).decode(data, self._ticket, plan.orientation, plan.max_pixels, plan.max_side_px)
        refuse_beyond_webp(image, plan.answer)
        if self._if_none_match.any:  # there is an answer to every image, so `*` holds; but it must be an image
            raise NotModifiedError(self._tag)
        return image

    def encode(self, image: DecodedImage, result: SegmentationResult) -> Answer:
        answer = encode_answer(image, result, self._plan.model_name, self._plan.answer)
        return Answer(answer.body, {**answer.headers, **CACHING, "ETag": self._tag})
