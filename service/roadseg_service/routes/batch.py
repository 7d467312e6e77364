"""Segmenting many images in one request."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response
from starlette.types import Scope

from roadseg_service import openapi
from roadseg_service.access.rate_limits import charge_images
from roadseg_service.answers.batch import BatchRun, ItemOutcome
from roadseg_service.answers.containers import CONTAINERS, Packed
from roadseg_service.answers.encoding import quoted
from roadseg_service.answers.parameters import FORMATS, BatchQuery
from roadseg_service.answers.query_faults import refuse_faults
from roadseg_service.answers.work import AnswerPlan
from roadseg_service.disconnecting import unless_disconnected
from roadseg_service.form import FormContent, files_in_form
from roadseg_service.negotiation import negotiate
from roadseg_service.observing.current import observed_phases
from roadseg_service.problems import UNSUPPORTED_CONTENT_TYPE, ProblemError
from roadseg_service.scheduling.admission import Ticket
from roadseg_service.scheduling.phases import Phases
from roadseg_service.schemas import BatchManifest, ModelRef, TaxonomyRef
from roadseg_service.service import Service, ServiceDep
from roadseg_service.text import shortened
from roadseg_service.upload import UploadFormat, read_body

router = APIRouter(tags=["segment"])


@router.post(
    "/segment/batch",
    summary="Segment many images",
    dependencies=[Depends(refuse_faults(BatchQuery))],
    response_class=Response,
    responses=openapi.BATCH_RESPONSES,
    openapi_extra=openapi.BATCH_EXTRA,
)
async def segment_batch(request: Request, query: Annotated[BatchQuery, Query()], service: ServiceDep) -> Response:
    """Segment the JPEG, PNG or WebP images that a form holds in fields `files`.

    The answer is a ZIP archive or, where Accept asks for it, `multipart/mixed`. Its first entry, `manifest.json`, says
    in the request's order what became of each file: the name of its answer, or its problem. A file that cannot be
    segmented does not harm the others: the status is 200 even when all of them fail.

    The bound on the body is that of one request, and the deadline is one for all: a file that is not done by then has
    the problem deadline-exceeded, and what is done is answered.
    """
    predictor = service.predictor()
    media_type = FORMATS[query.format] if query.format else query.offered()[0]
    plan = AnswerPlan.of(query, media_type, predictor, service)
    container = negotiate(request.headers, list(CONTAINERS))
    form = _form_of(request)
    phases = observed_phases()
    with service.pipeline.admission.ticket() as ticket:
        with phases.measure("upload"):
            body = await read_body(request, ticket)
        answering = _answer(request.scope, body, form, plan, service, ticket, phases, container)
        packed = await unless_disconnected(request, answering)
    headers = {
        "X-Roadseg-Model": quoted(plan.model_name),
        "X-Roadseg-Model-Digest": predictor.digest,
        "X-Roadseg-Taxonomy": f"{quoted(predictor.taxonomy.name)}/{predictor.taxonomy.version}",
        "X-Roadseg-Orientation": plan.orientation,
        "Vary": "Accept",
        "Cache-Control": "no-store",
        "Server-Timing": phases.server_timing(),
        "Content-Type": packed.content_type,
    }
    return Response(packed.body, headers=headers)


async def _answer(
    scope: Scope,
    body: bytes,
    form: FormContent,
    plan: AnswerPlan,
    service: Service,
    ticket: Ticket,
    phases: Phases,
    container: str,
) -> Packed:
    ticket.hold(len(body))  # the files, beside the body that they are cut from
    files = await asyncio.to_thread(files_in_form, body, form, service.settings.max_batch_files)
    admission = service.pipeline.admission
    ticket.accept(min(len(files), admission.max_requests))
    charge_images(scope, len(files))
    outcomes = await BatchRun(plan, service.pipeline, ticket, phases).all(files)
    answers = [outcome.body for outcome in outcomes]
    with phases.measure("pack"):
        return await asyncio.to_thread(CONTAINERS[container], _manifest(plan, outcomes), answers)


def _manifest(plan: AnswerPlan, outcomes: Sequence[ItemOutcome]) -> BatchManifest:
    taxonomy = plan.predictor.taxonomy
    return BatchManifest(
        model=ModelRef(name=plan.model_name, digest=plan.predictor.digest),
        taxonomy=TaxonomyRef(name=taxonomy.name, version=taxonomy.version),
        orientation=plan.orientation,
        items=[outcome.item for outcome in outcomes],
    )


def _form_of(request: Request) -> FormContent:
    form = UploadFormat.of(request.headers).form
    if form is None:
        kind = shortened(request.headers.get("content-type", ""))
        raise ProblemError(
            UNSUPPORTED_CONTENT_TYPE,
            f"Content-Type is '{kind}'; send a form (multipart/form-data) with the images in fields 'files'. With "
            "curl: -F files=@a.jpg -F files=@b.jpg",
            {"Accept": "multipart/form-data"},
        )
    return form
