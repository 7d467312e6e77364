"""The metrics, for Prometheus."""

from fastapi import APIRouter, Request
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.responses import Response

from roadseg_service import openapi
from roadseg_service.negotiation import choose_media_type
from roadseg_service.service import ServiceDep

router = APIRouter(tags=["health"])

_OPENMETRICS = "application/openmetrics-text"
_TEXT = "text/plain"
_TEXT_VERSION = "text/plain; version=0.0.4; charset=utf-8"  # the library's newest ones call it by another name


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "headers": openapi.headers({"Vary": "`Accept`, which chooses the format."}),
            "description": "The metrics, in Prometheus' text format or, if Accept prefers it, OpenMetrics.",
            "content": {kind: {"schema": {"type": "string"}} for kind in (_TEXT, _OPENMETRICS)},
        }
    },
)
@router.head("/metrics", include_in_schema=False)
def read_metrics(request: Request, service: ServiceDep) -> Response:  # in a thread: a slow reading holds up no answer
    """Load, latencies, refusals, memory and the model, as they are now."""
    accept = ", ".join(request.headers.getlist("accept"))
    if choose_media_type(accept, [_TEXT, _OPENMETRICS]) == _OPENMETRICS:
        return Response(
            openmetrics.generate_latest(service.metrics.registry),
            headers={"Content-Type": openmetrics.CONTENT_TYPE_LATEST, "Vary": "Accept"},
        )
    return Response(
        generate_latest(service.metrics.registry), headers={"Content-Type": _TEXT_VERSION, "Vary": "Accept"}
    )
