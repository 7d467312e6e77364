"""Writing the log from a thread of its own: whoever reads it may be slow or stuck, and holds nobody up."""

import io
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

MAX_WAITING_CHARACTERS = 4_000_000
"""About ten thousand lines; further ones are lost until some are written."""

_LAST_WAIT_S = 1.0
_RETRY_S = 0.05


class LogWriter(logging.Handler):
    """Hands lines to a thread that writes them; what that cannot keep up with is lost, and counted.

    Lines are made where they are logged, as only there it is known for which request. `logging.shutdown`, which the end
    of a process calls, waits for a second for what is not written yet.

    Each counter below has one writer, so that they need no lock: `logging.Handler.lock` is held by those who log and by
    those who wait in `flush`.

    Args:
        stream: where to; of one with a file descriptor the buffer is not used, as its lock, held by a thread that is
            stuck, would keep the process from ending.
    """

    def __init__(self, stream: TextIO) -> None:
        """Start the thread."""
        super().__init__()
        self._encoding = stream.encoding or "utf-8"
        self._write = _write_to(stream, self._encoding)
        self._queue: SimpleQueue[str | threading.Event | None] = SimpleQueue()  # its `put` may interrupt itself
        self._taken_characters = 0
        self._done_characters = 0
        self._overflown = 0
        self._unwritable = 0
        self._told = 0
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    @property
    def lost(self) -> int:
        """How many lines were not written, as nobody read them fast enough, or nothing could be written at all."""
        return self._overflown + self._unwritable

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line over."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if self._taken_characters - self._done_characters + len(line) > MAX_WAITING_CHARACTERS:
            self._overflown += 1
            return
        self._taken_characters += len(line)
        self._queue.put(line)

    def flush(self) -> None:
        """Wait until all is written that was handed over, or a second is over."""
        written = threading.Event()
        self._queue.put(written)
        written.wait(_LAST_WAIT_S)

    def close(self) -> None:
        """Let the thread end once it has written all."""
        self._queue.put(None)
        super().close()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write_line(item)
            self._done_characters += len(item)
            if self._overflown > self._told:
                self._tell_lost()

    def _write_line(self, line: str) -> None:
        try:
            self._write(line.encode(self._encoding, "backslashreplace"))
        except (OSError, ValueError):  # nobody reads any more, the disk is full, or the stream is closed
            self._unwritable += 1

    def _tell_lost(self) -> None:
        lost = self._overflown
        message, args = "%d lines of the log were lost, as it was not read fast enough", (lost - self._told,)
        self._told = lost
        record = logging.LogRecord("roadseg.service", logging.WARNING, __file__, 0, message, args, None)
        self._write_line(self.format(record) + "\n")


def lost_lines() -> int:
    """How many lines of this process' log were lost."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, LogWriter))


def _write_to(stream: TextIO, encoding: str) -> Callable[[bytes], None]:
    """What writes all of some bytes to a stream, however long that takes."""
    try:
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
    except OSError:  # it is in memory

        def write_in_memory(data: bytes) -> None:
            stream.write(data.decode(encoding))
            stream.flush()

        return write_in_memory

    def write(data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = raw.write(left)
            if not written:  # somebody made it non-blocking
                time.sleep(_RETRY_S)
            left = left[written or 0 :]

    return write
