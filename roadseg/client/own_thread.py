"""Work of a thread that a coroutine waits for, to its end even when it is cancelled."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")


async def in_own_thread(work: Callable[[threading.Event], Value]) -> Value:
    """Call a function in a thread of its own.

    Args:
        work: is given an event, which is set when the caller is cancelled: what is under way may be finished then, and
            nothing more begun. The caller ends when that is done.
    """
    stop = threading.Event()
    # Not asyncio's threads: those are few, and the work waits for what they do.
    threads = ThreadPoolExecutor(1, "roadseg-client-run")
    running = asyncio.get_running_loop().run_in_executor(threads, work, stop)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
                stop.set()
        if cancelled is not None:
            raise cancelled from running.exception()
        return running.result()
    finally:
        stop.set()
        threads.shutdown(wait=False)
