"""What the routes work with: the parts of one service, put together by `create_app`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from roadseg.inference.predictor import Predictor
from roadseg_service.access.key_file import KeyFile
from roadseg_service.connections import Connections
from roadseg_service.lifecycle import Lifecycle
from roadseg_service.models.loading import ModelLoader
from roadseg_service.models.slot import ModelSlot
from roadseg_service.observing.metrics import Metrics
from roadseg_service.pipeline import Pipeline
from roadseg_service.settings import ServiceSettings

THREAD_PREFIX = "roadseg-"
"""Of the names of the service's threads."""


@dataclass(frozen=True)
class Service:
    """The parts of one service.

    Attributes:
        settings: what it runs with.
        model: the place of the model.
        pipeline: what takes images through it.
        lifecycle: whether it takes new work.
        loader: what fills the model's place.
        metrics: what is counted.
        connections: those of its server.
        key_file: the API keys; None where none are asked for.
    """

    settings: ServiceSettings
    model: ModelSlot
    pipeline: Pipeline
    lifecycle: Lifecycle
    loader: ModelLoader
    metrics: Metrics
    connections: Connections
    key_file: KeyFile | None = None

    def predictor(self) -> Predictor:
        """What new work is segmented with.

        Raises:
            ProblemError: draining, or model-not-ready.
        """
        self.lifecycle.check()
        return self.model.get().predictor


async def service_of(request: Request) -> Service:  # FastAPI would ask a plain function in a thread of its own
    """The service that a request was sent to."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
