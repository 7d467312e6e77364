"""Names of files in records: any file name, readable, and exact."""

import base64
import os
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any


def name_fields(key: str, name: str) -> dict[str, str]:
    r"""A file name as fields of a JSON record.

    Names on disk are bytes, and need not be UTF-8. One that is not is shown with its bytes written out, such as
    `caf\xe9.jpg`, and given exactly, in base64, beside that.

    Args:
        key: of the readable name; the exact one, where it is needed, has "_base64" behind it.
        name: as Python gives it: bytes that are no UTF-8 are lone surrogates.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        exact = os.fsencode(name)
        return {key: readable(name), f"{key}_base64": base64.b64encode(exact).decode()}
    return {key: name}


def name_from(record: Mapping[str, Any], key: str) -> str:
    """The name that `name_fields` was given.

    Raises:
        KeyError: when the record has none.
        ValueError: when it is no base64.
    """
    exact = record.get(f"{key}_base64")
    return str(record[key]) if exact is None else os.fsdecode(base64.b64decode(exact, validate=True))


def readable(name: str) -> str:
    """A name as text that UTF-8 can say; bytes that are no text are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def folders_above(name: str) -> Iterator[str]:
    """The folders that a file of this relative name lies in, the innermost first: "a/b/c.png" lies in "a/b" and "a"."""
    while folder := name.rpartition("/")[0]:
        yield folder
        name = folder


def number(index: int) -> str:
    """A frame of a video in file names."""
    return f"{index:06d}"


def unfinished_video(name: str) -> str:
    """Where masks of a video lie until they are whole: beside `name`, its file or the folder of its frames."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}.part.{last}"


def one_case(name: str) -> str:
    """The same for names that a file system without upper and lower case takes for one."""
    return unicodedata.normalize("NFC", name).casefold()
