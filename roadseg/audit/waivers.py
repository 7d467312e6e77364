"""Findings that are known and accepted, by name."""

from collections.abc import Collection
from fnmatch import fnmatchcase

from roadseg.audit.checks import CHECKS
from roadseg.errors import ConfigError


class Waivers:
    """Waivers, and which of them were used.

    Args:
        texts: each `CHECK` or `CHECK:PATTERN`; the pattern (with *, ? and [...]) is compared with the finding's
            dataset, split, subject (a frame's name, a drive, a class) and file, for example `leak-drive:0016E5`.

    Raises:
        ConfigError: when there is no check of that name.
    """

    def __init__(self, texts: Collection[str] = ()) -> None:
        self._patterns: list[tuple[str, str, str]] = []
        self._used: set[str] = set()
        for text in dict.fromkeys(texts):
            check, _, pattern = text.partition(":")
            if check not in CHECKS:
                raise ConfigError(
                    f"waiver '{text}': there is no check '{check}'; there are {', '.join(sorted(CHECKS))}"
                )
            self._patterns.append((text, check, pattern or "*"))

    def match(self, check: str, names: Collection[str]) -> str | None:
        """The waiver that accepts an occurrence of a check, or None.

        Args:
            check: name of the check.
            names: what the occurrence may be called by.
        """
        for text, waived, pattern in self._patterns:
            if waived == check and any(fnmatchcase(name, pattern) for name in names):
                self._used.add(text)
                return text
        return None

    @property
    def unused(self) -> list[str]:
        """Waivers that matched nothing, in the order given."""
        return [text for text, _, _ in self._patterns if text not in self._used]
