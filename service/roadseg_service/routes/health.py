"""Health checks: is the process alive, and can it segment."""

from fastapi import APIRouter

from roadseg_service import openapi
from roadseg_service.schemas import Health
from roadseg_service.service import ServiceDep

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive?")
@router.head("/livez", include_in_schema=False)
async def livez() -> Health:
    """Answer 200 as long as the process serves requests, whether or not the model is loaded."""
    return Health(status="alive")


@router.get("/readyz", summary="Can it segment?", responses=openapi.problems(503))
@router.head("/readyz", include_in_schema=False)
async def readyz(service: ServiceDep) -> Health:
    """Answer 200 once the model is loaded, and 503 with the reason before, or when loading it failed."""
    service.model.get()
    return Health(status="ready")
