"""The file of API keys: one `NAME:ROLE:KEY` a line, where KEY is better given as its SHA-256."""

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from roadseg.errors import ConfigError, plural
from roadseg_service.access.callers import Caller, Role

MIN_KEY_CHARACTERS = 16

MAX_FILE_BYTES = 1024 * 1024

_MAX_KEYS = 1000
_DIGEST_PREFIX = "sha256:"
KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9._~+/-]{16,512}={0,2}")  # what `Authorization: Bearer` can carry (RFC 6750)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Keys:
    """The keys of one reading of the file; only their digests are kept.

    Attributes:
        callers: SHA-256 of a key -> who holds it.
        warnings: what an operator should put right.
    """

    callers: Mapping[bytes, Caller] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def caller(self, key: bytes) -> Caller | None:
        """Who holds a key; None where nobody does. Takes as long for any key."""
        given = hashlib.sha256(key).digest()
        found = None
        for digest, caller in self.callers.items():
            if hmac.compare_digest(given, digest):
                found = caller
        return found

    @property
    def has_admin(self) -> bool:
        """Whether one of the keys is an admin's."""
        return any(caller.role is Role.ADMIN for caller in self.callers.values())


@dataclass(frozen=True)
class KeyText:
    """What is in the file.

    Attributes:
        data: its bytes.
        mode: whose it is to read and write, as `os.stat` gives it.
    """

    data: bytes = field(repr=False)
    mode: int


def read_keys(path: str | Path) -> Keys:
    """Read a file of keys.

    Raises:
        ConfigError: as `read_text` and `keys_in` say.
    """
    return keys_in(read_text(path), path)


def read_text(path: str | Path) -> KeyText:
    """Read a file.

    Raises:
        ConfigError: when it cannot be read, or is larger than any file of keys.
    """
    try:
        if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):  # it would wait for a writer
            raise ConfigError(f"the API keys' file {path} is no file but a pipe, socket or device; name a file")
        with open(path, "rb") as file:
            text = KeyText(file.read(MAX_FILE_BYTES + 1), os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise ConfigError(
            f"the API keys' file {path} cannot be read ({error.strerror or error}); name one that this user may read "
            "in api_keys_file"
        ) from error
    if len(text.data) > MAX_FILE_BYTES:
        raise ConfigError(f"the API keys' file {path} has more than {MAX_FILE_BYTES} bytes; is it the right file?")
    return text


def keys_in(text: KeyText, path: str | Path) -> Keys:
    """The keys in a file.

    Args:
        text: what is in it.
        path: of it, for messages.

    Raises:
        ConfigError: when others may write it, it holds no key, or a line is wrong. The message names the line and never
            repeats what is on it, as that may be a key.
    """
    mode = f"{stat.S_IMODE(text.mode):04o}"
    if text.mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"the API keys' file {path} may be written by others (mode {mode}), who could add keys; chmod 600 {path}"
        )
    try:
        callers, plain = _parse(text.data.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the API keys' file {path} is no UTF-8 text (byte {error.start}); write it as text"
        ) from None
    warnings = []
    if plain and text.mode & stat.S_IROTH:
        warnings.append(
            f"the API keys' file {path} holds {plural(plain, 'key')} in clear, and every user of this machine may read "
            f"it (mode {mode}); chmod 600 {path}, or give the keys as sha256:..."
        )
    return Keys(callers, tuple(warnings))


def _parse(text: str, path: str | Path) -> tuple[dict[bytes, Caller], int]:
    """The callers by their keys' digests, and how many keys stand there in clear."""
    callers: dict[bytes, Caller] = {}
    roles: dict[str, Role] = {}
    plain = 0
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            digest, caller = _parse_entry(entry)
            if digest in callers:
                raise ValueError("has the same key as another line; leave one of them out")
            if roles.setdefault(caller.name, caller.role) is not caller.role:
                raise ValueError(f"gives '{caller.name}' another role than a line before; use another name")
        except ValueError as error:
            raise ConfigError(f"the API keys' file {path}, line {number}: {error}") from None
        callers[digest] = caller
        plain += not entry.split(":", 2)[2].strip().startswith(_DIGEST_PREFIX)
    if not callers:
        raise ConfigError(f"the API keys' file {path} holds no key; write lines of NAME:ROLE:KEY")
    if len(callers) > _MAX_KEYS:
        raise ConfigError(f"the API keys' file {path} holds {len(callers)} keys, and at most {_MAX_KEYS} are compared")
    return callers, plain


def _parse_entry(entry: str) -> tuple[bytes, Caller]:
    parts = [part.strip() for part in entry.split(":", 2)]
    if len(parts) < 3:
        raise ValueError("is not NAME:ROLE:KEY; comments begin with #")
    name, role, key = parts
    if not KEY_NAME.fullmatch(name):
        raise ValueError("has a name that is not 1 to 64 of letters, digits and ._-")
    if role not in {known.value for known in Role}:
        raise ValueError(f"'{name}' has a role that is neither {' nor '.join(known.value for known in Role)}")
    return _digest_of(name, key), Caller(name, Role(role))


def _digest_of(name: str, key: str) -> bytes:
    if key.startswith(_DIGEST_PREFIX):
        digest = key.removeprefix(_DIGEST_PREFIX).lower()
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"'{name}' has a digest that is not sha256: and 64 hexadecimal digits")
        return bytes.fromhex(digest)
    if len(key) < MIN_KEY_CHARACTERS:
        raise ValueError(f"'{name}' has a key of {plural(len(key), 'character')}; use {MIN_KEY_CHARACTERS} or more")
    if not _KEY.fullmatch(key):
        raise ValueError(f"'{name}' has a key that is not 16 to 512 of letters, digits and -._~+/ (= only at its end)")
    return hashlib.sha256(key.encode()).digest()
