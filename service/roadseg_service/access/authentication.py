"""API keys, checked by a request's headers alone."""

from starlette.types import ASGIApp, Receive, Scope, Send

from roadseg_service.access.callers import Role, set_caller
from roadseg_service.access.key_file import KeyFile
from roadseg_service.access.policy import Need, need_of
from roadseg_service.problems import ADMIN_ONLY, KEY_REQUIRED, ProblemError, problem_response
from roadseg_service.text import shortened

_HOW = "send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`"


class Authentication:
    """ASGI middleware that answers 401 and 403 to requests without the key that they need.

    Args:
        app: the application behind it.
        key_file: the keys; None asks for none, and closes what needs an admin's.
        allow_anonymous: whether requests without any key are taken beside those with one.
        metrics_need_key: whether /metrics needs a key.
    """

    def __init__(self, app: ASGIApp, key_file: KeyFile | None, allow_anonymous: bool, metrics_need_key: bool) -> None:
        """Wrap the application."""
        self.app = app
        self.key_file = key_file
        self.allow_anonymous = allow_anonymous
        self.metrics_need_key = metrics_need_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ProblemError as error:
                response = problem_response(error.kind, error.detail, headers=error.headers)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        need = need_of(scope["method"], scope["path"], self.metrics_need_key)
        if need is Need.NOTHING:
            return
        what = f"{shortened(scope['method'], 20)} {shortened(scope['path'])}"
        if self.key_file is None:
            if need is Need.ADMIN_KEY:
                raise ProblemError(ADMIN_ONLY, f"{what} needs an admin key, and this service has no file of API keys")
            return
        key = _key_in(scope)
        if key is None:
            if need is Need.CALLER and self.allow_anonymous:
                return
            raise _unauthorised(f"this service asks for an API key; {_HOW}")
        keys = self.key_file.keys()
        caller = keys.caller(key)
        if caller is None:
            raise _unauthorised(f"the API key is not one of this service's; {_HOW}", 'error="invalid_token"')
        if need is Need.ADMIN_KEY and caller.role is not Role.ADMIN:
            there = "" if keys.has_admin else ", and this service has none"
            raise ProblemError(ADMIN_ONLY, f"{what} needs an admin key{there}; '{caller.name}' has a user's")
        set_caller(scope, caller)


def _key_in(scope: Scope) -> bytes | None:
    """The key that a request brings, if any.

    Raises:
        ProblemError: key-required, when it brings several.
    """
    keys = set()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            keys.add(value.strip())
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":  # any other is for a proxy between
                keys.add(rest.strip())
    if len(keys) > 1:
        raise _unauthorised(f"the request brings {len(keys)} different API keys; {_HOW}", 'error="invalid_request"')
    return keys.pop() if keys else None


def _unauthorised(detail: str, parameter: str | None = None) -> ProblemError:
    challenge = ", ".join(part for part in ('Bearer realm="roadseg"', parameter) if part)
    return ProblemError(KEY_REQUIRED, detail, {"WWW-Authenticate": challenge})
