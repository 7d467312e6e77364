"""Health checks: is the process alive, and can it segment."""

from fastapi import APIRouter

from roadseg_service import openapi
from roadseg_service.schemas import Health
from roadseg_service.service import ServiceDep

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive?", responses=openapi.problems(503))
@router.head("/livez", include_in_schema=False)
async def livez(service: ServiceDep) -> Health:
    """Answer 200 as long as the process can do its work, whether or not the model is loaded; 503 once the device hangs.

    A device that hangs has not come back for ten deadlines, and at least five minutes: only a restart helps.
    """
    if service.pipeline.watch.hung:
        service.pipeline.watch.check()
    return Health(status="alive")


@router.get("/readyz", summary="Can it segment?", responses=openapi.problems(503))
@router.head("/readyz", include_in_schema=False)
async def readyz(service: ServiceDep) -> Health:
    """Answer 200 once the model is loaded; 503 with the reason before, when loading failed, and once told to stop.

    It is 503, too, while the device fails on every image, or works on one batch for twice the deadline. Images are
    taken all the same, and the first that succeeds ends it.
    """
    service.predictor()
    service.pipeline.watch.check()
    return Health(status="ready")
