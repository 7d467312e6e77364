"""With what a model was made."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import roadseg

_PACKAGES = ("torch", "timm", "lightning", "albumentations", "opencv-python-headless", "numpy")


@cache
def software_versions() -> dict[str, str]:
    """Versions of roadseg and of the packages that shape a run, and roadseg's commit where it runs from git."""
    found = {"roadseg": roadseg.__version__, "commit": _commit()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _commit() -> str:
    """The commit of a source checkout, with a mark when files differ from it; "unknown" for an installed package."""
    source = Path(__file__).parents[1]
    if not (source / ".git").exists():
        return "unknown"
    try:
        return subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
