"""Scanning all frames in processes, in order, without ever holding more than a few chunks."""

import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from tempfile import NamedTemporaryFile

import cv2

from roadseg.audit.frame_scan import Chunk, ChunkFacts, FrameDefect, FrameScanner, Part
from roadseg.audit.mask_values import Defect
from roadseg.errors import ConfigError

CHUNK_FRAMES = 64
INLINE_FRAMES = 64
"""So few frames are read in this process: starting others takes longer."""

_CHUNKS_AHEAD = 3  # a worker

_scanner: FrameScanner | None = None  # of a worker process


def scan_frames(parts: Sequence[Part], workers: int) -> Iterator[ChunkFacts]:
    """Read every frame once.

    Args:
        parts: what to read.
        workers: number of processes.

    Yields:
        The facts, chunk by chunk, in the order of the parts and frames.

    Raises:
        ConfigError: when no process can be started.
    """
    chunks = [
        Chunk(i, start, min(start + CHUNK_FRAMES, len(part.frames)))
        for i, part in enumerate(parts)
        for start in range(0, len(part.frames), CHUNK_FRAMES)
    ]
    if workers <= 1 or sum(len(part.frames) for part in parts) <= INLINE_FRAMES:
        yield from map(FrameScanner(parts), chunks)
        return
    # By way of a file: multiprocessing hands arguments over in a pipe, and waits for ever when there are more than fit
    # and the new process ends before it reads them.
    with NamedTemporaryFile(prefix="roadseg-audit-", suffix=".pickle") as file:
        pickle.dump(tuple(parts), file)
        file.flush()
        yield from _scan_apart(file.name, deque(chunks), workers)


def _scan_apart(parts: str, waiting: deque[Chunk], workers: int) -> Iterator[ChunkFacts]:
    while waiting:
        try:
            yield from _in_processes(parts, waiting, workers)
        except BrokenProcessPool:  # a decoder crashed, or memory ran out: which frame it was is found one by one
            _check_that_processes_start(parts)
            for _ in range(min(len(waiting), _CHUNKS_AHEAD * workers)):
                yield _one_by_one(parts, waiting.popleft())


def _in_processes(parts: str, waiting: deque[Chunk], workers: int) -> Iterator[ChunkFacts]:
    """Facts of the waiting chunks, each taken off when its facts are there."""
    pool = _pool(parts, workers)
    running: deque[Future[ChunkFacts]] = deque()
    try:
        while waiting:
            while len(running) < min(len(waiting), _CHUNKS_AHEAD * workers):
                running.append(pool.submit(_scan_chunk, waiting[len(running)]))
            facts = running.popleft().result()
            waiting.popleft()
            yield facts
    finally:  # an interrupt, too, leaves no process behind
        pool.shutdown(wait=True, cancel_futures=True)


def _check_that_processes_start(parts: str) -> None:
    with _pool(parts, 1) as pool:
        try:
            pool.submit(_is_ready).result()
        except BrokenProcessPool as error:
            raise ConfigError(
                "the processes of the audit end before they begin: call it below `if __name__ == '__main__':` in a "
                "script, or set workers to 1"
            ) from error


def _one_by_one(parts: str, chunk: Chunk) -> ChunkFacts:
    """Facts of a chunk that may end the process which reads it."""
    facts = ChunkFacts.empty(chunk)
    pool = _pool(parts, 1)
    try:
        for index in range(chunk.start, chunk.stop):
            try:
                _copy(pool.submit(_scan_chunk, Chunk(chunk.part, index, index + 1)).result(), facts)
            except BrokenProcessPool:
                pool.shutdown(wait=True)
                pool = _pool(parts, 1)
                defect = Defect("unreadable-image", "reading the frame ended the process, or used up its memory")
                facts.defects.append(FrameDefect(index, "image", defect))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return facts


def _copy(single: ChunkFacts, facts: ChunkFacts) -> None:
    row = single.chunk.start - facts.chunk.start
    facts.thumbs[row], facts.has_thumb[row], facts.sizes[row] = single.thumbs[0], single.has_thumb[0], single.sizes[0]
    facts.tally.merge(single.tally)
    facts.defects += single.defects
    facts.binary += single.binary


def _pool(parts: str, workers: int) -> ProcessPoolExecutor:
    # Spawned: forking a process that holds threads, as one with torch or a progress bar does, may deadlock.
    return ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (parts,))


def _start_worker(parts: str) -> None:
    global _scanner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    cv2.setNumThreads(1)
    with open(parts, "rb") as file:
        _scanner = FrameScanner(pickle.load(file))


def _is_ready() -> bool:
    return _scanner is not None


def _scan_chunk(chunk: Chunk) -> ChunkFacts:
    scanner: Callable[[Chunk], ChunkFacts] | None = _scanner
    if scanner is None:
        raise RuntimeError("the worker process was not started by this module")
    return scanner(chunk)
