"""The application: built from settings, with the model loading beside it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from roadseg import __version__
from roadseg.cores import usable_cores
from roadseg.ignore_regions import load_regions
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg_service import openapi
from roadseg_service.access.addresses import is_loopback
from roadseg_service.access.authentication import Authentication
from roadseg_service.access.cors import Cors
from roadseg_service.access.cross_origin import KnownHosts, SameOrigin
from roadseg_service.access.description import with_keys
from roadseg_service.access.key_file import KeyFile
from roadseg_service.access.rate_limits import RateLimit, TokenBuckets
from roadseg_service.answers.parameters import BatchQuery
from roadseg_service.connections import Connections
from roadseg_service.lifecycle import LastWord, Lifecycle
from roadseg_service.limits import BodyLimit
from roadseg_service.models.loading import ModelLoader
from roadseg_service.models.reloading import reload_on_hangup
from roadseg_service.models.sizes import parse_size
from roadseg_service.models.slot import ModelSlot
from roadseg_service.models.warm_up import RecentSizes
from roadseg_service.observing.collector import ServiceCollector
from roadseg_service.observing.metrics import Metrics
from roadseg_service.observing.middleware import Observer, Observing
from roadseg_service.observing.request_log import RequestLog
from roadseg_service.observing.tracing import Tracing, make_tracing
from roadseg_service.pipeline import Pipeline
from roadseg_service.problems import Problem, add_problem_handlers
from roadseg_service.routes import batch, health, metrics, models, page, segment, taxonomy
from roadseg_service.scheduling.jobs import Job
from roadseg_service.schemas import BatchManifest, ModelChange
from roadseg_service.service import Service
from roadseg_service.settings import ServiceSettings

ROUTERS = (
    segment.router,
    batch.router,
    taxonomy.router,
    models.router,
    health.router,
    metrics.router,
    page.router,
)

MOST_STREAMS = 4
"""Where the settings do not say: each stream has a network's working memory of its own."""

_NO_TELEMETRY: Any = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own spans would double those of `observing`, and its logs of faults quote what clients sent."""


class ServiceApp(FastAPI):
    """FastAPI, with the shape of problems in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        settings: ServiceSettings = self.state.service.settings
        named = (Problem, BatchManifest, ModelChange)
        document = openapi.completed(super().openapi(), named, settings.metrics_need_key)
        if settings.api_keys_file is None:
            return document
        return with_keys(document, allow_anonymous=settings.allow_anonymous, metrics_need_key=settings.metrics_need_key)

    def build_middleware_stack(self) -> ASGIApp:
        """The application, observed from around everything, also from around what answers unforeseen errors."""
        templates = frozenset(route.path for router in ROUTERS for route in router.routes if isinstance(route, Route))
        observer = Observer(
            self.state.service.metrics, RequestLog(frozenset(BatchQuery.model_fields)), templates, self.state.tracing
        )
        return Observing(super().build_middleware_stack(), observer)


def create_app(
    settings: ServiceSettings,
    load: Callable[[], Predictor] | None = None,
    open_model: Callable[[Path], Predictor] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the application.

    Once it starts it answers at once, while the model loads in a thread; `/readyz` says when it has.

    Args:
        settings: what to run with.
        load: gives the predictor; by default the settings' model file is loaded.
        open_model: gives the predictor of a path, when another model takes the place; by default as the first one.
        tracing: makes spans; by default as the settings or the environment say.

    Raises:
        MissingExtraError: when traces are asked for, and OpenTelemetry is not installed.
    """
    service = _make_service(settings, load or partial(_load, settings, settings.model), open_model)
    tracing = tracing or make_tracing(settings.otlp_endpoint)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.loader.start()
        try:
            with reload_on_hangup(service.loader):
                yield
        finally:
            service.pipeline.close()
            if tracing is not None:
                tracing.close()

    app = ServiceApp(
        title="roadseg",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        docs_url="/docs" if settings.serves_api_docs else None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their methods
        redirect_slashes=False,  # a redirected upload would be sent twice
        telemetry=_NO_TELEMETRY,
        middleware=_middlewares(settings, service.key_file),
    )
    app.state.service = service
    app.state.tracing = tracing
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _middlewares(settings: ServiceSettings, key_file: KeyFile | None) -> list[Middleware]:
    """What a request passes before its route, from the outside in; nothing here reads a body.

    CORS is outside of all that refuses, so that scripts of allowed pages can read the refusals, and preflights, which
    bring no key, are answered. Who may be here at all is asked before who it is, and that before how much they send, as
    limits count by key.
    """
    closed = settings.metrics_need_key
    requests_per_s, bytes_per_s = settings.rate_limit_requests_per_s, settings.rate_limit_bytes_per_s
    requests = TokenBuckets(requests_per_s, settings.rate_limit_burst) if requests_per_s else None
    uploads = TokenBuckets(bytes_per_s, bytes_per_s) if bytes_per_s else None
    middlewares = [
        Middleware(SameOrigin, origins=settings.cors_origins),
        Middleware(
            Authentication, key_file=key_file, allow_anonymous=settings.allow_anonymous, metrics_need_key=closed
        ),
        Middleware(RateLimit, requests=requests, uploads=uploads, metrics_need_key=closed),
        Middleware(LastWord),
        Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes, timeout_s=settings.upload_timeout_s),
    ]
    if settings.allowed_hosts or is_loopback(settings.host):
        middlewares.insert(0, Middleware(KnownHosts, names=settings.allowed_hosts))
    if settings.cors_origins:
        middlewares.insert(0, Middleware(Cors, origins=settings.cors_origins))
    return middlewares


def _make_service(
    settings: ServiceSettings, load: Callable[[], Predictor], open_model: Callable[[Path], Predictor] | None
) -> Service:
    counted, recent = Metrics(), RecentSizes([parse_size(size) for size in settings.warm_up_sizes])

    def observe_batch(jobs: Sequence[Job], seconds: float) -> None:
        counted.batch(jobs, seconds)
        recent.note(jobs)

    slot = ModelSlot(settings.model_name)
    loader = ModelLoader(slot, settings, load, open_model or partial(_load, settings), recent, counted.model_change)
    key_file = KeyFile(settings.api_keys_file) if settings.api_keys_file else None
    pipeline, connections = Pipeline(settings, observe_batch), Connections(settings.max_connections)
    service = Service(settings, slot, pipeline, Lifecycle(), loader, counted, connections, key_file)
    counted.registry.register(ServiceCollector(service))
    return service


def _load(settings: ServiceSettings, model: str | Path) -> Predictor:
    return load_predictor(
        model,
        engine=settings.engine,
        precision=settings.precision,
        device=settings.device,
        ignore_regions=load_regions(settings.ignore_regions) if settings.ignore_regions else None,
        streams=settings.streams or min(usable_cores(), MOST_STREAMS),
    )
