"""The HTTP service of roadseg: drive images in, masks of road elements out."""

from roadseg_service.app import create_app
from roadseg_service.settings import ServiceSettings, load_settings

__all__ = ["ServiceSettings", "create_app", "load_settings"]
