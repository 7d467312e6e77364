"""Telling under which terms a model's weights may be used."""

import logging
import textwrap
from threading import Lock

from roadseg.inference.artefact import Artefact
from roadseg.inference.package import UNSPECIFIED_LICENCE, ModelFile

CODE_LICENCE = "Apache-2.0"

_MAX_CHARACTERS = 300

_log = logging.getLogger("roadseg.inference")
_told: set[str] = set()
_telling = Lock()


def tell_licence(model: ModelFile | Artefact) -> None:
    """Warn once in a process, through `logging`, under which terms a model's weights may be used.

    A warning, because without any setting `logging` writes those, and only those, to standard error: whoever loads the
    weights sees their terms, and what a command prints for other programs stays clean. Nothing is told where the file
    does not say.
    """
    line = licence_line(model.name, model.header.weights_licence)
    if line is None:
        return
    with _telling:
        if line in _told:  # of a model file and what was exported from it, too
            return
        _told.add(line)
    _log.warning("%s", line)


def licence_line(name: str, weights_licence: str) -> str | None:
    """The licence of a model's weights beside that of the code, in one line; None where it is unspecified.

    Args:
        name: of the model.
        weights_licence: as the model file's header says it; what a terminal would not print is left out.
    """
    printable = "".join(character if character.isprintable() else " " for character in weights_licence)
    terms = textwrap.shorten(printable, _MAX_CHARACTERS)
    if terms in ("", UNSPECIFIED_LICENCE):
        return None
    return f"{name}: weights: {terms}; code: {CODE_LICENCE}"
