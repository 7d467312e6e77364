"""Reading a dataset before it is used."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from tqdm import tqdm

from roadseg.errors import DataError, RoadsegError

_LISTED = 5


class _Items(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def refuse_broken(items: _Items, unit: str, limit: int | None = None) -> None:
    """Read items, in parallel, and name those that are broken.

    Args:
        items: a dataset; reading a broken item raises a RoadsegError.
        unit: what an item is, for messages.
        limit: items that are read, spread evenly over the dataset; None reads all.

    Raises:
        DataError: with the first findings and their number.
    """
    count = len(items) if limit is None else min(limit, len(items))
    findings = list(_findings(items, [i * len(items) // count for i in range(count)], unit))
    if len(findings) == 1:
        raise DataError(findings[0])
    if findings:
        listed = "\n  ".join(findings[:_LISTED])
        more = f"\n  ... and {len(findings) - _LISTED} more" if len(findings) > _LISTED else ""
        raise DataError(f"{len(findings)} of {count} {unit}s are broken:\n  {listed}{more}")


def _findings(items: _Items, chosen: Sequence[int], unit: str) -> Iterator[str]:
    def finding(index: int) -> str | None:
        try:
            items[index]
        except RoadsegError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        found = pool.map(finding, chosen)
        for message in tqdm(found, total=len(chosen), desc=f"checking {unit}s", unit=unit, leave=False, disable=None):
            if message:
                yield message
