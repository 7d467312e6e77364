"""The service's settings: options of `roadseg serve`, else environment variables, else the defaults here."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from roadseg.errors import ConfigError
from roadseg.images import MAX_PIXELS, MAX_SIDE_PX
from roadseg.inference.bundled import BUNDLED_MODELS, DEFAULT_MODEL
from roadseg_service.access.addresses import check_hosts, check_proxies, is_loopback
from roadseg_service.access.origins import ANY, check_origins
from roadseg_service.models.names import name_of
from roadseg_service.models.sizes import check_sizes
from roadseg_service.setting_fields import ENV_PREFIX, SPLIT, checked_by, option_of, range_of, setting, variable_of

MIB = 1024 * 1024

BYTES_PER_PIXEL = 12
"""Of an image while it is decoded, or with all that is made of it: RGB, mask, confidence, the answer."""

_MODEL = "model"
_ADDRESS = "address"
_ACCESS = "access"
_RATES = "rate limits, for each key, or each address where there is none"
_ONE = "limits of one request"
_ALL = "limits of all requests together"
_SCHEDULING = "scheduling"
_TIMES = "deadlines and stopping"
_OBSERVING = "logs and traces"


class ServiceSettings(BaseSettings):
    """What a service runs with; `ROADSEG_SERVICE_MAX_PIXELS=1000000` sets `max_pixels`.

    Each field says what it does in its description. Environment variables that name no setting are ignored, with a
    warning when the service starts; keyword arguments that name none are errors.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = setting(
        DEFAULT_MODEL,
        _MODEL,
        "model file (.safetensors), folder of an exported model (roadseg export), or a bundled model: "
        + ", ".join(BUNDLED_MODELS),
        min_length=1,
    )
    engine: str = setting("auto", _MODEL, "auto, torch, torch-compile, onnx, openvino or tensorrt")
    precision: str = setting("auto", _MODEL, "auto, f32, f16, bf16 or int8; an exported model has its own")
    device: str = setting("auto", _MODEL, "auto, cpu, cuda or cuda:N")
    ignore_regions: str | None = setting(
        None, _MODEL, "YAML list of polygons that masks leave out, such as the car's own hood", "FILE", min_length=1
    )

    warm_up_sizes: Annotated[tuple[str, ...], NoDecode, SPLIT, checked_by(check_sizes)] = setting(
        ("480x360",),
        _MODEL,
        "sizes of the frames that a model segments before it is ready, best the cameras', with commas between",
        "WIDTHxHEIGHT",
        default_text="480x360",
        min_length=1,
    )
    models_dir: str | None = setting(
        None,
        _MODEL,
        "the models that POST /v1/models may load, beside the bundled ones; none outside of this folder",
        "FOLDER",
        min_length=1,
    )

    host: str = setting(
        "127.0.0.1",
        _ADDRESS,
        "address to listen on; one that other machines reach needs api_keys_file, or allow_anonymous",
        min_length=1,
    )
    port: int = setting(8000, _ADDRESS, "TCP port; 0 picks a free one", ge=0, le=65535)
    api_docs: bool | None = setting(
        None,
        _ADDRESS,
        "serve /docs, whose scripts, Swagger UI, the browser loads from a public CDN; they run in the page's origin, "
        "where browsers keep API keys",
        default_text="true on a loopback address, else false",
    )

    api_keys_file: str | None = setting(
        None, _ACCESS, "API keys, one NAME:ROLE:KEY a line; read again whenever it changes", "FILE", min_length=1
    )
    allow_anonymous: bool = setting(
        False, _ACCESS, "take requests without a key from other machines, or from any web page, knowingly"
    )
    metrics_need_key: bool = setting(False, _ACCESS, "/metrics needs a key, too")
    cors_origins: Annotated[tuple[str, ...], NoDecode, SPLIT, checked_by(check_origins)] = setting(
        (), _ACCESS, "origins of web pages whose scripts may call, with commas between; * stands for all", "ORIGINS"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, SPLIT, checked_by(check_hosts)] = setting(
        (),
        _ACCESS,
        "names in the Host header that are answered, with commas between; addresses and localhost always are",
        "NAMES",
        default_text="none on a loopback address, else any",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, SPLIT, checked_by(check_proxies)] = setting(
        (),
        _ACCESS,
        "addresses or networks of the proxies whose X-Forwarded-For tells the client's address, with commas between",
        "ADDRESSES",
    )

    rate_limit_requests_per_s: float | None = setting(None, _RATES, "requests", "requests/s", "no limit", ge=0.001)
    rate_limit_burst: int = setting(20, _RATES, "requests that may come at once after a pause", "requests", gt=0)
    rate_limit_bytes_per_s: float | None = setting(None, _RATES, "uploaded bytes", "bytes/s", "no limit", ge=1)

    max_body_bytes: int = setting(32 * MIB, _ONE, "largest request body", "bytes", gt=0)
    max_pixels: int = setting(
        50_000_000,
        _ONE,
        "largest width x height of an image, checked before it is decoded",
        "pixels",
        gt=0,
        le=MAX_PIXELS,
    )
    max_side_px: int = setting(
        16_383,  # the most that a WebP can have, as which an overlay may be asked for
        _ONE,
        "longest side of an image, checked before it is decoded",
        "pixels",
        gt=0,
        le=MAX_SIDE_PX,
    )
    max_batch_files: int = setting(32, _ONE, "most files of a request to /segment/batch", "files", gt=0)

    max_queued: int = setting(
        64, _ALL, "whole uploads that wait or are worked on at once; one more is answered 429", "requests", gt=0
    )
    max_held_bytes: int = setting(
        2048 * MIB, _ALL, "memory that uploads and what is decoded of them take; more is answered 429", "bytes", gt=0
    )
    max_connections: int = setting(
        1000,
        _ALL,
        "connections that are open at once; one more ends the one idle for longest, or is closed where none is",
        "connections",
        gt=0,
    )

    max_batch: int | None = setting(
        None,
        _SCHEDULING,
        "images of one size that run together; OpenVINO runs one by one",
        "images",
        "1 on a CPU, 8 elsewhere",
        gt=0,
    )
    streams: int | None = setting(
        None,
        _SCHEDULING,
        "images that OpenVINO works on side by side, each on some of a CPU's cores; 1 answers a single one soonest",
        "images",
        "1 for each core or each of ROADSEG_THREADS, at most 4; 1 in other engines",
        gt=0,
    )
    batch_wait_ms: float = setting(
        0, _SCHEDULING, "how long an image waits for others to run with it", "ms", ge=0, le=1000
    )
    codec_threads: int = setting(
        2, _SCHEDULING, "threads that decode images, and as many that encode answers", "threads", gt=0
    )

    header_timeout_s: float = setting(10, _TIMES, "how long a client may take to send a request's headers", "s", gt=0)
    upload_timeout_s: float = setting(60, _TIMES, "how long a client may take to send a body", "s", gt=0)
    deadline_s: float = setting(
        30, _TIMES, "how long an answer may take once its upload is here; then it is 504", "s", gt=0
    )
    drain_s: float = setting(
        5, _TIMES, "how long a server that got SIGTERM still listens, and says 503 to new work", "s", ge=0
    )
    graceful_shutdown_s: int = setting(30, _TIMES, "how long running requests may take to finish after that", "s", ge=0)

    log_format: Literal["auto", "json", "text"] = setting(
        "auto", _OBSERVING, "json: an object a line; text: for people; auto: text on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", _OBSERVING, "debug, info, warning or error; requests are logged at info, health checks at debug"
    )
    otlp_endpoint: str | None = setting(
        None,
        _OBSERVING,
        "base URL of the OpenTelemetry collector (OTLP over HTTP) that traces go to, as http://127.0.0.1:4318; needs "
        "the extra tracing",
        "URL",
        "what OTEL_EXPORTER_OTLP_ENDPOINT says, else no traces",
        pattern="^https?://",
    )

    @model_validator(mode="after")
    def _fits_largest(self) -> Self:
        needed = 2 * self.max_body_bytes + BYTES_PER_PIXEL * self.max_pixels
        if self.max_held_bytes < needed:
            raise ValueError(
                f"max_held_bytes is {self.max_held_bytes}, and one request may take {needed} "
                f"(max_body_bytes twice, as a form is cut up, and {BYTES_PER_PIXEL} for each of max_pixels); raise it "
                "to that, or lower these"
            )
        return self

    @model_validator(mode="after")
    def _is_not_open_by_mistake(self) -> Self:
        if self.metrics_need_key and self.api_keys_file is None:
            raise ValueError("metrics_need_key is true and there are no keys; name a file of them in api_keys_file")
        if self.api_keys_file is not None or self.allow_anonymous:
            return self
        fix = "name a file of keys in api_keys_file, or set allow_anonymous=true if that is meant"
        if not is_loopback(self.host):
            raise ValueError(
                f"host is '{self.host}', which other machines may reach, and no API keys are asked for; {fix}, or "
                "listen on 127.0.0.1"
            )
        if ANY in self.cors_origins:
            raise ValueError(
                f"cors_origins is '{ANY}' and no API keys are asked for: any web page that is opened on this machine "
                f"could use the service; list the origins that may, {fix}"
            )
        return self

    @property
    def model_name(self) -> str:
        """The name of the model's file or folder; that of an exported model may tell another one, once it is read."""
        return name_of(self.model)

    @property
    def serves_api_docs(self) -> bool:
        """Whether /docs is there."""
        return is_loopback(self.host) if self.api_docs is None else self.api_docs


def load_settings(**values: Any) -> ServiceSettings:
    """Make settings from keyword arguments and the environment.

    Args:
        values: settings by name; None stands for "not given".

    Raises:
        ConfigError: when a setting is unknown or out of range. The message names each one, its option and its variable,
            and variables that name no setting, one of which may be the cause.
    """
    try:
        return ServiceSettings(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        faults = [explain(fault) for fault in error.errors()]
        raise ConfigError("service settings: " + "; ".join([*faults, *variable_warnings()])) from error


def variable_warnings(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Warnings of environment variables that look like settings and are none; their values are not repeated.

    Kubernetes tells every pod of a Service called roadseg in ROADSEG_PORT and, as it happens, in the variables of two
    settings.
    """
    known = [name.upper() for name in ServiceSettings.model_fields]
    warnings = []
    if environment.get("ROADSEG_PORT", "").startswith("tcp://"):
        warnings.append(
            f"the environment variables {variable_of('host')} and {variable_of('port')} seem to come from a Kubernetes "
            "Service called roadseg; set enableServiceLinks: false in the pod, or give --host and --port"
        )
    for variable in sorted(name for name in environment if name.upper().startswith(ENV_PREFIX)):
        name = variable.upper().removeprefix(ENV_PREFIX)
        if name not in known:
            near = get_close_matches(name, known, 1)
            fix = f"did you mean {ENV_PREFIX}{near[0]}?" if near else "roadseg serve --help lists them all"
            warnings.append(f"environment variable {variable} names no setting and is ignored; {fix}")
    return warnings


def explain(error: Any) -> str:
    """Say in one sentence what is wrong with a setting.

    Args:
        error: one of those that `pydantic.ValidationError.errors` lists.
    """
    name = str(error["loc"][0]) if error["loc"] else None
    reason = str(error.get("ctx", {}).get("error", error["msg"]))
    if name is None:
        return reason
    if error["type"] == "extra_forbidden":
        return f"there is no setting '{name}'; known: {', '.join(sorted(ServiceSettings.model_fields))}"
    allowed = range_of(ServiceSettings.model_fields[name])
    bound = f"; allowed: {allowed}" if allowed else ""
    return f"'{name}' is {error['input']!r}: {reason}{bound} (option {option_of(name)}, variable {variable_of(name)})"
