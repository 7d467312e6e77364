"""The HTTP service of roadseg: drive images in, masks of road elements out.

The public names load on first use, so that `roadseg serve --help` reads the settings without the server.
"""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__all__ = ["ServiceSettings", "create_app", "load_settings"]

if TYPE_CHECKING:
    from roadseg_service.app import create_app
    from roadseg_service.settings import ServiceSettings, load_settings

__getattr__ = lazy_names(
    "roadseg_service",
    {
        "ServiceSettings": "roadseg_service.settings",
        "create_app": "roadseg_service.app",
        "load_settings": "roadseg_service.settings",
    },
)
