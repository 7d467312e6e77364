"""Model files converted for OpenVINO, kept in the user's cache folder.

That folder is `$ROADSEG_CACHE`, else `roadseg` in `$XDG_CACHE_HOME`, else `~/.cache/roadseg`; `ROADSEG_CACHE=off`
converts nothing. An entry is an artefact, verified against torch as `roadseg export` does. Its name holds the model
file's digest, the precision and the versions of roadseg and OpenVINO, so that none is ever used for another model or by
another version. From an entry a model starts without torch.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from uuid import uuid4

import roadseg
from roadseg.errors import EngineError, MismatchError, MissingExtraError, RoadsegError
from roadseg.inference.artefact import ARTEFACT_VERSION, Artefact, read_artefact
from roadseg.inference.package import ModelFile
from roadseg.inference.result import write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CACHE_VARIABLE = "ROADSEG_CACHE"
OFF = "off"

PRECISIONS = ("f32", "bf16")
"""int8 needs frames to calibrate on, which only `roadseg export` is given."""

GRAPH_VERSION = 1
"""Raised whenever what is written for OpenVINO changes, so that no network of an older writer is used."""

_FORMAT = "openvino"
_PACKAGES = ("torch", "onnx", "onnxscript", "openvino")
_STALE_S = 24 * 3600
_LEFTOVER = re.compile(r"\.{1,2}[0-9a-f]{16}-openvino-(f32|bf16)-[0-9a-f]{16}\.[0-9a-f]{32}.*")
"""Names of folders in which this module and `roadseg.inference.export.staging` work."""

_log = logging.getLogger("roadseg.inference")
_converting = Lock()


def cache_folder() -> Path | None:
    """Where converted models are kept; None where that is off, or there is no home folder."""
    text = os.environ.get(CACHE_VARIABLE, "")
    if text == OFF:
        return None
    if text:
        return Path(text).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "roadseg"
    except RuntimeError:
        return None


def entry_name(digest: str, precision: str) -> str:
    """The name of a cache entry.

    Args:
        digest: of the model file, in hexadecimal.
        precision: that it is converted to.
    """
    made_by = _versions("roadseg", _FORMAT)
    facts = [digest, _FORMAT, precision, made_by, ARTEFACT_VERSION, GRAPH_VERSION]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{digest[:16]}-{_FORMAT}-{precision}-{key[:16]}"


def converted(model: ModelFile, precision: str) -> Artefact:
    """The OpenVINO artefact of a model file: from the cache, else made now, which takes a minute or two.

    Args:
        model: the model file.
        precision: one of `PRECISIONS`.

    Raises:
        EngineError: when nothing may be cached, or the conversion gave a wrong network before.
        MissingExtraError: when it is not in the cache, and packages that convert it are not installed.
        RoadsegError: when it cannot be converted.
        OSError: when the cache cannot be used, or is not safe to use.
    """
    root = cache_folder()
    if root is None:
        raise EngineError(
            f"nothing is converted for OpenVINO, because {CACHE_VARIABLE} is '{OFF}' or there is no home folder; set "
            f"{CACHE_VARIABLE} to a folder of yours"
        )
    entry = root / entry_name(model.digest, precision)
    found = _cached(entry, model, precision)
    if found is not None:
        return found
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise MissingExtraError(
            f"converting a model file for OpenVINO needs {', '.join(missing)}, which is not installed: "
            "pip install 'roadseg[openvino,export]'"
        )
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_foreign(root)
    _remove_stale(root)
    with _converting, _alone(root):  # of several threads and processes one converts
        return _cached(entry, model, precision) or _convert(entry, model, precision)


def _cached(entry: Path, model: ModelFile, precision: str) -> Artefact | None:
    """A converted model that is whole, ours, and of this model file; one that is broken is removed."""
    if not os.path.lexists(entry):
        return None
    if entry.is_symlink():
        raise PermissionError(f"{entry} is a link; remove it")
    for path in (entry.parent, entry):
        _refuse_foreign(path)
    try:
        artefact = read_artefact(entry)
        facts = artefact.facts
        if (facts.model_digest, facts.format, facts.precision) == (model.digest, _FORMAT, precision):
            return artefact
        reason = "it is of another model"
    except RoadsegError as error:
        reason = first_line(error)
    _log.warning("the converted model at %s cannot be used (%s); it is made again", entry, reason)
    aside = entry.with_name(f".{entry.name}.{uuid4().hex}.broken")
    with suppress(FileNotFoundError):  # another process was faster
        entry.rename(aside)  # so that none meets it half removed
    shutil.rmtree(aside, ignore_errors=True)
    return None


def _convert(entry: Path, model: ModelFile, precision: str) -> Artefact:
    """Convert under a name that no other process has; the first one that is done gets the entry's."""
    from roadseg.inference.export.write import export_model

    failure = entry.with_name(f"{entry.name}.failed")
    _refuse_known_failure(failure)
    name, begun = model.path.stem, time.monotonic()
    _log.warning(
        "%s: converting for OpenVINO, once, into %s; this takes a minute or two (%s=%s runs it in torch instead)",
        *(name, entry.parent, CACHE_VARIABLE, OFF),
    )
    own = entry.with_name(f".{entry.name}.{uuid4().hex}")
    try:
        try:
            export_model(model, _FORMAT, precision, own)
        except MismatchError as error:  # which it will be the next time; anything else may pass
            note = {"versions": _versions(*_PACKAGES), "reason": first_line(error)}
            write_whole(failure, (json.dumps(note, indent=2) + "\n").encode())
            raise
        own.chmod(0o700)  # whatever the user's mask allows their group
        try:
            own.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise
        _log.warning("%s: converted in %.0f s", name, time.monotonic() - begun)
        return read_artefact(entry)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _refuse_known_failure(failure: Path) -> None:
    """Refuse what these very versions made a wrong network of before.

    Raises:
        EngineError: then.
    """
    try:
        note = json.loads(failure.read_bytes())
        known, reason = note["versions"] == _versions(*_PACKAGES), note["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if known:
        raise EngineError(f"it could not be converted before: {reason} (delete {failure} to try again)")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process at a time convert; where folders cannot be locked, all do, which only takes longer."""
    if fcntl is None:
        yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("waiting for another process, which converts a model into %s", root)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def _refuse_foreign(path: Path) -> None:
    """Refuse what another user could have put there: a network decides what is drawn on maps.

    Raises:
        PermissionError: then.
    """
    if not hasattr(os, "geteuid"):
        return
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise PermissionError(
            f"{path} belongs to another user, or other users may write to it; `chmod go-w` it, or set "
            f"{CACHE_VARIABLE} to a folder of yours"
        )


def _remove_stale(root: Path) -> None:
    """What conversions that were killed left behind; the folder may be one that holds other things, too."""
    for path in root.glob(".*"):
        try:
            if not _LEFTOVER.fullmatch(path.name) or path.is_symlink():
                continue
            if path.is_dir() and time.time() - path.stat().st_mtime > _STALE_S:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another process was faster
            continue


def _versions(*packages: str) -> dict[str, str]:
    return {name: roadseg.__version__ if name == "roadseg" else _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def first_line(error: Exception) -> str:
    """What an error says, in one line: of a mismatch the last one, which comes after the table."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1 if isinstance(error, MismatchError) else 0]}"
