"""The log's form: one line an event on standard output, as JSON or as text, whatever it quotes."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from roadseg_service.observing.current import current
from roadseg_service.observing.log_writing import LogWriter


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII; a traceback is one of its strings."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_of_request(record),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """A line for a person, with the fields behind it; a traceback's lines are indented, as none of ours is."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and its traceback's."""
        fields = {**_of_request(record), **_fields(record)}
        told = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _IN_MESSAGE)
        line = f"{_time(record)} {record.levelname.lower():7} {record.name}: {record.getMessage()} {told}".rstrip()
        lines = [_visible(line)]
        if record.exc_info and record.exc_info[0] is not None:
            lines += ["  | " + _visible(part) for part in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


_IN_MESSAGE = frozenset({"method", "path", "status"})

_FORMATTERS: dict[str, type[logging.Formatter]] = {"json": JsonFormatter, "text": TextFormatter}

FORMATS = ("auto", *_FORMATTERS)
LEVELS = ("debug", "info", "warning", "error")


def configure_logs(log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to one stream, in one form, from a thread of its own.

    Libraries stay at "info" at least: Pillow's "debug" lines quote what is in images.

    Args:
        log_format: one of `FORMATS`; "auto" is text on a terminal, else JSON.
        log_level: one of `LEVELS`.
        stream: where to; by default standard output.
    """
    stream = sys.stdout if stream is None else stream
    if log_format == "auto":
        log_format = "text" if stream.isatty() else "json"
    handler = LogWriter(stream)
    handler.setFormatter(_FORMATTERS[log_format]())
    level = logging.getLevelNamesMapping()[log_level.upper()]
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("roadseg").setLevel(level)
    logging.captureWarnings(True)


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _of_request(record: logging.LogRecord) -> dict[str, str]:
    observed = current()
    if observed is None:
        return {}
    ids = {"request_id": observed.request_id}
    return ids | ({"trace_id": observed.trace_id} if observed.trace_id else {})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _visible(text: str) -> str:
    """Text without control characters, which could forge lines or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
