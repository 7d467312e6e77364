"""Types of command-line arguments, for argparse; it shows their errors beside the option's name, and ends with 2."""

import argparse


def whole_from_1(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def whole_from_0(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def wholes_from_1(text: str) -> list[int]:
    """Whole numbers of at least 1, with commas between, each once."""
    return list(dict.fromkeys(map(whole_from_1, name_list(text))))


def name_list(text: str) -> list[str]:
    """Names with commas between, each once.

    Raises:
        ArgumentTypeError: when there is none.
    """
    found = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}'; give at least one, with commas between")
    return found


def _at_least(least: int, text: str) -> int:
    # int() alone would take "1_000", " 7" and digits of other scripts
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}'; use a whole number of at least {least}")
    return int(text)
