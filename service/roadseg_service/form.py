"""The one file in a multipart form.

Starlette's own form parser puts files over 1 MiB on disk, which fails in a container without a writable /tmp; here the
body is in memory already, and bounded.
"""

import re
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from roadseg_service.problems import INVALID_UPLOAD, ProblemError

FIELD = "file"
_MAX_PARTS = 16
_EXTENDED_FILE_NAME = re.compile(rb";\s*filename\*[0-9*]*\s*=", re.IGNORECASE)
_HINT = f"send one image in field '{FIELD}'; with curl: -F {FIELD}=@photo.jpg"


@dataclass(frozen=True)
class FormContent:
    """What a form's Content-Type says.

    Attributes:
        boundary: the line between its parts.
    """

    boundary: bytes

    @classmethod
    def of(cls, content_type: str) -> "FormContent":
        """Read the header.

        Raises:
            ProblemError: invalid-upload, when it names no boundary or one that the standard forbids.
        """
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise _invalid(
                "Content-Type is multipart/form-data without a boundary; let the HTTP client write this header itself"
            )
        if len(boundary) > 70:  # RFC 2046, section 5.1.1
            raise _invalid(f"the multipart boundary has {len(boundary)} characters; at most 70 are allowed")
        return cls(boundary)


@dataclass
class _Part:
    """One part of a form while it is parsed: its headers by lower-case name, and its bytes."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)

    @property
    def is_file(self) -> bool:
        """Whether the client meant a file: it gave a file name or a content type."""
        # RFC 7578 forbids `filename*` in forms and the parser drops it, but clients send it for names beyond ASCII.
        extended = _EXTENDED_FILE_NAME.search(self.headers.get(b"content-disposition", b""))
        return b"filename" in self.disposition or extended is not None or b"content-type" in self.headers

    @property
    def disposition(self) -> dict[bytes, bytes]:
        """Parameters of the Content-Disposition."""
        return parse_options_header(self.headers.get(b"content-disposition"))[1]


class _Collector:
    """Receives the parser's events and keeps the parts."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.complete = False
        self._name = b""
        self._value = b""

    def parser(self, boundary: bytes) -> MultipartParser:
        """A parser that reports here."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def _on_part_begin(self) -> None:
        if len(self.parts) == _MAX_PARTS:
            raise _invalid(f"the form has more than {_MAX_PARTS} fields; {_HINT}")
        self.parts.append(_Part())

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self.parts[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].chunks.append(data[start:end])

    def _on_end(self) -> None:
        self.complete = True


def file_in_form(body: bytes, content: FormContent) -> bytes:
    """The bytes of the one file in a form.

    Args:
        body: the request's body.
        content: what its Content-Type says.

    Raises:
        ProblemError: invalid-upload, when the form is malformed, or holds anything but one file in field `file`.
    """
    collector = _Collector()
    try:
        collector.parser(content.boundary).write(body)
    except FormParserError as error:
        raise _invalid(f"the multipart body is malformed ({error}); {_HINT}") from error
    if not collector.complete:
        raise _invalid("the multipart body ends before its closing boundary; it was cut off or its boundary is wrong")
    return _the_file(collector.parts)


def _the_file(parts: list[_Part]) -> bytes:
    names = [_text(part.disposition.get(b"name", b"")) for part in parts]
    others = sorted({name for name in names if name != FIELD})
    if FIELD not in names:
        there = f"it has {_listed(others)}" if others else "it has no fields"
        raise _invalid(f"the form has no field '{FIELD}'; {there}: {_HINT}")
    if names.count(FIELD) > 1:
        raise _invalid(f"the form has {names.count(FIELD)} fields '{FIELD}'; send one image a request")
    if others:
        raise _invalid(
            f"the form has {_listed(others)} beside '{FIELD}'; send the image alone, and options in the query string"
        )
    (part,) = parts
    data = b"".join(part.chunks)
    if not part.is_file:
        raise _invalid(f"field '{FIELD}' holds text, not a file (with curl, an '@' goes before the path); {_HINT}")
    if not data:
        raise _invalid(f"the file in field '{FIELD}' is empty (0 bytes); {_HINT}")
    return data


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _text(name: bytes) -> str:
    return name[:80].decode("utf-8", "replace")


def _invalid(detail: str) -> ProblemError:
    return ProblemError(INVALID_UPLOAD, detail)
