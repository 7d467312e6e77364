"""Running the service: one process, one model."""

import errno
import logging
import socket
from contextlib import suppress
from typing import Any

import uvicorn

from roadseg.errors import ConfigError, EngineError, name_missing_extra
from roadseg.ignore_regions import load_regions
from roadseg.inference.artefact import Artefact, read_model
from roadseg.inference.bundled import model_path
from roadseg.inference.choices import PRECISIONS
from roadseg.inference.engines import ENGINES, make_engine
from roadseg.inference.package import ModelFile
from roadseg_service.app import create_app
from roadseg_service.settings import ServiceSettings, load_settings

_BACKLOG = 2048


def main(model: str | None, host: str, port: int, **settings: Any) -> None:
    """Serve a model; what `roadseg serve` calls.

    Args:
        model: name of a bundled model, or path of a model file; None stands for what the environment names, else the
            default.
        host: address to listen on.
        port: TCP port; 0 picks a free one.
        settings: further `ServiceSettings` by name; None stands for "not given".

    Raises:
        ConfigError: when a setting is wrong, or the address cannot be listened on.
        EngineError: when engine, precision or device is unknown or unavailable.
        ModelFileError: when there is no such model, or its file is not one.
    """
    run(load_settings(model=model, host=host, port=port, **settings))


def run(settings: ServiceSettings) -> None:
    """Serve until told to stop (SIGINT or SIGTERM), then let running requests finish.

    Raises:
        ConfigError: when the address cannot be listened on, or the file of ignore regions is wrong.
        EngineError: when engine, precision or device is unknown or unavailable.
        ModelFileError: when there is no such model, or its file is not one.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(name)s: %(message)s")
    # What is wrong ends the start here; the server would answer 503 for ever.
    model = read_model(model_path(settings.model))
    if settings.ignore_regions:
        load_regions(settings.ignore_regions)
    check_engine(settings, model)
    listener = listen(settings.host, settings.port)
    print(f"roadseg: serving {settings.model} on {url_of(listener)}", flush=True)
    config = uvicorn.Config(
        create_app(settings),
        access_log=True,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.graceful_shutdown_s,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after it has shut down
        uvicorn.Server(config).run(sockets=[listener])


def check_engine(settings: ServiceSettings, model: ModelFile | Artefact) -> None:
    """Refuse engines, precisions and devices that loading the model would refuse.

    The devices that are always there are not tried: that would load the engine's runtime, which takes seconds, before
    the server answers.

    Args:
        settings: what is asked for.
        model: what will be served; of an artefact its own runtime says which devices there are, without torch.

    Raises:
        ArtefactError: when an artefact's runtime cannot read it.
        EngineError: when a name is unknown, or the device cannot be used here.
        MissingExtraError: when the packages that could use the device are not installed.
    """
    if settings.engine not in ENGINES:
        raise EngineError(f"no engine '{settings.engine}'; known: {', '.join(ENGINES)}")
    if settings.precision not in PRECISIONS:
        raise EngineError(f"no precision '{settings.precision}'; known: {', '.join(PRECISIONS)}")
    if settings.device in {"auto", "cpu"}:
        return
    if isinstance(model, Artefact):
        make_engine(model, settings.engine, settings.precision, settings.device)
    else:
        with name_missing_extra("the torch engine"):
            from roadseg.inference.torch_engine import pick_device
        pick_device(settings.device)


def listen(host: str, port: int) -> socket.socket:
    """A socket that already takes connections, so that a client may connect as soon as its address is known.

    Raises:
        ConfigError: when the address cannot be listened on; the message names it and the fix.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(_explain(error, host, port)) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or choose another port (0 picks a free one)"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs more rights than this process has; choose a port from 1024 up"
    return f"cannot listen on {host} port {port} ({error.strerror or error}); choose an address of this machine"
