"""The service's settings: keyword arguments, else environment variables, else the defaults here."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from roadseg.errors import ConfigError
from roadseg.images import MAX_PIXELS
from roadseg.inference.bundled import DEFAULT_MODEL

ENV_PREFIX = "ROADSEG_SERVICE_"

MIB = 1024 * 1024


class ServiceSettings(BaseSettings):
    """What a service runs with; `ROADSEG_SERVICE_MAX_PIXELS=1000000` sets `max_pixels`.

    Environment variables that name no setting are ignored; keyword arguments that name none are errors.

    Attributes:
        model: name of a bundled model, or path of a model file; as `roadseg.load_predictor` takes it.
        host: address to listen on.
        port: TCP port; 0 picks a free one.
        engine: as `roadseg.load_predictor` takes it.
        precision: as `roadseg.load_predictor` takes it.
        device: as `roadseg.load_predictor` takes it.
        ignore_regions: path of a YAML file with the regions that masks leave out; see `roadseg.ignore_regions`.
        max_body_bytes: largest request body.
        max_pixels: largest width x height of an image, checked before it is decoded.
        max_queued: requests that are held at once, uploading, waiting or running; one more is answered 429.
        max_decoded: images that are held decoded at once, which bounds the memory for pixels and masks.
        codec_threads: threads that decode images and encode answers.
        upload_timeout_s: how long a client may take to send a body.
        graceful_shutdown_s: how long running requests may take to finish once the server is told to stop.
        api_docs: whether /docs is served; its page makes the *browser* load Swagger UI from a public CDN.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    model: str = Field(DEFAULT_MODEL, min_length=1)
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    ignore_regions: str | None = None
    max_body_bytes: int = Field(32 * MIB, gt=0)
    max_pixels: int = Field(50_000_000, gt=0, le=MAX_PIXELS)
    max_queued: int = Field(64, gt=0)
    max_decoded: int = Field(4, gt=0)
    codec_threads: int = Field(2, gt=0)
    upload_timeout_s: float = Field(60, gt=0)
    graceful_shutdown_s: int = Field(30, ge=0)
    api_docs: bool = True

    @property
    def model_name(self) -> str:
        """The bundled model's name, or the model file's without folder and ending."""
        return Path(self.model).stem


def load_settings(**values: Any) -> ServiceSettings:
    """Make settings from keyword arguments and the environment.

    Args:
        values: settings by name; None stands for "not given".

    Raises:
        ConfigError: when a setting is unknown or out of range; the message names each one and its variable.
    """
    try:
        return ServiceSettings(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("service settings: " + "; ".join(_explain(e) for e in error.errors())) from error


def _explain(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"there is no setting '{name}'; known: {', '.join(sorted(ServiceSettings.model_fields))}"
    return f"'{name}' is {error['input']!r}: {error['msg']} (variable {ENV_PREFIX}{name.upper()})"
