"""Reading a whole dataset once before it is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from tqdm import tqdm

from roadseg.errors import DataError, RoadsegError

_LISTED = 5


class _Items(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def refuse_broken(items: _Items, unit: str) -> None:
    """Read every item, in parallel, and name those that are broken.

    Args:
        items: a dataset; reading a broken item raises a RoadsegError.
        unit: what an item is, for messages.

    Raises:
        DataError: with the first findings and their number.
    """
    findings = list(_findings(items, unit))
    if len(findings) == 1:
        raise DataError(findings[0])
    if findings:
        listed = "\n  ".join(findings[:_LISTED])
        more = f"\n  ... and {len(findings) - _LISTED} more" if len(findings) > _LISTED else ""
        raise DataError(f"{len(findings)} of {len(items)} {unit}s are broken:\n  {listed}{more}")


def _findings(items: _Items, unit: str) -> Iterator[str]:
    def finding(index: int) -> str | None:
        try:
            items[index]
        except RoadsegError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        found = pool.map(finding, range(len(items)))
        for message in tqdm(found, total=len(items), desc=f"checking {unit}s", unit=unit, leave=False, disable=None):
            if message:
                yield message
