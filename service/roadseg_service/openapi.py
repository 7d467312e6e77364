"""What the OpenAPI document says beyond the types: bodies, examples, problems."""

from collections.abc import Mapping
from typing import Any

from roadseg_service import problems as p
from roadseg_service.schemas import SegmentationAnswer

DESCRIPTION = """Segments street-level images into road elements.

Errors are problem JSON (RFC 9457): `type` tells the kind, `detail` what is wrong and how to put it right.
"""

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_BINARY = {"type": "string", "format": "binary"}
_INSTANCE = "urn:uuid:6f1c1f0e-5a5e-4b57-9b6c-2d1f0c5b7a11"

_EXAMPLES: Mapping[int, Mapping[str, tuple[p.ProblemKind, str]]] = {
    406: {
        "not acceptable": (
            p.NOT_ACCEPTABLE,
            "Accept is 'text/html', but the answer can only be image/png or application/json; accept one of these",
        )
    },
    408: {"slow upload": (p.UPLOAD_TIMEOUT, "the body did not arrive within 60 s; send it faster, or a smaller one")},
    413: {
        "too many bytes": (
            p.BODY_TOO_LARGE,
            "the request body is 50000000 bytes, but at most 33554432 bytes are accepted; send a smaller or more "
            "strongly compressed image",
        ),
        "too many pixels": (
            p.IMAGE_TOO_LARGE,
            "the uploaded image is 30000x30000 = 900000000 pixels; at most 50000000 pixels are accepted",
        ),
    },
    415: {
        "image format": (
            p.UNSUPPORTED_IMAGE,
            "the uploaded image is not a JPEG, PNG or WebP image (it begins with b'GIF89a\\x01\\x00'); convert it to "
            "one of these",
        ),
        "content type": (
            p.UNSUPPORTED_CONTENT_TYPE,
            "Content-Type is 'text/plain'; send a form (multipart/form-data) with the image in field 'file', or the "
            "image itself as image/jpeg, image/png, image/webp or application/octet-stream",
        ),
    },
    422: {
        "no file": (
            p.INVALID_UPLOAD,
            "the form has no field 'file'; it has 'image': send one image in field 'file'; with curl: "
            "-F file=@photo.jpg",
        ),
        "damaged image": (p.CORRUPT_IMAGE, "the uploaded image is truncated or damaged: image file is truncated"),
        "query parameter": (
            p.INVALID_PARAMETER,
            "query parameter orientation is 'sideways': Input should be 'displayed' or 'stored'",
        ),
    },
    429: {"queue full": (p.QUEUE_FULL, "64 requests are being served or waiting, which is the limit; try again later")},
    500: {
        "model failure": (
            p.PREDICTION_FAILED,
            "the model failed on this image of 1920x1080 pixels; the server's log has the details under this problem's "
            "instance",
        )
    },
    503: {"loading": (p.MODEL_NOT_READY, "model 'roadseg-nano' is still loading; try again")},
}

_TITLES = {
    406: "Nothing in the Accept header can be answered with.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, or too many pixels.",
    415: "The content type or the image format is not supported.",
    422: "The upload is not one whole image, or a parameter is invalid.",
    429: "Too many requests are waiting; Retry-After says when to try again.",
    500: "The model failed on this image.",
    503: "The model is not loaded (yet), or memory ran out.",
}

JSON_EXAMPLE = {
    "image": {"width": 4, "height": 2, "format": "JPEG", "exif_orientation": 1, "orientation": "displayed"},
    "model": {
        "name": "roadseg-nano",
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
    "taxonomy": {"name": "camvid11", "version": 1},
    "classes": [
        {
            "id": 0,
            "name": "sky",
            "colour": [128, 128, 128],
            "area_px": 4,
            "share": 0.5,
            "rle": {"size": [2, 4], "counts": "011000000"},
        },
        {
            "id": 3,
            "name": "road",
            "colour": [128, 64, 128],
            "area_px": 4,
            "share": 0.5,
            "rle": {"size": [2, 4], "counts": "11100000"},
        },
    ],
}

SEGMENT_BODY = {
    "required": True,
    "description": "One JPEG, PNG or WebP still image. The format is told by the bytes, never by a name.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
            "encoding": {"file": {"contentType": "image/jpeg, image/png, image/webp"}},
        },
        **{kind: {"schema": _BINARY} for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")},
    },
}

_ANSWER_HEADERS = {
    "X-Roadseg-Model": "Name of the model, percent-encoded where a header needs it.",
    "X-Roadseg-Model-Digest": "SHA-256 of the model file, in hexadecimal.",
    "X-Roadseg-Taxonomy": "Name and version of the taxonomy: `name/version`.",
    "X-Roadseg-Exif-Orientation": "The EXIF orientation found in the file, 1..8; 1 where there is none.",
    "X-Roadseg-Orientation": "Which raster the mask belongs to: `displayed` or `stored`.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these problem statuses."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    examples = {
        name: {
            "value": {
                "type": kind.type,
                "title": kind.title,
                "status": kind.status,
                "detail": detail,
                "instance": _INSTANCE,
            }
        }
        for name, (kind, detail) in _EXAMPLES[status].items()
    }
    response: dict[str, Any] = {
        "description": _TITLES[status],
        "content": {"application/problem+json": {"schema": _PROBLEM, "examples": examples}},
    }
    if status in {429, 503}:
        response["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}
    return response


def _segment_responses() -> dict[int | str, dict[str, Any]]:
    answer = {
        "model": SegmentationAnswer,
        "description": "The mask, in the format that Accept asks for.",
        "headers": {
            name: {"description": text, "schema": {"type": "string"}} for name, text in _ANSWER_HEADERS.items()
        },
        "content": {
            "image/png": {"schema": {**_BINARY, "description": "Palette PNG; pixel values are class ids."}},
            "application/json": {"example": JSON_EXAMPLE},
        },
    }
    return {200: answer, **problems(*_EXAMPLES)}


SEGMENT_RESPONSES = _segment_responses()


def with_problem_schema(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with the schema that the problem responses refer to."""
    document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = p.Problem.model_json_schema()
    return document
