"""The file of API keys while the service runs: read again when it changes, so that keys rotate without a restart."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from roadseg.errors import ConfigError, plural
from roadseg_service.access.keys import Keys, KeyText, keys_in, read_text

log = logging.getLogger("roadseg.service")

LOOK_EVERY_S = 1.0


class KeyFile:
    """Gives the keys of a file as it is now, at most `LOOK_EVERY_S` late.

    A file that has become wrong, or went away, changes nothing but the log: the keys of its last good state stay.

    Args:
        path: of the file.
        clock: seconds that only grow.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            ConfigError: when it is wrong.
        """
        self.path = path
        self._clock = clock
        self._looked_at = clock()
        text = read_text(path)
        self._keys = keys_in(text, path)
        self._state = _fingerprint(text)
        self._told = ""
        self._warn()

    @property
    def ok(self) -> bool:
        """Whether the file was right when it was last looked at, so that its keys are those that are valid."""
        return not self._told

    def keys(self) -> Keys:
        """The keys."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._keys

    def _look(self) -> None:
        """Take the file's keys where they changed. Its times would not tell: their steps are milliseconds long."""
        try:
            text = read_text(self.path)
            state = _fingerprint(text)
            if state != self._state:
                self._keys = keys_in(text, self.path)
                self._state = state
                log.info("the API keys' file %s was read again: %s", self.path, plural(len(self._keys.callers), "key"))
                self._warn()
            self._told = ""
        except ConfigError as error:
            message = str(error)
            if message != self._told:
                log.error("%s; the keys that were read before stay valid", message)
            self._told = message

    def _warn(self) -> None:
        for warning in self._keys.warnings:
            log.warning("%s", warning)


def _fingerprint(text: KeyText) -> bytes:
    return hashlib.sha256(b"%d %s" % (text.mode, text.data)).digest()
