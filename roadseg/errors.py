"""The exceptions of roadseg.

Every message names the bad thing, its value and the fix. Each class takes the message alone, because torch rebuilds an
exception that left a data-loader worker from its class and one string.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class RoadsegError(Exception):
    """Base of every error that roadseg raises on purpose."""


class ConfigError(RoadsegError):
    """A setting has an unknown name or a value that cannot work."""


class DivergenceError(ConfigError):
    """The loss of a training is not finite any more: a setting, mostly the learning rate, is too large for it."""

    exit_status = 3
    """Of the command, so that a search over settings tells a rate that is too high from a mistake."""


class TaxonomyError(RoadsegError):
    """A taxonomy file is wrong, or a class is not in it."""


class DataError(RoadsegError):
    """A dataset on disk is missing, incomplete or broken."""


class ImageError(RoadsegError):
    """An image cannot be used; the subclasses say why."""


class UnsupportedImageError(ImageError):
    """The bytes are not one of the supported still-image formats."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than allowed."""


class ImageSizeError(ImageError):
    """The model takes images of another size only."""


class CorruptImageError(ImageError):
    """The image is truncated or damaged."""


class ModelError(RoadsegError):
    """A model has an unknown name, an unknown option, or parts that do not fit."""


class CheckpointError(RoadsegError):
    """A training checkpoint is missing, unreadable, or does not fit the configuration."""


class ModelFileError(RoadsegError):
    """A model file is missing, not a roadseg model file, or damaged."""


class ArtefactError(ModelFileError):
    """An exported model's folder is missing, damaged, changed, or made for another version."""


class MismatchError(RoadsegError):
    """An exported model does not compute what the model file that it was made of does."""


class OutputError(RoadsegError):
    """A file cannot be written."""


class EngineError(RoadsegError):
    """An inference engine, device or precision is unknown or unavailable."""


class ServiceError(RoadsegError):
    """A segmentation service refused a request or failed on it; the subclasses say more.

    Args:
        message: names the service, what was asked of it, its reason and the fix.
        status: of the answer; None where none came.
        type: of the problem, without its `urn:roadseg:problem:`; None where the answer was no such problem.
        detail: the service's own words.
        instance: of the problem; the service's log repeats it.
        request_id: under which the service's log has the request.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        detail: str | None = None,
        instance: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.detail = detail
        self.instance = instance
        self.request_id = request_id


class ServiceUnreachableError(ServiceError):
    """No answer came: no connection, or a timeout, after all retries."""


class ServiceBusyError(ServiceError):
    """The service was full, loading, about to stop or too slow, after all retries."""


class ServiceAccessError(ServiceError):
    """The service wants an API key, or another one."""


class ServiceImageError(ServiceError, ImageError):
    """The service does not take this image."""


class ServiceAnswerError(ServiceError):
    """What answered is no segmentation service, or one of another version."""


class MissingExtraError(RoadsegError, ImportError):
    """A package is needed that the installed extras do not bring."""


def plural(count: int, noun: str) -> str:
    """A number with its noun, for messages: 1 file, 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# Import name of a third-party package -> the extra that installs it.
_EXTRA_OF = {
    "torch": "torch",
    "torchvision": "torch",
    "timm": "torch",
    "huggingface_hub": "torch",
    "segmentation_models_pytorch": "torch",
    "lightning": "train",
    "jsonargparse": "train",
    "albumentations": "train",
    "torchmetrics": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "webdataset": "stream",
    "braceexpand": "stream",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "pydantic_settings": "serve",
    "prometheus_client": "serve",
    "opentelemetry.sdk": "tracing",  # FastAPI brings the other half of this namespace
    "opentelemetry.exporter": "tracing",
    "pycocotools": "dev",
    "httpx": "client",
    "onnx": "export",
    "onnxscript": "export",
    "nncf": "export",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "cuda": "tensorrt",
}


@contextmanager
def name_missing_extra(what: str) -> Iterator[None]:
    """Turn the ModuleNotFoundError of an optional package into one that says which extra to install.

    Args:
        what: what the user asked for, to begin the message with.

    Raises:
        MissingExtraError: when an optional package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        top, *inner = (error.name or "").split(".")
        package = next((name for name in (".".join([top, *inner[:1]]), top) if name in _EXTRA_OF), top)
        if package not in _EXTRA_OF or is_installed(package):  # then a part of it is missing, which no extra brings
            raise
        extra = _EXTRA_OF[package]
        raise MissingExtraError(
            f"{what} needs the package '{package}', which is not installed; in a checkout of roadseg: "
            f"pip install -c constraints.txt '.[{extra}]'"
        ) from error


def is_installed(package: str) -> bool:
    """Whether a package, or a module of one, can be imported; it is not imported for that, packages above it are."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # an entry of None in sys.modules hides a package
        return False
