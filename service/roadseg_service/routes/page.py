"""The page: a few static files, which lie beside this package and load nothing from elsewhere."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from roadseg_service.answers.etag import IfNoneMatch

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",  # browsers refuse modules of another type
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No string becomes markup or code; the one policy names the worker's file.
        "require-trusted-types-for 'script'",
        "trusted-types roadseg-worker",
    )
)

HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, but asked for each time: after an update no file of the old page works beside those of the new one.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page.

    Attributes:
        body: its bytes.
        media_type: of them.
        etag: changes with them.
    """

    body: bytes
    media_type: str
    etag: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """The page's files by name, read once: a name that a client sends is looked up here, and is no path."""
    return {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}


@router.get("/")
@router.head("/")
async def index(request: Request) -> Response:
    """The page itself."""
    return _answer(request, INDEX)


@router.get("/page/{name}")
@router.head("/page/{name}")
async def part(request: Request, name: str) -> Response:
    """What the page loads."""
    if name == INDEX or name not in page_files():  # its links hold at / alone
        raise HTTPException(404)
    return _answer(request, name)


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    return PageFile(body, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()}"')


def _answer(request: Request, name: str) -> Response:
    file = page_files()[name]
    headers = {**HEADERS, "ETag": file.etag}
    known = IfNoneMatch(request.headers.getlist("if-none-match"))
    if known.any or known.matches(file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.media_type)
