"""What the routes work with: the parts of one service, put together by `create_app`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from roadseg_service.model_slot import ModelSlot
from roadseg_service.pipeline import Pipeline
from roadseg_service.settings import ServiceSettings


@dataclass(frozen=True)
class Service:
    """The parts of one service.

    Attributes:
        settings: what it runs with.
        model: the place of the model.
        pipeline: what takes images through it.
    """

    settings: ServiceSettings
    model: ModelSlot
    pipeline: Pipeline


def service_of(request: Request) -> Service:
    """The service that a request was sent to."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
