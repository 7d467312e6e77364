"""Running the service: one process, one model."""

import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from roadseg.errors import ConfigError, name_missing_extra
from roadseg.ignore_regions import load_regions
from roadseg.inference.artefact import Artefact, read_model
from roadseg.inference.bundled import model_path
from roadseg.inference.engines import check_choice, make_engine
from roadseg.inference.package import ModelFile
from roadseg_service.access.addresses import proxy_warnings
from roadseg_service.access.keys import read_keys
from roadseg_service.app import create_app
from roadseg_service.descriptors import RESERVED, raise_limit
from roadseg_service.models.reloading import ignore_hangups
from roadseg_service.models.source import check_models_dir
from roadseg_service.observing.logs import configure_logs
from roadseg_service.observing.tracing import make_tracing
from roadseg_service.protocol import guarded
from roadseg_service.server import ACCEPTS_AT_ONCE, BACKLOG, DrainingServer
from roadseg_service.service import THREAD_PREFIX
from roadseg_service.settings import ServiceSettings, load_settings, variable_warnings

log = logging.getLogger("roadseg.service")

UNFETCHED_SHARE = 4
"""As many times less than `max_held_bytes` may be unfetched of answers; that is memory beside it."""

_LAST_WAIT_S = 1.0


def main(model: str | None, host: str | None, port: int | None, **settings: Any) -> None:
    """Serve a model; what `roadseg serve` calls.

    Args:
        model: name of a bundled model, or path of a model file; None, here and below, stands for what the environment
            names, else the default.
        host: address to listen on.
        port: TCP port; 0 picks a free one.
        settings: further `ServiceSettings` by name.

    Raises:
        ConfigError: when a setting is wrong, or the address cannot be listened on.
        EngineError: when engine, precision or device is unknown or unavailable.
        ModelFileError: when there is no such model, or its file is not one.
    """
    run(load_settings(model=model, host=host, port=port, **settings))


def run(settings: ServiceSettings) -> None:
    """Serve until told to stop (SIGINT or SIGTERM), then let running requests finish.

    Raises:
        ConfigError: when the address cannot be listened on, the file of ignore regions is wrong, or the limit of open
            files is too low.
        EngineError: when engine, precision or device is unknown or unavailable.
        MissingExtraError: when traces are asked for, and OpenTelemetry is not installed.
        ModelFileError: when there is no such model, or its file is not one.
    """
    ignore_hangups()  # until it serves; then each loads the model again
    # What is wrong ends the start here; the server would answer 503 for ever.
    model = read_model(model_path(settings.model))
    if settings.ignore_regions:
        load_regions(settings.ignore_regions)
    if settings.api_keys_file:
        read_keys(settings.api_keys_file)
    check_engine(settings, model)
    check_models_dir(settings.models_dir)
    tracing = make_tracing(settings.otlp_endpoint)
    wanted, settings = settings.max_connections, _within_limits(settings)
    listener = listen(settings.host, settings.port)
    announce(f"roadseg: serving {settings.model} on {url_of(listener)}")
    configure_logs(settings.log_format, settings.log_level)  # after that line, which programs read as the first
    for warning in (*variable_warnings(), *proxy_warnings(settings.trusted_proxies)):
        log.warning("%s", warning)
    if settings.max_connections < wanted:
        log.warning(
            "the limit of open files (ulimit -n) leaves %d connections of max_connections=%d; the rest, %d, is for"
            " files and devices",
            settings.max_connections,
            wanted,
            RESERVED,
        )
    serve(create_app(settings, tracing=tracing), settings, listener)


def announce(line: str) -> None:
    """Print the line that says where the server listens, the first one, which programs read.

    Raises:
        ConfigError: when standard output takes nothing; logs, which go there too, would be lost.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        with open(os.devnull, "wb") as nowhere, suppress(OSError, ValueError):
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # or Python fails, at its end, to write what is left
        raise ConfigError(
            f"cannot write to standard output ({error.strerror or error}), where the log goes; make room, or send it "
            "elsewhere"
        ) from error


def serve(app: FastAPI, settings: ServiceSettings, listener: socket.socket) -> None:
    """Serve an application until told to stop, and then end in bounded time, whatever its threads are doing.

    Args:
        app: made by `create_app` with these settings.
        settings: the bounds.
        listener: made by `listen`.
    """
    make_server(app, settings).run(sockets=[listener])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # said once more to what is ending, they would change its status
    _end_threads()


def make_server(app: FastAPI, settings: ServiceSettings, **options: Any) -> DrainingServer:
    """The server of an application.

    Args:
        app: made by `create_app` with these settings.
        settings: the bounds.
        options: of `uvicorn.Config`.
    """
    protocol = guarded(
        header_timeout_s=settings.header_timeout_s,
        fetch_timeout_s=settings.upload_timeout_s,
        places=app.state.service.connections,
        max_unfetched_bytes=settings.max_held_bytes // UNFETCHED_SHARE,
    )
    config = uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",  # also where uvloop is installed: its transports close in other ways than was tested
        ws="none",
        log_config=None,  # its logs go where all go
        access_log=False,  # `observing` has a line for each request
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),  # uvicorn's default trusts what any program on this machine says
        forwarded_allow_ips=list(settings.trusted_proxies),
        backlog=ACCEPTS_AT_ONCE,
        timeout_graceful_shutdown=settings.graceful_shutdown_s,
        **options,
    )
    return DrainingServer(config, app.state.service.lifecycle, settings.drain_s)


def _within_limits(settings: ServiceSettings) -> ServiceSettings:
    return settings.model_copy(update={"max_connections": raise_limit(settings.max_connections)})


def _end_threads() -> None:
    """End the process where a thread is still in the middle of native code, which nothing can interrupt."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_PREFIX)]
    ends = time.monotonic() + _LAST_WAIT_S
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        logging.shutdown()
        os._exit(0)


def check_engine(settings: ServiceSettings, model: ModelFile | Artefact) -> None:
    """Refuse engines, precisions and devices that loading the model would refuse.

    A CPU in float32, which is always there, is not tried: that would load the engine's runtime, which takes seconds,
    before the server answers.

    Args:
        settings: what is asked for.
        model: what will be served; of an artefact its own runtime says which devices there are, without torch.

    Raises:
        ArtefactError: when an artefact's runtime cannot read it.
        EngineError: when a name is unknown, or the device cannot be used here.
        MissingExtraError: when the packages that could use the device are not installed.
    """
    check_choice(model, settings.engine, settings.precision)
    usual = settings.device in {"auto", "cpu"}
    if isinstance(model, Artefact):
        if not usual or model.facts.format == "tensorrt" or model.facts.precision != "f32":
            make_engine(model, settings.engine, settings.precision, settings.device)
    elif settings.engine == "openvino":
        if not usual or settings.precision not in {"auto", "f32"}:
            from roadseg.inference.openvino_engine import check_device

            check_device(settings.device, "f32" if settings.precision == "auto" else settings.precision)
    elif not usual:
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
        listener.listen(BACKLOG)
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
