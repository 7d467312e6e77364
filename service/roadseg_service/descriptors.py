"""The system's limit of open files, of which each connection is one."""

from contextlib import suppress

from roadseg.errors import ConfigError

RESERVED = 256
"""Kept for all else: connections that are being closed, the model's files, the devices, the log, the traces."""


def raise_limit(connections: int) -> int:
    """Raise the process' limit of open files as far as these connections need, and as it may.

    Args:
        connections: how many are to be open at once.

    Returns:
        How many of them the limit allows.

    Raises:
        ConfigError: when it allows none.
    """
    try:
        import resource
    except ImportError:  # there is no such limit
        return connections
    needed = connections + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # a system may have a lower limit than it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    if soft <= RESERVED:
        raise ConfigError(f"the limit of open files is {soft}; it must be more than {RESERVED}: raise it (ulimit -n)")
    return soft - RESERVED
