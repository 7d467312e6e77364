"""Clients of the segmentation service: `Client`, and `AsyncClient` for asyncio."""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__all__ = ["AsyncClient", "Client"]

if TYPE_CHECKING:
    from roadseg.client.async_client import AsyncClient
    from roadseg.client.client import Client

__getattr__ = lazy_names(
    "roadseg.client", {"AsyncClient": "roadseg.client.async_client", "Client": "roadseg.client.client"}
)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
