"""Examples in the OpenAPI document: requests, answers and problems."""

from collections.abc import Mapping
from typing import Any

from roadseg_service import problems as p

_BASE = "http://127.0.0.1:8000"
_SEGMENT, _BATCH = f"{_BASE}/segment", f"{_BASE}/segment/batch"


def _sample(label: str, source: str, media_type: str) -> dict[str, Any]:
    """A request that is answered 200, as `x-codeSamples` has them, and the type of its answer."""
    return {"lang": "Shell", "label": label, "source": source, "x-media-type": media_type}


_PNG, _JSON, _WEBP = "image/png", "application/json", "image/webp"

SAMPLES: Mapping[tuple[str, str], list[dict[str, Any]]] = {
    ("post", "/segment"): [
        _sample("mask", f"curl -F file=@drive.jpg {_SEGMENT} -o mask.png", _PNG),
        _sample(
            "raw body",
            f"curl -H 'Content-Type: image/jpeg' --data-binary @drive.jpg {_SEGMENT} -o mask.png",
            _PNG,
        ),
        _sample("run lengths", f"curl -F file=@drive.jpg -H 'Accept: application/json' {_SEGMENT}", _JSON),
        _sample("polygons", f"curl -F file=@drive.jpg '{_SEGMENT}?geometry=polygons&tolerance_px=2'", _JSON),
        _sample("confidences", f"curl -F file=@drive.jpg '{_SEGMENT}?confidence=true'", _JSON),
        _sample(
            "some classes",
            f"curl -F file=@drive.jpg '{_SEGMENT}?classes=0,3&min_confidence=0.6' -o mask.png",
            _PNG,
        ),
        _sample(
            "overlay",
            f"curl -F file=@drive.jpg -H 'Accept: image/webp' '{_SEGMENT}?render=overlay&opacity=0.4' -o overlay.webp",
            _WEBP,
        ),
        _sample("stored raster", f"curl -F file=@drive.jpg '{_SEGMENT}?orientation=stored' -o mask.png", _PNG),
    ],
    ("post", "/segment/batch"): [
        _sample("archive", f"curl -F files=@drive.jpg -F files=@other.png {_BATCH} -o masks.zip", "application/zip"),
        _sample(
            "multipart",
            f"curl -F files=@drive.jpg -F files=@other.png -H 'Accept: multipart/mixed' '{_BATCH}?format=json'",
            "multipart/mixed",
        ),
    ],
    ("get", "/v1/taxonomy"): [_sample("classes", f"curl {_BASE}/v1/taxonomy", _JSON)],
    ("get", "/v1/models"): [_sample("models", f"curl {_BASE}/v1/models", _JSON)],
    ("get", "/livez"): [_sample("alive", f"curl {_BASE}/livez", _JSON)],
    ("get", "/readyz"): [_sample("ready", f"curl {_BASE}/readyz", _JSON)],
}
"""By method and path."""

_MODEL = {
    "name": "roadseg-nano",
    "digest": "af9c807272bd58d3df8009d73a2948352200fc9196b00699752f23785cd43410",
}
_TAXONOMY = {"name": "hdmap-camvid", "version": 1}
_IMAGE = {"width": 4, "height": 3, "format": "JPEG", "exif_orientation": 1, "orientation": "displayed"}
_SKY = {"id": 10, "name": "sky", "colour": [120, 187, 255], "area_px": 5, "share": 5 / 12}
_ROAD = {"id": 0, "name": "road", "colour": [91, 72, 108], "area_px": 7, "share": 7 / 12}
_SKY_RLE = {"rle": {"size": [3, 4], "counts": "01200001O"}}
_ROAD_RLE = {"rle": {"size": [3, 4], "counts": "1210001O"}}
_SKY_EDGE = [[0, 0], [0, 1], [3, 1], [3, 2], [4, 2], [4, 0]]
_ROAD_EDGE = [[0, 1], [0, 3], [4, 3], [4, 2], [3, 2], [3, 1]]

ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "run lengths": {
        "image": _IMAGE,
        "model": _MODEL,
        "taxonomy": _TAXONOMY,
        "classes": [{**_ROAD, **_ROAD_RLE}, {**_SKY, **_SKY_RLE}],
    },
    "polygons": {
        "image": _IMAGE,
        "model": _MODEL,
        "taxonomy": _TAXONOMY,
        "classes": [
            {**_ROAD, "polygons": [{"exterior": _ROAD_EDGE, "holes": []}]},
            {**_SKY, "polygons": [{"exterior": _SKY_EDGE, "holes": []}]},
        ],
    },
    "confidences": {
        "image": _IMAGE,
        "model": _MODEL,
        "taxonomy": _TAXONOMY,
        "classes": [
            {**_ROAD, "mean_confidence": 0.5, **_ROAD_RLE},
            {**_SKY, "mean_confidence": 0.75, **_SKY_RLE},
        ],
        "confidence": {
            "media_type": "image/png",
            "scale": 1 / 255,
            "data": "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAAAAACRn/EaAAAAFklEQVR4XmPcz8DAwHKQgcGeCcg4CAATxgKIfBxm4AAAAABJ"
            "RU5ErkJggg==",
        },
    },
}
"""JSON answers of the bundled model to an image of three rows, the first of sky, the last of road."""

PROBLEMS: Mapping[int, Mapping[str, tuple[p.ProblemKind, str]]] = {
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
            "the uploaded image is not a JPEG, PNG or WebP image: it is a GIF image; convert it to one of these",
        ),
        "content type": (
            p.UNSUPPORTED_CONTENT_TYPE,
            "Content-Type is 'text/plain'; send a form (multipart/form-data) with the image in field 'file', or the "
            "image itself as image/jpeg, image/png, image/webp or application/octet-stream. With curl: "
            "-F file=@photo.jpg, or -H 'Content-Type: image/jpeg' --data-binary @photo.jpg",
        ),
    },
    422: {
        "no file": (
            p.INVALID_UPLOAD,
            "the form has no field 'file'; it has 'image': send one image in field 'file'; with curl: "
            "-F file=@photo.jpg",
        ),
        "damaged image": (
            p.CORRUPT_IMAGE,
            "the uploaded image is truncated or damaged: its 20000 bytes hold no end of the JPEG image",
        ),
        "query parameter": (
            p.INVALID_PARAMETER,
            "query parameter orientation is 'sideways'; use 'displayed' or 'stored'",
        ),
    },
    429: {"queue full": (p.QUEUE_FULL, "64 requests are being served or waiting, of at most 64; try again in 2 s")},
    500: {
        "model failure": (
            p.PREDICTION_FAILED,
            "the model failed on this image of 1920x1080 pixels; the server's log has the details under this problem's "
            "instance",
        )
    },
    503: {"loading": (p.MODEL_NOT_READY, "model 'roadseg-nano' is still loading; try again")},
    504: {
        "deadline": (
            p.DEADLINE_EXCEEDED,
            "the answer was not ready within 30 s; try again in 2 s, or send a smaller image",
        )
    },
}
"""By status."""
