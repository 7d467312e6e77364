"""Text from outside that goes into answers."""


def encodable(text: str) -> str:
    """Text that UTF-8 can hold.

    The JSON in a model file can say half of a surrogate pair; an answer that repeated it could not be sent at all.
    """
    return text.encode("utf-8", "replace").decode("utf-8")
