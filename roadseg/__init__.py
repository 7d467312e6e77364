"""roadseg: drive images in, masks of road elements out.

The public names load on first use, so that `import roadseg` stays fast and needs neither torch nor Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "build_model": "roadseg.models.zoo",
    "list_backbones": "roadseg.models.zoo",
    "list_decoders": "roadseg.models.zoo",
    "load_predictor": "roadseg.inference.predictor",
    "Predictor": "roadseg.inference.predictor",
    "SegmentationResult": "roadseg.inference.result",
    "Taxonomy": "roadseg.taxonomy",
    "load_taxonomy": "roadseg.taxonomy",
    "RoadsegError": "roadseg.errors",
}

__all__ = [
    "Predictor",
    "RoadsegError",
    "SegmentationResult",
    "Taxonomy",
    "__version__",
    "build_model",
    "list_backbones",
    "list_decoders",
    "load_predictor",
    "load_taxonomy",
]

if TYPE_CHECKING:
    from roadseg.errors import RoadsegError
    from roadseg.inference.predictor import Predictor, load_predictor
    from roadseg.inference.result import SegmentationResult
    from roadseg.models.zoo import build_model, list_backbones, list_decoders
    from roadseg.taxonomy import Taxonomy, load_taxonomy


def __getattr__(name: str) -> Any:
    """Load a public name on first use; a missing extra is named by the error."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'roadseg' has no attribute '{name}'; it has {', '.join(__all__)}")
    from roadseg.errors import name_missing_extra

    with name_missing_extra(f"roadseg.{name}"):
        return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
