"""The file, or the files, in a multipart form.

Starlette's own form parser puts files over 1 MiB on disk, which fails in a container without a writable /tmp; here the
body is in memory already, and bounded.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from roadseg_service.problems import INVALID_UPLOAD, ProblemError
from roadseg_service.text import shortened

FIELD = "file"
_MAX_PARTS = 16
_EXTENDED_FILE_NAME = re.compile(rb";\s*filename\*[0-9*]*\s*=", re.IGNORECASE)
_HINT = f"send one image in field '{FIELD}'; with curl: -F {FIELD}=@photo.jpg"

_PLAIN = frozenset((b"", b"binary", b"8bit", b"7bit"))
"""Transfer encodings that leave the bytes as they are."""

MANY_FIELD = "files"
_MANY_HINT = f"send images in fields '{MANY_FIELD}'; with curl: -F {MANY_FIELD}=@a.jpg -F {MANY_FIELD}=@b.jpg"
_UTF8_FILE_NAME = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)


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


class _TooManyPartsError(Exception):
    """Ends the parsing of a form: each of its parts takes memory and time, however small it is."""


class _Collector:
    """Receives the parser's events and keeps the parts."""

    def __init__(self, most: int, hint: str) -> None:
        self.parts: list[_Part] = []
        self.complete = False
        self._most = most
        self._hint = hint
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
        if len(self.parts) == self._most:
            raise _TooManyPartsError
        self.parts.append(_Part())

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        name, value = self._name.lower(), self._value
        self._name = self._value = b""
        if name in self.parts[-1].headers:  # which of them counts would be a guess
            raise _invalid(f"a field of the form has two headers '{_text(name)}'; let the HTTP client write them")
        if name == b"content-transfer-encoding" and value.strip().lower() not in _PLAIN:
            raise _invalid(
                f"a field of the form has Content-Transfer-Encoding '{_text(value)}', which is not decoded (RFC 7578 "
                f"gave it up); send the file's bytes as they are: {self._hint}"
            )
        self.parts[-1].headers[name] = value

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
    return _the_file(_parts(body, content, _MAX_PARTS, "", _HINT))


@dataclass(frozen=True)
class FormFile:
    """One file of a form.

    Attributes:
        name: as the client gave it, which may be anything; empty where it gave none.
        data: the file's bytes.
    """

    name: str
    data: bytes


def files_in_form(body: bytes, content: FormContent, most: int) -> list[FormFile]:
    """The files in a form, in order.

    Args:
        body: the request's body.
        content: what its Content-Type says.
        most: files that it may hold.

    Raises:
        ProblemError: invalid-upload, when the form is malformed, holds no file or too many, or anything else beside.
    """
    parts = _parts(body, content, most, f", but a batch has at most {most} files (max_batch_files)", _MANY_HINT)
    if not parts:
        raise _invalid(f"the form has no fields; {_MANY_HINT}")
    for part in parts:
        name = _text(part.disposition.get(b"name", b""))
        if name not in {MANY_FIELD, FIELD}:
            raise _invalid(
                f"the form has a field '{name}', which is none of '{MANY_FIELD}' and '{FIELD}'; {_MANY_HINT}"
            )
        if not part.is_file:
            raise _invalid(f"a field '{name}' holds text, not a file (with curl, an '@' goes before the path)")
    return [FormFile(_file_name(part), b"".join(part.chunks)) for part in parts]


def _file_name(part: _Part) -> str:
    extended = _UTF8_FILE_NAME.search(part.headers.get(b"content-disposition", b""))
    name = unquote_to_bytes(extended[1]) if extended else part.disposition.get(b"filename", b"")
    return name.decode("utf-8", "replace")


def _parts(body: bytes, content: FormContent, most: int, bound: str, hint: str) -> list[_Part]:
    collector = _Collector(most, hint)
    try:
        collector.parser(content.boundary).write(body)
    except _TooManyPartsError as error:
        fields = 1 + body.count(b"\r\n--%b\r\n" % content.boundary)
        raise _invalid(f"the form has {fields} fields{bound}; {hint}") from error
    except FormParserError as error:
        raise _invalid(f"the multipart body is malformed ({error}); {hint}") from error
    if not collector.complete:
        raise _invalid("the multipart body ends before its closing boundary; it was cut off or its boundary is wrong")
    return collector.parts


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
    return shortened(name.decode("utf-8", "replace"))


def _invalid(detail: str) -> ProblemError:
    return ProblemError(INVALID_UPLOAD, detail)
