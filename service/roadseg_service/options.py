"""The options of `roadseg serve`: one for each setting, made of its field."""

import argparse
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from roadseg_service.setting_fields import ENV_PREFIX, default_in_words, field_extra, option_of, range_of
from roadseg_service.settings import ServiceSettings, explain

_PRECEDENCE = f"""\
Each option is an environment variable, too: {ENV_PREFIX} and its name in capitals, so that
--max-pixels 1000000 is {ENV_PREFIX}MAX_PIXELS=1000000. An option wins over the variable."""


class _ByName:
    """Reads an option's text as its setting does; argparse wants a callable of one argument."""

    def __init__(self, name: str, field: FieldInfo) -> None:
        self._name = name
        kind: Any = Annotated[field.annotation, Field(), *field.metadata]
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))

    def __call__(self, text: str) -> Any:
        try:
            return self._adapter.validate_python(text)
        except ValidationError as error:
            faults = [explain({**fault, "loc": (self._name,), "input": text}) for fault in error.errors()]
            raise argparse.ArgumentTypeError("; ".join(faults)) from error


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting, in the groups that their fields name; none given leaves no value."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in ServiceSettings.model_fields.items():
        title = field_extra(field, "group") or "other"
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        how: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": _help(field)}
        if field.annotation in {bool, bool | None}:
            groups[title].add_argument(option_of(name), action=argparse.BooleanOptionalAction, **how)
        else:
            groups[title].add_argument(option_of(name), type=_ByName(name, field), metavar=_metavar(name, field), **how)
    parser.allow_abbrev = False  # or a key that was given as --api-key would be taken for its file's name
    parser.usage = f"{parser.prog} [OPTION ...]"
    parser.description = "\n\n".join(text for text in (parser.description, _PRECEDENCE) if text)


def values_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as options."""
    return {name: value for name, value in vars(arguments).items() if name in ServiceSettings.model_fields}


def _help(field: FieldInfo) -> str:
    unit = field_extra(field, "unit")
    facts = [unit if unit and unit[0].islower() else None, range_of(field), f"default: {default_in_words(field)}"]
    return f"{field.description} ({'; '.join(fact for fact in facts if fact)})".replace("%", "%%")


def _metavar(name: str, field: FieldInfo) -> str:
    unit = field_extra(field, "unit")
    if unit is None:
        return "N" if field.annotation in {int, float} else name.upper()
    return "N" if unit[0].islower() else unit
