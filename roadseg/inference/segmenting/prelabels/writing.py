"""Writing a file of pre-labels from the masks of a run."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from roadseg.errors import DataError, OutputError
from roadseg.inference.segmenting.frame import unfinished, write
from roadseg.inference.segmenting.jobs import FileJob
from roadseg.inference.segmenting.manifest import Row
from roadseg.inference.segmenting.prelabels.coco import CocoFile
from roadseg.inference.segmenting.prelabels.cvat import CvatFile
from roadseg.inference.segmenting.prelabels.format import Format, Header, LabelledImage
from roadseg.inference.segmenting.prelabels.label_studio import LabelStudioFile, labelling_interface
from roadseg.inference.segmenting.shards import Shard

FORMATS: Mapping[str, type[Format]] = {"cvat": CvatFile, "labelstudio": LabelStudioFile, "coco": CocoFile}
"""By the name that the user gives."""


def write_prelabels(
    name: str,
    header: Header,
    frames: Iterable[tuple[FileJob, Row]],
    output: Path,
    *,
    shard: Shard | None = None,
    workers: int = 2,
) -> Path:
    """Write the masks of a run as one file for a labelling tool; the same masks give the same file.

    Masks are read back from their files, so that a run that was interrupted gives the whole all the same. A few are in
    memory at a time.

    Args:
        name: of the format, see `FORMATS`.
        header: what all images have in common.
        frames: jobs and their rows in the manifest, in the order of the file.
        output: the folder.
        shard: whose name the file bears.
        workers: threads that read and encode masks.

    Returns:
        Where the file lies.

    Raises:
        DataError: when a mask cannot be read.
        OutputError: when the file cannot be written.
    """
    kind = FORMATS[name]
    path = output / (shard.file_name(kind.file_name) if shard else kind.file_name)
    temporary = unfinished(path)
    try:
        try:
            with temporary.open("wb") as file, ThreadPoolExecutor(workers, "encode") as threads:
                document = kind(file, header)
                for labelled, encoded in _encoded(document, frames, threads, 2 * workers):
                    document.add(labelled, encoded)
                document.close()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another place or make room"
        ) from error
    if name == "labelstudio":
        write(path.with_suffix(".xml"), labelling_interface(header).encode())
    return path


def _encoded(
    document: Format, frames: Iterable[tuple[FileJob, Row]], threads: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[LabelledImage, Any]]:
    waiting: deque[Future[tuple[LabelledImage, Any]]] = deque()
    for job, row in frames:
        waiting.append(threads.submit(_encode, document, job, row))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _encode(document: Format, job: FileJob, row: Row) -> tuple[LabelledImage, Any]:
    try:
        with Image.open(job.mask) as picture:
            mask = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot read the mask {job.mask}: {error}; segment again with --resume") from error
    labelled = LabelledImage(job.relative, mask, row.get("mean_confidence"))
    return labelled, document.encode(labelled)
