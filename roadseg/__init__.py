"""roadseg: drive images in, masks of road elements out.

The public names load on first use, so that `import roadseg` stays fast and needs neither torch nor Lightning.
"""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__version__ = "0.1.0"

_MODULE_OF = {
    "build_classifier": "roadseg.models.zoo",
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
    "build_classifier",
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
    from roadseg.models.zoo import build_classifier, build_model, list_backbones, list_decoders
    from roadseg.taxonomy import Taxonomy, load_taxonomy


__getattr__ = lazy_names("roadseg", _MODULE_OF)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
