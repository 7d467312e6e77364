"""Addresses and host names, as settings and requests write them."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_PORT = re.compile(r"(.*?)(?::\d{0,5})?", re.DOTALL)

LOCALHOST = "localhost"

_WIDEST_PREFIX = {4: 8, 6: 7}
"""Of the largest networks that are anybody's own: 10.0.0.0/8 and fc00::/7."""


def address_in(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a text is, None where it is none; an IPv4 address written as IPv6 is the IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on a host: an address of the loopback, or `localhost`.

    Any other name is taken for one that others reach, whatever it resolves to today.
    """
    address = address_in(host)
    return host.lower() == LOCALHOST if address is None else address.is_loopback


def is_name(text: str) -> bool:
    """Whether a text is a host name in lower case (in its ASCII form where it is international)."""
    return _NAME.fullmatch(text) is not None


def host_of(authority: str) -> str:
    """The host of a `host:port` as in the Host header, in lower case, without brackets and the dot of a full name."""
    found = _PORT.fullmatch(authority.strip().lower())
    host = found[1] if found else ""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host.removesuffix(".")


def check_hosts(names: Sequence[str]) -> None:
    """Refuse what is no host name.

    Raises:
        ValueError: for the first one that is none.
    """
    for name in names:
        if not is_name(name):
            raise ValueError(
                f"'{name}' is no host name; write each as in roadseg.example.org: in lower case, without scheme, port "
                "and path (addresses are always allowed)"
            )


def check_proxies(proxies: Sequence[str]) -> None:
    """Refuse what is neither an IP address nor a network.

    Raises:
        ValueError: for the first one that is neither.
    """
    for proxy in proxies:
        try:
            ip_network(proxy)
        except ValueError as error:
            raise ValueError(f"'{proxy}' is no address or network, such as 10.1.2.3 or 10.1.0.0/16 ({error})") from None


def proxy_warnings(proxies: Sequence[str]) -> list[str]:
    """Warnings of networks of proxies that are so large that clients are in them, too."""
    return [
        f"trusted_proxies holds {proxy}: whoever calls from there is believed about the client's address, so that "
        "clients who are in it choose their own, and escape limits; name the proxies alone"
        for proxy in proxies
        if (network := ip_network(proxy)).prefixlen < _WIDEST_PREFIX[network.version]
    ]
