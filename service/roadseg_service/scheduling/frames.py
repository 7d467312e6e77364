"""What a handled error keeps alive."""

import traceback


def forget_frames(error: BaseException) -> None:
    """Drop the local variables that an error and its causes hold; where it was raised can still be printed.

    An error holds the frames that it passed, and with them images, bodies and often itself: a circle, which lives until
    Python looks for such circles, some hundred failing requests later.

    Args:
        error: caught, by a frame that is not the one that raised it.
    """
    errors: list[BaseException | None] = [error]
    seen: set[int] = set()
    while errors:
        one = errors.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)  # passes over frames that still run
        errors += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            errors += one.exceptions
