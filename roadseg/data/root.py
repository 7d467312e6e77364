"""Where datasets lie."""

import os
from pathlib import Path


def data_root(root: str | Path | None = None) -> Path:
    """The folder that holds one folder a dataset: `root` if given, else `$ROADSEG_DATA`, else `./data`."""
    return Path(root or os.environ.get("ROADSEG_DATA") or "data").expanduser()
