"""The models: which are loaded, and changing the one that answers."""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from roadseg_service import openapi
from roadseg_service.faults import faults_of, refusal
from roadseg_service.models.checks import Wanted
from roadseg_service.models.loading import Attempt
from roadseg_service.models.slot import ServedModel
from roadseg_service.problems import BODY_TOO_LARGE, UNSUPPORTED_CONTENT_TYPE, UPLOAD_TIMEOUT, ProblemError
from roadseg_service.routes.taxonomy import taxonomy_info
from roadseg_service.schemas import InputLimits, LoadAttempt, ModelChange, ModelInfo, ModelList
from roadseg_service.service import Service, ServiceDep
from roadseg_service.text import shortened

router = APIRouter(tags=["models"])

_PATH = "/v1/models"
_MOST_BYTES = 64 * 1024

_CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, text in {
        401: "No API key.",
        403: "Not an admin's key.",
        408: "The body did not arrive in time.",
        409: "Another change is in progress, there is no model to go back to, or digest or classes are other ones.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        422: "A field is wrong, or the model may not or cannot be loaded.",
        503: "The server is about to stop.",
    }.items()
}

_ACCEPTED: dict[str, Any] = {
    "model": ModelList,
    "description": "With `Prefer: respond-async`: it is being loaded; Location says where to look how it ended.",
    "headers": {"Location": {"schema": {"type": "string"}}, "Preference-Applied": {"schema": {"type": "string"}}},
}


@router.get(_PATH, summary="The model, its classes and the limits of uploads", responses={**openapi.problems(503)})
@router.head(_PATH, include_in_schema=False)
async def list_models(service: ServiceDep) -> ModelList:
    """List the models that are loaded, the one that answers first, and how the last change of it went."""
    service.model.get()  # else not ready
    return _describe(service)


@router.post(
    _PATH,
    summary="Answer with another model",
    response_model=ModelList,
    responses={202: _ACCEPTED, **_CHANGE_PROBLEMS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ModelChange"}}},
        },
        "parameters": [
            {
                "name": "Prefer",
                "in": "header",
                "description": "`respond-async` (RFC 7240) answers 202 at once.",
                "schema": {"type": "string"},
            }
        ],
    },
)
async def change_model(request: Request, service: ServiceDep) -> Response:
    """Load another model beside the one that answers, try it, and then answer with it; for an admin's key.

    Requests that came before are answered by the model before, which is kept for going back. Whatever fails leaves
    everything as it is. The answer comes when it is done, which takes as long as a start of the service does.
    """
    service.lifecycle.check()
    change = await _read_change(request, service.settings.upload_timeout_s)
    done = service.loader.swap(Wanted(**change.model_dump()))
    if _prefers_async(request):
        headers = {"Location": _PATH, "Preference-Applied": "respond-async"}
        return JSONResponse(_describe(service).model_dump(mode="json"), 202, headers)
    await asyncio.wrap_future(done)
    return JSONResponse(_describe(service).model_dump(mode="json"))


@router.post(f"{_PATH}/rollback", summary="Answer with the model before", responses=_CHANGE_PROBLEMS)
async def roll_back(service: ServiceDep) -> ModelList:
    """Answer with the model before again, which is still loaded; for an admin's key. Once more undoes that."""
    service.lifecycle.check()
    service.loader.roll_back()
    return _describe(service)


def _prefers_async(request: Request) -> bool:
    preferences = ",".join(request.headers.getlist("prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)


async def _read_change(request: Request, timeout_s: float) -> ModelChange:
    """The body of a request that changes the model.

    Raises:
        ProblemError: unsupported-content-type, body-too-large, upload-timeout or invalid-parameter.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(
            UNSUPPORTED_CONTENT_TYPE,
            f"Content-Type is '{shortened(kind)}'; send JSON, with `Content-Type: application/json`",
            {"Accept": "application/json"},
        )
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ProblemError(BODY_TOO_LARGE, f"the body has more than {_MOST_BYTES} bytes; it names a model")
    except TimeoutError as error:
        detail = f"the body did not arrive within {timeout_s:g} s; send it faster"
        raise ProblemError(UPLOAD_TIMEOUT, detail, {"Connection": "close"}) from error
    try:
        return ModelChange.model_validate_json(bytes(body))
    except ValidationError as error:
        raise refusal(faults_of(error, ModelChange, "field")) from error


def _describe(service: Service) -> ModelList:
    slot, loader = service.model, service.loader
    loaded = (("active", slot.active), ("previous", slot.previous))
    models = [_info(service, model, role) for role, model in loaded if model is not None]
    return ModelList(models=models, loading=_attempt(loader.loading), last_attempt=_attempt(loader.last))


def _attempt(attempt: Attempt | None) -> LoadAttempt | None:
    return None if attempt is None else LoadAttempt(**asdict(attempt))


def _info(service: Service, model: ServedModel, role: Any) -> ModelInfo:
    predictor = model.predictor
    return ModelInfo(
        role=role,
        name=model.name,
        digest=predictor.digest,
        taxonomy=taxonomy_info(predictor.taxonomy),
        weights_licence=predictor.header.weights_licence,
        engine=predictor.engine.name,
        device=predictor.engine.device,
        precision=predictor.engine.precision,
        limits=InputLimits(
            max_body_bytes=service.settings.max_body_bytes,
            max_pixels=service.settings.max_pixels,
            max_side_px=service.settings.max_side_px,
            formats=["image/jpeg", "image/png", "image/webp"],
        ),
    )
