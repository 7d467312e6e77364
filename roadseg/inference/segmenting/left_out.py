"""Images and videos of searched folders that are left out because of their endings, so that no one misses them."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from roadseg.images import IMAGE_SUFFIXES
from roadseg.walking import walk_files

OTHER_IMAGES = frozenset(
    {
        *(".apng", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".j2k"),
        *(".jfif", ".jp2", ".jpe", ".jxl", ".nef", ".orf", ".pbm", ".pgm", ".pnm", ".ppm", ".raf", ".raw", ".rw2"),
        *(".tga", ".tif", ".tiff"),
    }
)
"""File endings of images that are not decoded here, or not looked for, in lower case."""


def tell_left_out(sources: Iterable[Path], output: Path, videos: Collection[str]) -> str:
    """Say what folders hold beside the images that are segmented; goes through them.

    Args:
        sources: files and folders; files are named, so nothing of them is left out.
        output: a folder that is passed over.
        videos: endings of the videos that are not segmented, in lower case.

    Returns:
        A line such as "left out: 12 .tif (only .jpeg, ... are read: convert them)", empty when nothing is left out.
    """
    counts: Counter[str] = Counter()
    skip = {os.path.realpath(output)}
    for source in sources:
        if source.is_dir():
            # Folders that cannot be listed are told of by the run itself.
            found = walk_files(source, OTHER_IMAGES | set(videos), skip=skip, unreadable=lambda below, error: None)
            counts.update(os.path.splitext(name)[1].lower() for name in found)
    readable = ", ".join(sorted(IMAGE_SUFFIXES))
    told = [
        _told(counts, OTHER_IMAGES, f"only {readable} are read: convert them"),
        _told(counts, videos, "--video mask or --video frames takes them"),
    ]
    return f"left out: {'; '.join(filter(None, told))}" if counts else ""


def _told(counts: Counter[str], endings: Collection[str], why: str) -> str:
    found = ", ".join(f"{count} {ending}" for ending, count in counts.most_common() if ending in endings)
    return f"{found} ({why})" if found else ""
