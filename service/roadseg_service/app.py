"""The application: built from settings, with the model loading beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from roadseg import __version__
from roadseg.ignore_regions import load_regions
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg_service import openapi
from roadseg_service.limits import BodyLimit
from roadseg_service.model_slot import ModelSlot
from roadseg_service.pipeline import Pipeline
from roadseg_service.problems import add_problem_handlers
from roadseg_service.routes import health, models, segment
from roadseg_service.service import Service
from roadseg_service.settings import ServiceSettings


class ServiceApp(FastAPI):
    """FastAPI, with the shape of problems in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi.with_problem_schema(super().openapi())


def create_app(settings: ServiceSettings, load: Callable[[], Predictor] | None = None) -> FastAPI:
    """Build the application.

    Once it starts it answers at once, while the model loads in a thread; `/readyz` says when it has.

    Args:
        settings: what to run with.
        load: gives the predictor; by default the settings' model file is loaded.
    """
    service = Service(settings, ModelSlot(settings.model_name), Pipeline(settings))
    load_model = load or partial(_load, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # In the network's own thread: some runtimes bind a device to the thread that first uses it.
        loading = asyncio.get_running_loop().run_in_executor(service.pipeline.network, service.model.fill, load_model)
        try:
            yield
        finally:
            loading.cancel()
            service.pipeline.close()

    app = ServiceApp(
        title="roadseg",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        docs_url="/docs" if settings.api_docs else None,
        redoc_url=None,
        redirect_slashes=False,  # a redirected upload would be sent twice
    )
    app.state.service = service
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes)
    add_problem_handlers(app)
    for router in (segment.router, models.router, health.router):
        app.include_router(router)
    return app


def _load(settings: ServiceSettings) -> Predictor:
    return load_predictor(
        settings.model,
        engine=settings.engine,
        precision=settings.precision,
        device=settings.device,
        ignore_regions=load_regions(settings.ignore_regions) if settings.ignore_regions else None,
    )
