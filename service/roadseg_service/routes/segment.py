"""Segmenting an uploaded image."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from roadseg_service import openapi
from roadseg_service.answers.etag import CACHING, IfNoneMatch, NotModifiedError
from roadseg_service.answers.options import WEBP
from roadseg_service.answers.parameters import SegmentQuery
from roadseg_service.answers.query_faults import refuse_faults
from roadseg_service.answers.work import AnswerPlan
from roadseg_service.disconnecting import unless_disconnected
from roadseg_service.form import file_in_form
from roadseg_service.negotiation import negotiate
from roadseg_service.observing.current import observed_phases
from roadseg_service.scheduling.frames import forget_frames
from roadseg_service.service import ServiceDep
from roadseg_service.upload import UploadFormat, read_body

router = APIRouter(tags=["segment"])


@router.post(
    "/segment",
    summary="Segment an image",
    dependencies=[Depends(refuse_faults(SegmentQuery))],
    response_class=Response,
    responses=openapi.SEGMENT_RESPONSES,
    openapi_extra=openapi.SEGMENT_EXTRA,
)
async def segment(request: Request, query: Annotated[SegmentQuery, Query()], service: ServiceDep) -> Response:
    """Segment one JPEG, PNG or WebP image, sent as form field `file` or as the body itself.

    The answer is chosen by the Accept header: `image/png` (the default), a palette PNG whose pixel values are class
    ids; or `application/json`, the classes that occur with their areas and geometry. With `render=overlay` it is the
    image under the class colours, as `image/png` or `image/webp`.

    The answer's ETag changes with the upload, the model and the parameters; a request that names it in If-None-Match is
    answered 304, without the network.
    """
    # Everything that can be refused by the headers alone is, before the body is read.
    predictor = service.predictor()
    plan = AnswerPlan.of(query, _negotiate(request, query), predictor, service)
    upload = UploadFormat.of(request.headers)
    if_none_match = IfNoneMatch(request.headers.getlist("if-none-match"))
    phases = observed_phases()
    with service.pipeline.admission.ticket() as ticket:
        with phases.measure("upload"):
            body = await read_body(request, ticket)
        ticket.accept()

        def read() -> bytes:
            if upload.form is None or not body:
                return body
            ticket.hold(len(body))  # the file, beside the body that it is cut from
            return file_in_form(body, upload.form)

        work = service.pipeline.run(plan.work(read, ticket, if_none_match), ticket, phases)
        try:
            answer = await unless_disconnected(request, work)
        except NotModifiedError as unchanged:
            forget_frames(unchanged)
            headers = {**CACHING, "ETag": unchanged.tag, "Server-Timing": phases.server_timing()}
            return Response(status_code=304, headers=headers)
    headers = {**answer.headers, "Server-Timing": phases.server_timing()}
    return Response(answer.body, headers=headers, media_type=plan.answer.media_type)


def _negotiate(request: Request, query: SegmentQuery) -> str:
    if query.render == "overlay":
        return negotiate(request.headers, query.offered(), " with render=overlay")
    if parameters := query.only_json():
        return negotiate(request.headers, query.offered(), f" with {' and '.join(parameters)}")
    return negotiate(request.headers, query.offered(), elsewhere={WEBP: "render=overlay"})
