"""What the OpenAPI document says beyond the types: bodies, headers, examples, problems."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from roadseg_service.access.policy import SAFE_METHODS, Need, need_of
from roadseg_service.api_examples import ANSWERS, PROBLEMS, SAMPLES
from roadseg_service.problems import Problem
from roadseg_service.schemas import SegmentationAnswer

DESCRIPTION = """Segments street-level images into road elements.

Errors are problem JSON (RFC 9457): `type` tells the kind, `detail` what is wrong and how to put it right.
"""

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string"}
_INSTANCE = "urn:uuid:6f1c1f0e-5a5e-4b57-9b6c-2d1f0c5b7a11"

_TITLES = {
    401: "Where the server asks for API keys: none was given, or one that it does not know.",
    403: "The key is not an admin's, or a web page of another origin asks.",
    406: "Nothing in the Accept header can be answered with.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, or too many pixels.",
    415: "The content type or the image format is not supported.",
    421: "The Host header names another server.",
    422: "The upload cannot be used, or a parameter is invalid.",
    429: "Too many requests; Retry-After says when to try again.",
    500: "The server or the model failed.",
    503: "The model is not loaded (yet), memory ran out, the device fails, or the server is about to stop.",
    504: "The answer was not ready in time.",
}

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")

SEGMENT_BODY = {
    "required": True,
    "description": "One JPEG, PNG or WebP still image. The format is told by the bytes, never by a name.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
            "encoding": {"file": {"contentType": "image/jpeg, image/png, image/webp"}},
        },
        **{kind: {"schema": _BINARY} for kind in _IMAGE_TYPES},
    },
}

_BATCH_BODY = {
    "required": True,
    "description": "JPEG, PNG or WebP still images, as fields `files` (`file` is taken, too).",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {"files": {"type": "array", "minItems": 1, "items": _BINARY}},
            },
            "encoding": {"files": {"contentType": "image/jpeg, image/png, image/webp"}},
        }
    },
}

_REQUEST_ID = {
    "X-Request-ID": "The client's own, if it sent one that fits, else a new one; the server's log repeats it."
}
_VARY = {"Vary": "`Accept`, which chooses the answer's format."}
_CACHING = {**_VARY, "Cache-Control": "`private, no-cache`: may be kept, and is to be asked about with its ETag."}

_ETAG = {"ETag": "Changes with whatever changes the answer; for If-None-Match."}

_MODEL_HEADERS = {
    "X-Roadseg-Model": "Name of the model, percent-encoded where a header needs it.",
    "X-Roadseg-Model-Digest": "SHA-256 of the model file, in hexadecimal.",
    "X-Roadseg-Taxonomy": "Name and version of the taxonomy: `name/version`.",
    "X-Roadseg-Orientation": "Which raster the mask belongs to: `displayed` or `stored`.",
}

_NOT_MODIFIED_HEADERS = {"Server-Timing": "Milliseconds by phase.", **_ETAG, **_CACHING}

_ANSWER_HEADERS = {
    **_MODEL_HEADERS,
    "X-Roadseg-Exif-Orientation": "The EXIF orientation found in the file, 1..8; 1 where there is none.",
    **_NOT_MODIFIED_HEADERS,
}

_BATCH_HEADERS = {
    **_MODEL_HEADERS,
    "Server-Timing": "Milliseconds in which a file, or several, were in each phase.",
    **_VARY,
    "Cache-Control": "`no-store`.",
}

_PROBLEM_HEADERS = {
    401: {"WWW-Authenticate": "`Bearer`, with what is wrong about the key."},
    406: _VARY,
}

_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "Entity tags of answers that the client has: where one is the answer's, the status is 304.",
    "schema": _TEXT,
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these problem statuses."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _PROBLEM}
    if status in PROBLEMS:
        content["examples"] = {
            name: {
                "value": {
                    "type": kind.type,
                    "title": kind.title,
                    "status": kind.status,
                    "detail": detail,
                    "instance": _INSTANCE,
                }
            }
            for name, (kind, detail) in PROBLEMS[status].items()
        }
    response: dict[str, Any] = {
        "description": _TITLES[status],
        "content": {"application/problem+json": content},
    }
    if status in _PROBLEM_HEADERS:
        response["headers"] = headers(_PROBLEM_HEADERS[status])
    elif status in {429, 503, 504}:
        response["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}
    return response


def headers(texts: Mapping[str, str]) -> dict[str, Any]:
    """The `headers` of a response: a text each, by name."""
    return {name: {"description": text, "schema": _TEXT} for name, text in texts.items()}


def _not_modified(texts: Mapping[str, str]) -> dict[str, Any]:
    return {"description": "The client has the answer: If-None-Match names it.", "headers": headers(texts)}


def _segment_responses() -> dict[int | str, dict[str, Any]]:
    answer = {
        "model": SegmentationAnswer,
        "description": "The mask or the overlay, in the format that Accept asks for.",
        "headers": headers(_ANSWER_HEADERS),
        "content": {
            "image/png": {
                "schema": {
                    **_BINARY,
                    "description": "Palette PNG; pixel values are class ids, 255 (black) is no class. With "
                    "render=overlay an RGB PNG.",
                }
            },
            "application/json": {"examples": {name: {"value": value} for name, value in ANSWERS.items()}},
            "image/webp": {"schema": {**_BINARY, "description": "With render=overlay."}},
        },
    }
    return {200: answer, 304: _not_modified(_NOT_MODIFIED_HEADERS), **problems(*PROBLEMS)}


def _batch_responses() -> dict[int | str, dict[str, Any]]:
    answer = {
        "description": "An answer or a problem for each file; `manifest.json` comes first and lists them.",
        "headers": headers(_BATCH_HEADERS),
        "content": {
            "application/zip": {"schema": {**_BINARY, "description": "`manifest.json` is a BatchManifest."}},
            "multipart/mixed": {
                "schema": {**_BINARY, "description": "The manifest, then a part a file, in the request's order."}
            },
        },
    }
    return {200: answer, **problems(*PROBLEMS)}


SEGMENT_RESPONSES = _segment_responses()
SEGMENT_EXTRA = {"requestBody": SEGMENT_BODY, "parameters": [_IF_NONE_MATCH]}

BATCH_RESPONSES = _batch_responses()
BATCH_EXTRA = {"requestBody": _BATCH_BODY}

_TAXONOMY_HEADERS = {**_ETAG, "Cache-Control": "`no-cache`: may be kept, and is to be asked about with its ETag."}

TAXONOMY_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The classes.", "headers": headers(_TAXONOMY_HEADERS)},
    304: _not_modified(_TAXONOMY_HEADERS),
}
TAXONOMY_EXTRA = {"parameters": [_IF_NONE_MATCH]}


def completed(
    document: dict[str, Any], schemas: Iterable[type[Any]] = (Problem,), metrics_need_key: bool = False
) -> dict[str, Any]:
    """The OpenAPI document with what holds for all operations, and the schemas that are only named in it.

    Args:
        document: as FastAPI makes it; changed.
        schemas: pydantic models that no route returns by itself.
        metrics_need_key: as `need_of` takes it.
    """
    known = document.setdefault("components", {}).setdefault("schemas", {})
    for schema in schemas:
        own = schema.model_json_schema(ref_template="#/components/schemas/{model}")
        known |= own.pop("$defs", {})
        known[schema.__name__] = own
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if samples := SAMPLES.get((method, path)):
                operation["x-codeSamples"] = samples
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _without_null(parameter["schema"])
            responses = operation["responses"]
            for status in _statuses_before_a_route(method.upper(), path, metrics_need_key):
                responses.setdefault(str(status), _problem(status))
            for response in responses.values():
                response["headers"] = {**response.get("headers", {}), **headers(_REQUEST_ID)}
    return document


def _statuses_before_a_route(method: str, path: str, metrics_need_key: bool) -> Sequence[int]:
    """What is answered before a route sees a request, or when it meets an error that nobody foresaw."""
    statuses = [421, 500]
    if need_of(method, path, metrics_need_key) is not Need.NOTHING:
        statuses += [401, 429]
    if method not in SAFE_METHODS:
        statuses.append(403)
    return statuses


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be left out, which is not to say that it may be null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
