"""How a setting is declared, and how help, documentation and error messages word it."""

from collections.abc import Callable, Sequence
from typing import Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

ENV_PREFIX = "ROADSEG_SERVICE_"


def setting(
    default: Any,
    group: str,
    description: str,
    unit: str | None = None,
    default_text: str | None = None,
    **bounds: Any,
) -> Any:
    """A field of `ServiceSettings`; help, documentation and error messages are made of it.

    Args:
        default: its value where none is given.
        group: title under which help lists it.
        description: what it does, one sentence without its unit and default.
        unit: of its values, in the plural: bytes, s, ms; or what they are: FILE.
        default_text: what None, the default, comes to.
        bounds: as `pydantic.Field` takes them.
    """
    extra: dict[str, Any] = {"group": group, "unit": unit, "default_text": default_text}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def checked_by(check: Callable[[Sequence[str]], None]) -> AfterValidator:
    """A check of a list's elements, which raises ValueError."""

    def checked(values: tuple[str, ...]) -> tuple[str, ...]:
        check(values)
        return values

    return AfterValidator(checked)


SPLIT = BeforeValidator(_split)
"""Makes a list of a text with commas between its elements."""


def option_of(name: str) -> str:
    """The option of `roadseg serve` that sets a setting."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable that sets a setting."""
    return ENV_PREFIX + name.upper()


def range_of(field: FieldInfo) -> str | None:
    """The numbers that a setting may be, in words; None where nothing bounds it."""
    whole = field.annotation in {int, int | None}
    low: Any = None
    high: Any = None
    for bound in field.metadata:
        if isinstance(bound, Gt):
            low = 1 if whole and bound.gt == 0 else f"more than {bound.gt}"
        elif isinstance(bound, Ge):
            low = bound.ge
        elif isinstance(bound, Le):
            high = bound.le
    if high is None:
        return low if low is None or isinstance(low, str) else f"at least {low}"
    if low is None:
        return f"at most {high}"
    return f"{low} and at most {high}" if isinstance(low, str) else f"{low} to {high}"


def field_extra(field: FieldInfo, key: str) -> str | None:
    """What `setting` noted of a field: its group, unit or default_text."""
    extra = field.json_schema_extra
    found = extra.get(key) if isinstance(extra, dict) else None
    return found if isinstance(found, str) else None


def default_in_words(field: FieldInfo) -> str:
    """A field's default as help and documentation write it."""
    if words := field_extra(field, "default_text"):
        return words
    if isinstance(field.default, bool):
        return str(field.default).lower()
    words = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    return "none" if words in (None, "") else str(words)
