"""Who sends a request."""

from dataclasses import dataclass
from enum import Enum

from starlette.types import Scope

_KEY = "roadseg.caller"


class Role(Enum):
    """What a key is for."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """The holder of a key.

    Attributes:
        name: of the key's line in the file, for logs and limits; several keys may share one.
        role: what the keys are for.
    """

    name: str
    role: Role


def set_caller(scope: Scope, caller: Caller) -> None:
    """Note who sends a request."""
    scope[_KEY] = caller


def caller_of(scope: Scope) -> Caller | None:
    """Who sends a request; None where no key is asked for."""
    caller: Caller | None = scope.get(_KEY)
    return caller
