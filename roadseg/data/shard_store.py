"""The files of a sharded dataset: in a folder, or on a web server behind a bounded cache on disk."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from roadseg.errors import ConfigError, DataError, name_missing_extra

_CHUNK = 1 << 20


class StoredFile(NamedTuple):
    """A file of a sharded dataset.

    Attributes:
        name: in the dataset's folder.
        size: in bytes.
        digest: SHA-256, in hexadecimal.
    """

    name: str
    size: int
    digest: str


class ShardStore(Protocol):
    """Where files are read from. Stores hold nothing open: they may be forked, pickled, and shared by threads.

    Attributes:
        folder: for messages, the folder in which the files are, or appear when they are read.
    """

    folder: Path

    def read(self, file: StoredFile, offset: int, length: int) -> bytes:
        """Bytes of a file.

        Raises:
            DataError: when the file cannot be had, or ends before.
        """
        ...

    def read_small(self, name: str) -> bytes:
        """A whole file of which size and digest are not known yet.

        Raises:
            DataError: when it cannot be had.
        """
        ...


def open_store(location: str | Path, cache: Path | None, cache_bytes: int) -> ShardStore:
    """The store of a folder, or of a file:, http: or https: URL of one.

    Args:
        location: the folder or its URL.
        cache: folder for what is fetched from a web server.
        cache_bytes: how much of it is kept there; files that were not read for longest go first.

    Raises:
        ConfigError: when the URL is of another kind, or a web server is named and no cache.
    """
    parts = urlsplit(str(location))
    if isinstance(location, Path) or len(parts.scheme) < 2:  # one letter is a drive
        return FolderStore(Path(location))
    if parts.scheme == "file":
        return FolderStore(Path(url2pathname(parts.path)))
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(f"shards at {location}: give a folder, or a URL that begins with https:, http: or file:")
    if cache is None:
        raise ConfigError(f"shards at {location} need a folder to be cached in; set cache")
    return WebStore(str(location), cache, cache_bytes)


class FolderStore:
    """Files in a folder.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, file: StoredFile, offset: int, length: int) -> bytes:
        """Bytes of a file; see `ShardStore`."""
        path = self.folder / file.name
        try:
            return _read_range(path, offset, length)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error

    def read_small(self, name: str) -> bytes:
        """A whole file; see `ShardStore`."""
        path = self.folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}; is this a folder of shards?") from error


class WebStore:
    """Files on a web server, fetched whole when first read, checked, and kept in a cache that processes share.

    A file is fetched once, however many workers ask for it. In the cache it is known by its digest: a dataset that
    was written anew is fetched anew, and several datasets may share a cache.

    Args:
        url: of the folder.
        cache: folder on a local disk.
        cache_bytes: bound on what is kept; files being fetched, one a worker at most, come on top.
    """

    def __init__(self, url: str, cache: Path, cache_bytes: int) -> None:
        self._url = url.rstrip("/")
        self._incoming = cache / "incoming"
        self._cache_bytes = cache_bytes
        self.folder = cache / "files"

    def read(self, file: StoredFile, offset: int, length: int) -> bytes:
        """Bytes of a file; see `ShardStore`.

        Raises:
            ConfigError: when the cache is too small for the file.
        """
        if file.size > self._cache_bytes:
            raise ConfigError(
                f"{self._url}/{file.name} has {file.size} bytes, and the cache keeps {self._cache_bytes}; raise "
                "cache_bytes"
            )
        path = self.folder / f"{file.digest[:16]}-{file.name}"
        try:
            while True:
                try:
                    os.utime(path)  # it is in use: others go first
                    return _read_range(path, offset, length)
                except FileNotFoundError:  # not fetched yet, or evicted by another process just now
                    self._fetch(file, path)
        except OSError as error:
            raise DataError(f"cannot cache {self._url}/{file.name} in {path}: {error.strerror or error}") from error

    def read_small(self, name: str) -> bytes:
        """A whole file, not cached; see `ShardStore`."""
        return b"".join(self._download(name))

    def _fetch(self, file: StoredFile, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        with (self._incoming / f"{path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when this process ends, however it ends
            if path.exists():
                return
            part = self._incoming / f"{path.name}.part"
            try:
                self._download_checked(file, part)
                self._make_room(file.size)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def _download_checked(self, file: StoredFile, part: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with part.open("wb") as written:
            for chunk in self._download(file.name):
                digest.update(chunk)
                size += written.write(chunk)
        if (size, digest.hexdigest()) != (file.size, file.digest):
            raise DataError(
                f"{self._url}/{file.name} is not the file that the index names: {size} bytes with SHA-256 "
                f"{digest.hexdigest()[:16]}... instead of {file.size} with {file.digest[:16]}...; upload the dataset "
                "again"
            )

    def _download(self, name: str) -> Iterator[bytes]:
        url = f"{self._url}/{name}"
        with name_missing_extra("reading shards from a URL"):
            from webdataset.gopen import gopen
        try:
            with gopen(url) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except FileNotFoundError as error:
            raise DataError(f"cannot fetch {url}: the program curl is not installed; install it") from error
        except OSError as error:  # curl says no more than an exit status
            raise DataError(f"cannot fetch {url}: {error}; check the address and the network") from error

    def _make_room(self, size: int) -> None:
        with name_missing_extra("reading shards from a URL"):
            from webdataset.cache import LRUCleanup
        LRUCleanup(str(self.folder), self._cache_bytes - size, keyfn=os.path.getmtime, interval=None).cleanup()


def _read_range(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) < length:
        raise DataError(f"{path} ends before byte {offset + length}: it was cut off; copy it again, or write it anew")
    return data
