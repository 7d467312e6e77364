"""Telling which engine runs a model, and why it was picked."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadseg.inference.engines import Engine


@contextmanager
def heard_reasons() -> Iterator[list[str]]:
    """Collect what `roadseg.inference` logs, and nobody sees, while a model is loaded; warnings go their usual way.

    Yields:
        The messages, as they come.
    """
    log = logging.getLogger("roadseg.inference")
    messages: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno == logging.INFO:
            messages.append(record.getMessage())
        return record.levelno > logging.INFO

    level = log.level
    # A handler in place of the filter would keep Python from writing warnings to standard error by itself.
    log.addFilter(keep)
    log.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        log.setLevel(level)
        log.removeFilter(keep)


def engine_line(engine: "Engine", messages: list[str]) -> str:
    """One line about an engine.

    Args:
        engine: that was picked.
        messages: what `heard_reasons` collected meanwhile.
    """
    own = f"engine {engine.name}, {engine.precision}"
    reasons = [message.partition(f"{own}: ")[2] if own in message else message for message in messages]
    why = "; ".join(filter(None, reasons))
    return f"{own}, on {engine.device}" + (f": {why}" if why else "")
