"""Keys in the OpenAPI document, of a service that asks for them."""

from typing import Any

from roadseg_service.access.policy import Need, need_of

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}


def with_keys(document: dict[str, Any], *, allow_anonymous: bool, metrics_need_key: bool) -> dict[str, Any]:
    """An OpenAPI document that says which operations need a key.

    Args:
        document: it is changed.
        allow_anonymous: as `Authentication` takes it.
        metrics_need_key: as `Authentication` takes it.
    """
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = need_of(method.upper(), path, metrics_need_key)
            if need is Need.NOTHING:
                continue
            optional: list[dict[str, list[str]]] = [{}] if allow_anonymous and need is Need.CALLER else []
            operation["security"] = [*optional, *({name: []} for name in _SCHEMES)]
    return document
