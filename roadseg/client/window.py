"""Doing many things, a bounded number at a time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Generic, TypeVar

from roadseg.errors import ConfigError

Task = TypeVar("Task")
Result = TypeVar("Result")


def checked_concurrency(concurrency: int) -> int:
    """The same number.

    Raises:
        ConfigError: when it is none from 1.
    """
    if type(concurrency) is not int or concurrency < 1:
        raise ConfigError(f"concurrency is {concurrency!r}; use a whole number from 1")
    return concurrency


class Window(Generic[Task, Result]):
    """Calls a function in threads. Tasks are taken when there is a thread for them, and no earlier.

    Args:
        work: what to call, with one task.
        concurrency: threads, and so many tasks are held whose results were not taken.
        stop: once it is set nothing new is begun; it is set at the end, too, so that work may see that it is no longer
            wanted.

    Raises:
        ConfigError: when the concurrency is no number from 1.
    """

    def __init__(self, work: Callable[[Task], Result], concurrency: int, stop: threading.Event) -> None:
        self._work = work
        self._concurrency = checked_concurrency(concurrency)
        self._stop = stop
        self._threads = ThreadPoolExecutor(concurrency, "roadseg-client")
        self._held: dict[Future[Result], Task] = {}

    def __enter__(self) -> "Window[Task, Result]":
        """End with the `with` block."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Wait for what is under way."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def finished(self, tasks: Iterator[Task]) -> Iterator[Future[Result]]:
        """Futures in the order in which they are done; each must be taken before the next is asked for."""
        while True:
            room = 0 if self._stop.is_set() else self._concurrency - len(self._held)
            for task in islice(tasks, room):
                self._held[self._threads.submit(self._work, task)] = task
            if not self._held:
                return
            yield from wait(self._held, return_when=FIRST_COMPLETED).done

    def rest(self) -> Iterator[Future[Result]]:
        """What is under way, when it is done, with nothing new begun; waits of the work end."""
        self._stop.set()
        yield from wait(list(self._held)).done

    def take(self, future: Future[Result]) -> Task:
        """The task of a future, which is held no longer."""
        return self._held.pop(future)

    def each(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Future[Result]]]:
        """Tasks with their futures, in the order in which they are done."""
        for future in self.finished(tasks):
            yield self.take(future), future
