"""Keeping two runs from writing one file."""

from pathlib import Path
from typing import IO, Any

from roadseg.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(file: IO[Any], path: Path) -> None:
    """Lock an open file until it is closed, or its process ends in whatever way.

    Where there are no locks, on Windows and some network file systems, nothing happens.

    Raises:
        OutputError: when another process holds the lock.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another run is writing {path}; wait for it, or give each run its --shard or its own output folder"
        ) from error
    except OSError:
        return


def refuse_locked(path: Path) -> None:
    """Make sure that no other run is writing a file.

    Raises:
        OutputError: when one is.
    """
    try:
        with path.open("r+b") as file:  # locks over NFS need a file that may be written
            lock_file(file, path)
    except (FileNotFoundError, PermissionError):
        return
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
