"""What each request needs: nothing, any key, or an admin's."""

from enum import Enum

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Change nothing (RFC 9110, section 9.2.1): a page of another origin may have them sent, and cannot read the answer."""

_OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/openapi.json", "/docs"})
_OPEN_FOLDER = "/page/"
_METRICS = "/metrics"
_ADMIN = "/v1/models"


class Need(Enum):
    """What a request must bring."""

    NOTHING = "nothing"
    CALLER = "a key, where keys are asked for"
    KEY = "a key"
    ADMIN_KEY = "an admin key"


def need_of(method: str, path: str, metrics_need_key: bool = False) -> Need:
    """What a request needs.

    Open are the probes, the page with its files (its calls are not) and the description of the interface. Every other
    path needs a key, also one that is not there, so that a new route is closed until it is named here.

    Args:
        method: of the request.
        path: of the request, decoded, as routes are matched by.
        metrics_need_key: whether /metrics is closed, too.
    """
    if method in {"GET", "HEAD"}:
        if path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return Need.NOTHING
        if path == _METRICS:
            return Need.KEY if metrics_need_key else Need.NOTHING
    if method not in SAFE_METHODS and (path == _ADMIN or path.startswith(f"{_ADMIN}/")):
        return Need.ADMIN_KEY
    return Need.CALLER
