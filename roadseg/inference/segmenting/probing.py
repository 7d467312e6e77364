"""What the file system of an output folder can do, found out before the network is loaded."""

import os
import tempfile
from pathlib import Path

from roadseg.errors import OutputError
from roadseg.inference.segmenting.manifest import NAME


def probe_output(output: Path) -> bool:
    """Make sure that a folder can be made and written; nothing stays behind.

    Args:
        output: the folder; where it is not there yet, the next one above that is tells.

    Returns:
        Whether names that differ in upper and lower case alone are one file there.

    Raises:
        OutputError: when it cannot be written.
    """
    place = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(prefix=".probe-a", dir=place) as file:
            file.write(b"x")
            file.flush()
            folder, name = os.path.split(file.name)
            return os.path.lexists(os.path.join(folder, name.upper()))
    except OSError as error:
        raise OutputError(
            f"cannot write {output / NAME}: {error.strerror or error}; choose another place or make room"
        ) from error
