"""What the class ids mean."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from roadseg.taxonomy import Taxonomy
from roadseg_service import openapi
from roadseg_service.answers.etag import IfNoneMatch, tag_of
from roadseg_service.schemas import ClassInfo, TaxonomyAnswer, TaxonomyInfo
from roadseg_service.service import ServiceDep

router = APIRouter(tags=["models"])


@router.get(
    "/v1/taxonomy",
    summary="The classes, their colours and what mirroring does to them",
    response_model=TaxonomyAnswer,
    responses={**openapi.TAXONOMY_RESPONSES, **openapi.problems(503)},
    openapi_extra=openapi.TAXONOMY_EXTRA,
)
@router.head("/v1/taxonomy", include_in_schema=False)
async def taxonomy(request: Request, service: ServiceDep) -> Response:
    """Describe the classes of the model that answers; to be kept, and asked about again with If-None-Match."""
    body = _describe(service.model.get().predictor.taxonomy).model_dump_json().encode()
    tag = tag_of(body)
    # Kept by clients but asked about each time, since another model may answer by then.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if_none_match = IfNoneMatch(request.headers.getlist("if-none-match"))
    if if_none_match.any or if_none_match.matches(tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def taxonomy_info(taxonomy: Taxonomy) -> TaxonomyInfo:
    """All that a taxonomy says; the client makes the same taxonomy of it."""
    ids = {name: i for i, name in enumerate(taxonomy.names)}
    return TaxonomyInfo(
        name=taxonomy.name,
        version=taxonomy.version,
        family=taxonomy.family,
        classes=[
            ClassInfo(
                id=i,
                name=c.name,
                colour=c.colour,
                group=c.group,
                left_right=None if c.left_right is None else ids[c.left_right],
                refines=c.refines,
            )
            for i, c in enumerate(taxonomy.classes)
        ],
    )


def _describe(taxonomy: Taxonomy) -> TaxonomyAnswer:
    return TaxonomyAnswer(
        **taxonomy_info(taxonomy).model_dump(),
        ignore_index=taxonomy.ignore_index,
        palette=taxonomy.palette.tolist(),
    )
