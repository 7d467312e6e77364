"""Segmenting an uploaded image."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from roadseg.images import DecodedImage, Orientation
from roadseg.inference.result import SegmentationResult
from roadseg_service import openapi
from roadseg_service.encoding import ENCODERS, Answer, encode_answer
from roadseg_service.negotiation import choose_media_type
from roadseg_service.problems import NOT_ACCEPTABLE, REPEATED, ProblemError
from roadseg_service.service import ServiceDep
from roadseg_service.upload import UploadFormat, read_body

router = APIRouter(tags=["segment"])


class SegmentQuery(BaseModel):
    """The query string. Unknown parameters are refused, so that a misspelt one does not go unnoticed."""

    model_config = ConfigDict(extra="forbid")

    orientation: Orientation = Field(
        "displayed",
        description="displayed: the EXIF orientation is applied, as viewers do; stored: the raster as the camera stored"
        " it. The mask has the size of that raster.",
    )


def refuse_repeated(request: Request) -> None:
    """Refuse query parameters that are given more than once, of which all but the last would go unnoticed.

    Raises:
        RequestValidationError: with each of them.
    """
    given = {name: request.query_params.getlist(name) for name in SegmentQuery.model_fields}
    errors = [
        {
            "type": REPEATED,
            "loc": ("query", name),
            "msg": f"is given {len(values)} times; give it once",
            "input": values,
        }
        for name, values in given.items()
        if len(values) > 1
    ]
    if errors:
        raise RequestValidationError(errors)


@router.post(
    "/segment",
    summary="Segment an image",
    dependencies=[Depends(refuse_repeated)],
    response_class=Response,
    responses=openapi.SEGMENT_RESPONSES,
    openapi_extra={"requestBody": openapi.SEGMENT_BODY},
)
async def segment(request: Request, query: Annotated[SegmentQuery, Query()], service: ServiceDep) -> Response:
    """Segment one JPEG, PNG or WebP image, sent as form field `file` or as the body itself.

    The answer is chosen by the Accept header: `image/png` (the default), a palette PNG whose pixel values are class
    ids; or `application/json`, the classes that occur with their areas and COCO run-length encodings.
    """
    # Everything that can be refused by the headers alone is, before the body is read.
    predictor = service.model.get()
    media_type = _negotiate(request)
    upload = UploadFormat.of(request.headers)
    settings = service.settings

    def encode(image: DecodedImage, result: SegmentationResult) -> Answer:
        return encode_answer(image, result, service.model.name, media_type)

    with service.pipeline.admit():
        body = await read_body(request, settings.upload_timeout_s)
        decode = partial(upload.decode, body, query.orientation, settings.max_pixels)
        answer = await _unless_disconnected(request, service.pipeline.run(decode, predictor, encode))
    return Response(answer.body, headers=dict(answer.headers), media_type=media_type)


def _negotiate(request: Request) -> str:
    accept = ", ".join(request.headers.getlist("accept"))
    media_type = choose_media_type(accept, list(ENCODERS))
    if media_type is None:
        raise ProblemError(
            NOT_ACCEPTABLE,
            f"Accept is '{accept[:200]}', but the answer can only be {' or '.join(ENCODERS)}; accept one of these",
            {"Vary": "Accept"},
        )
    return media_type


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do the work, or drop what has not begun of it once the client is gone.

    Raises:
        ClientDisconnect: when it went.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
