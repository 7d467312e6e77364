"""Names of a package that load on first use, so that importing the package stays fast and needs no extra."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from roadseg.errors import name_missing_extra


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level `__getattr__` (PEP 562).

    Args:
        package: the package whose names they are.
        module_of: public name -> module that defines it.

    Returns:
        A function of a name that gives the object. It raises AttributeError for names that are not in `module_of`, and
        MissingExtraError when what the module needs is not installed.
    """

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'; it has {', '.join(sorted(module_of))}")
        with name_missing_extra(f"{package}.{name}"):
            return getattr(import_module(module_of[name]), name)

    return load
