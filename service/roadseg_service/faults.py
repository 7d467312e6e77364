"""What is wrong with the values of a request, in this service's words; pydantic's own are for programmers."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from roadseg_service.problems import INVALID_PARAMETER, ProblemError
from roadseg_service.setting_fields import range_of
from roadseg_service.text import shortened

_MOST_FAULTS = 30
"""That are told of one request: each name in it may be an unknown one, and there is room for thousands."""

_REMEDIES = {
    "string_type": "use a text in quotes",
    "string_too_short": "it is empty",
    "string_too_long": "it is too long",
    "bool_type": "use true or false",
    "bool_parsing": "use true or false",
}
"""By pydantic's type of error, where neither the error nor the field has more to say."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        parameter: name of what it is about.
        detail: what is wrong, its value and the fix.
    """

    parameter: str
    detail: str


def refusal(faults: Iterable[Fault]) -> ProblemError:
    """The problem invalid-parameter that lists them all."""
    listed = list(faults)
    detail = "; ".join(fault.detail for fault in listed)
    return ProblemError(INVALID_PARAMETER, detail, errors=[asdict(fault) for fault in listed])


def faults_in(model: type[BaseModel], values: Mapping[str, str], what: str) -> list[Fault]:
    """The faults of values that a model describes, each by itself; at most thirty.

    Args:
        model: fields that may be there, and what they may be.
        values: by name.
        what: they are, in the singular: query parameter.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        return faults_of(error, model, what)
    return []


def faults_of(error: ValidationError, model: type[BaseModel], what: str) -> list[Fault]:
    """The faults that pydantic found; arguments as for `faults_in`."""
    found = error.errors(include_url=False)[:_MOST_FAULTS]  # fields that are known come first
    return [_fault(each, model, what) for each in found]


def _fault(error: Any, model: type[BaseModel], what: str) -> Fault:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "json_invalid":
        return Fault("body", f"the body is not JSON ({error['ctx']['error']}); send an object, {_example(model)}")
    if not name:
        return Fault("body", f"the body is not a JSON object; send one, {_example(model)}")
    if error["type"] == "extra_forbidden":
        return Fault(shortened(name), f"there is no {what} '{shortened(name)}'; {_known(name, model)}")
    if error["type"] == "missing":
        meaning = model.model_fields[name].description or ""
        return Fault(name, f"{what} '{name}' is missing; give it: {meaning[:1].lower()}{meaning[1:].rstrip('.')}")
    value = error["input"]
    sent = shortened(value if isinstance(value, str) else json.dumps(value, default=str))
    return Fault(name, f"{what} {name} is '{sent}'; {_remedy(error, model)}")


def _example(model: type[BaseModel]) -> str:
    fields = model.model_fields.items()
    return f"such as {json.dumps({name: field.examples[0] for name, field in fields if field.examples})}"


def _known(name: str, model: type[BaseModel]) -> str:
    near = get_close_matches(name, model.model_fields, 1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(model.model_fields)}"


def _remedy(error: Any, model: type[BaseModel]) -> str:
    context, field = error.get("ctx", {}), model.model_fields[error["loc"][0]]
    if "expected" in context:
        return f"use {context['expected']}"
    if "error" in context:
        return str(context["error"])
    if (numbers := range_of(field)) is not None:
        return f"use a number from {numbers}"
    return _REMEDIES.get(error["type"], error["msg"])
