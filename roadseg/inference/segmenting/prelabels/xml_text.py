"""Any text in XML, which cannot say all characters even when they are escaped."""

from xml.sax.saxutils import escape, quoteattr


def element(text: str) -> str:
    r"""A text as what an element holds; what XML cannot say is written out, such as `\x01`."""
    return escape(_valid(text), {"\r": "&#13;"})  # readers take a bare one for the end of a line


def attribute(text: str) -> str:
    """A text as an attribute's value, quotes included; what XML cannot say is written out."""
    return quoteattr(_valid(text))


def _valid(text: str) -> str:
    return "".join(c if _is_valid(ord(c)) else f"\\x{ord(c):02x}" for c in text)


def _is_valid(code: int) -> bool:
    """Whether it is a Char of https://www.w3.org/TR/xml/#charsets."""
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
