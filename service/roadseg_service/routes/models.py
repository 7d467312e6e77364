"""What the service answers with."""

from fastapi import APIRouter

from roadseg_service import openapi
from roadseg_service.schemas import ClassInfo, InputLimits, ModelInfo, ModelList, TaxonomyInfo
from roadseg_service.service import Service, ServiceDep

router = APIRouter(tags=["models"])


@router.get("/v1/models", summary="The model, its classes and the limits of uploads", responses=openapi.problems(503))
async def list_models(service: ServiceDep) -> ModelList:
    """List the models of this service, which are one."""
    return ModelList(models=[_describe(service)])


def _describe(service: Service) -> ModelInfo:
    predictor = service.model.get()
    taxonomy = predictor.taxonomy
    return ModelInfo(
        name=service.model.name,
        digest=predictor.digest,
        taxonomy=TaxonomyInfo(
            name=taxonomy.name,
            version=taxonomy.version,
            classes=[ClassInfo(id=i, name=c.name, colour=c.colour) for i, c in enumerate(taxonomy.classes)],
        ),
        weights_licence=predictor.header.weights_licence,
        engine=predictor.engine.name,
        device=predictor.engine.device,
        precision=predictor.engine.precision,
        limits=InputLimits(
            max_body_bytes=service.settings.max_body_bytes,
            max_pixels=service.settings.max_pixels,
            formats=["image/jpeg", "image/png", "image/webp"],
        ),
    )
