"""SIGHUP: load the configured model again."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from roadseg_service.models.loading import ModelLoader


def ignore_hangups() -> None:
    """Let SIGHUP not end the process, from its start to its end."""
    if _may_handle():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def reload_on_hangup(loader: ModelLoader) -> Iterator[None]:
    """Load the configured model again at each SIGHUP inside; where there is no such signal, or in a thread, do nothing.

    The event loop calls the loader, not the signal's handler: that could interrupt whatever holds a lock.
    """
    if not _may_handle():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, loader.reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        ignore_hangups()  # the loop left the default behind, and what is left to do is not to be cut short


def _may_handle() -> bool:
    return hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
