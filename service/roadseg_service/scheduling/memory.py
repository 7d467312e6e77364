"""What happens when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager

from roadseg_service.problems import OUT_OF_MEMORY, ProblemError

RETRY_AFTER_S = 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or the device ran out; each runtime has its own class for the latter."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def out_of_memory(step: str) -> ProblemError:
    """The problem of a step that memory did not suffice for."""
    return ProblemError(
        OUT_OF_MEMORY,
        f"memory ran out while {step}; try again when the server is less busy, or send a smaller image",
        {"Retry-After": str(RETRY_AFTER_S)},
    )


@contextmanager
def memory_errors(step: str) -> Iterator[None]:
    """Turn a `MemoryError` inside into its problem."""
    try:
        yield
    except MemoryError as error:
        raise out_of_memory(step) from error
