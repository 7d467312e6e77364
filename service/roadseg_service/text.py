"""Text from outside that goes into answers and logs."""

QUOTED_CHARACTERS = 80


def encodable(text: str) -> str:
    """Text that UTF-8 can hold.

    The JSON in a model file can say half of a surrogate pair; an answer that repeated it could not be sent at all.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def shortened(text: str, most: int = QUOTED_CHARACTERS) -> str:
    """Text as answers and logs quote it: what is longer than `most` characters is cut there, and ends with dots."""
    return text if len(text) <= most else text[:most] + "..."
