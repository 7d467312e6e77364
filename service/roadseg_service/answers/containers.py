"""Many answers in one: a ZIP archive, or a multipart body."""

import io
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from roadseg_service.schemas import BatchManifest

ZIP, MULTIPART = "application/zip", "multipart/mixed"

_PROBLEM = "application/problem+json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP can say; the same answers then give the same bytes


@dataclass(frozen=True)
class Packed:
    """A finished container.

    Attributes:
        body: its bytes.
        content_type: its media type with parameters.
    """

    body: bytes
    content_type: str


def pack_zip(manifest: BatchManifest, answers: Sequence[bytes | None]) -> Packed:
    """An archive of `manifest.json` and the answers, by the names that the manifest gives.

    Args:
        manifest: of the batch.
        answers: one an item; None where there is a problem instead.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_entry("manifest.json", zipfile.ZIP_DEFLATED), _document(manifest))
        for item, answer in zip(manifest.items, answers, strict=True):
            if item.file is not None and answer is not None:
                # Pictures are compressed already.
                way = zipfile.ZIP_DEFLATED if item.file.endswith(".json") else zipfile.ZIP_STORED
                archive.writestr(_entry(item.file, way), answer)
    return Packed(buffer.getvalue(), ZIP)


def pack_multipart(manifest: BatchManifest, answers: Sequence[bytes | None]) -> Packed:
    """A multipart body (RFC 2046) of the manifest, then a part an item, in order: its answer or its problem."""
    boundary = secrets.token_hex(16)
    parts = [_part(boundary, "application/json", "manifest.json", _document(manifest))]
    for item, answer in zip(manifest.items, answers, strict=True):
        if item.media_type is not None and item.file is not None and answer is not None:
            parts.append(_part(boundary, item.media_type, item.file, answer))
        elif item.problem is not None:
            problem = item.problem.model_dump_json(exclude_none=True).encode()
            parts.append(_part(boundary, _PROBLEM, f"{item.index:04d}_problem.json", problem))
    return Packed(b"".join(parts) + f"--{boundary}--\r\n".encode(), f"{MULTIPART}; boundary={boundary}")


CONTAINERS: Mapping[str, Callable[[BatchManifest, Sequence[bytes | None]], Packed]] = {
    ZIP: pack_zip,
    MULTIPART: pack_multipart,
}
"""By media type; the first is the default."""


def _document(manifest: BatchManifest) -> bytes:
    return manifest.model_dump_json(exclude_none=True, indent=1).encode()


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16  # else tools unpack files that nobody may read
    return entry


def _part(boundary: str, media_type: str, name: str, body: bytes) -> bytes:
    head = (
        f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Disposition: attachment; {_file_name(name)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body + b"\r\n"


def _file_name(name: str) -> str:
    """A name, which holds neither quotes nor line ends, as a parameter (RFC 6266, section 4.3 and appendix D)."""
    if name.isascii():
        return f'filename="{name}"'
    plain = "".join(c if c.isascii() else "_" for c in name)  # for readers that know no other way
    # The standard's own way comes first, since some readers, Python's too, take the first one that they understand.
    return f"filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\""
