"""Choosing an answer's media type from the Accept header (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from starlette.datastructures import Headers

from roadseg_service.problems import NOT_ACCEPTABLE, ProblemError
from roadseg_service.text import shortened

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_RANGE = re.compile(rf"({_TOKEN})/({_TOKEN})")
_QUALITY = re.compile(r"[01]?(?:\.\d{0,3})?")


class MediaRange(NamedTuple):
    """One element of an Accept header, in lower case; `*` stands for any."""

    type: str
    subtype: str
    quality: float

    @property
    def specificity(self) -> int:
        """0 for `*/*`, 1 for `image/*`, 2 for `image/png`."""
        return (self.type != "*") + (self.subtype != "*")

    def matches(self, media_type: str) -> bool:
        """Whether the range holds a media type without parameters."""
        kind, _, subtype = media_type.partition("/")
        return self.type in {"*", kind} and self.subtype in {"*", subtype}


def choose_media_type(accept: str, offered: Sequence[str]) -> str | None:
    """Choose what to answer with.

    The highest quality wins. At equal quality a type that is named wins over one that a wildcard holds, so that the
    usual `application/json, text/plain, */*` of JavaScript clients gets JSON; then the order of `offered` decides.

    Args:
        accept: the header's value; empty stands for `*/*`. Elements that are not media ranges are skipped, parameters
            other than q are ignored.
        offered: media types, the preferred one first.

    Returns:
        One of `offered`, or None when none is acceptable.
    """
    if not accept.strip():
        return offered[0]
    ranges = [parsed for element in accept.split(",") if (parsed := _parse(element))]
    ranked = [(*_rank(ranges, media_type), -position) for position, media_type in enumerate(offered)]
    best = max(ranked)
    return offered[-best[2]] if best[0] > 0 else None


def _rank(ranges: Sequence[MediaRange], media_type: str) -> tuple[float, int]:
    """Quality and specificity of the most specific range that holds the type; (0, 0) when none does."""
    held_by = [(r.specificity, r.quality) for r in ranges if r.matches(media_type)]
    specificity, quality = max(held_by, default=(0, 0.0))
    return quality, specificity


def _parse(element: str) -> MediaRange | None:
    media, *parameters = (part.strip().lower() for part in element.split(";"))
    found = _MEDIA_RANGE.fullmatch("*/*" if media == "*" else media)
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            if value in {"", "."} or not _QUALITY.fullmatch(value) or float(value) > 1:
                return None
            quality = float(value)
    if found is None or (found[1] == "*" and found[2] != "*"):
        return None
    return MediaRange(found[1], found[2], quality)


def negotiate(
    headers: Headers, offered: Sequence[str], because: str = "", elsewhere: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The media type of the answer to a request.

    Args:
        headers: of the request.
        offered: media types, the preferred one first.
        because: why it is only these, if anything but the resource itself decides it.
        elsewhere: further media types, and the parameter that they are had with.

    Raises:
        ProblemError: not-acceptable.
    """
    accept = ", ".join(headers.getlist("accept"))
    media_type = choose_media_type(accept, offered)
    if media_type is None:
        fix = "accept " + ("one of these" if len(offered) > 1 else "that")
        if elsewhere and (other := choose_media_type(accept, list(elsewhere))):
            fix += f", or ask for {other} with {elsewhere[other]}"
        raise ProblemError(
            NOT_ACCEPTABLE,
            f"Accept is '{shortened(accept, 200)}', but the answer{because} can only be {' or '.join(offered)}; {fix}",
            {"Vary": "Accept"},
        )
    return media_type
