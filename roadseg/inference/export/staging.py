"""Putting an artefact together beside its place, so that it is there whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from roadseg.errors import OutputError
from roadseg.inference.artefact import is_artefact


def check_output(output: str | Path) -> Path:
    """Refuse a place that an artefact should not go to, before anything is computed.

    Args:
        output: a folder that is not there, is empty, or is an artefact, which is then replaced.

    Raises:
        OutputError: when it is something else.
    """
    output = Path(output)
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise OutputError(
            f"{output} is {'a link' if output.is_symlink() else 'a file'}, and an exported model is a folder; give -o "
            "the name of a new one"
        )
    inside = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if inside and not is_artefact(output):
        raise OutputError(
            f"{output} holds {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''} and is no exported model; "
            "give -o a new folder"
        )
    return output


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside `output` to put an artefact together in; it takes that name when the block ends without error.

    So a crash, a full disk or Ctrl-C never leaves half an artefact under the name, and an older one stays whole.

    Raises:
        OutputError: when the folder cannot be made or renamed.
    """
    output = check_output(output).absolute()
    try:
        staging = output.parent / f".{output.name}.{uuid4().hex}.part"
        staging.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write to {output}: {error.strerror or error}; choose another -o") from error
    try:
        yield staging
        _replace(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(staging: Path, output: Path) -> None:
    """Rename; a folder can be renamed onto an empty one only, so that an older artefact is moved aside first."""
    aside = staging.with_suffix(".old")
    try:
        check_output(output)  # it may have changed while the export ran
        if is_artefact(output):
            output.rename(aside)
        staging.rename(output)
    except OSError as error:
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise OutputError(f"cannot write {output}: {error.strerror or error}; choose another -o") from error
    shutil.rmtree(aside, ignore_errors=True)
