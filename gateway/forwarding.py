"""How a caller reaches the gateway: its public URL, or what a trusted proxy says, or the request's own host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from urllib.parse import urlsplit

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SCHEMES = frozenset({"http", "https"})
# RFC 3986 section 3.2.2: a name, an IPv4 address or a bracketed IPv6 address, and a port.
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?\Z")


def networks(addresses: Sequence[str]) -> tuple[Network, ...]:
    """Addresses or networks such as 10.1.0.0/16; raise ValueError for anything else."""
    return tuple(ipaddress.ip_network(address.strip(), strict=False) for address in addresses)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme and host of the URLs that a caller uses."""

    scheme: str
    host: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


class Forwarding:
    """Tells the origin that callers see.

    Parameters
    ----------
    public_url : the URL that everybody uses, empty if there is no such one.
    trusted : proxies whose `Forwarded` (RFC 7239) or `X-Forwarded-Proto` and `X-Forwarded-Host` headers are believed.
    """

    def __init__(self, public_url: str, trusted: Sequence[str]) -> None:
        parts = urlsplit(public_url)
        #: The path before every path of ours, as callers see it: empty, or such as `/isthmus` if a proxy strips that.
        self.prefix = parts.path.rstrip("/")
        self._public = Origin(parts.scheme, parts.netloc) if public_url else None
        # The same few peers ask for thousands of things.
        self._is_trusted = lru_cache(maxsize=1024)(partial(_is_within, networks(trusted)))

    def origin(self, request: web.Request) -> Origin:
        """The origin of a request, without what an untrusted peer claims or a malformed host."""
        if self._public is not None:
            return self._public
        scheme, host = request.scheme, request.host
        if self._is_trusted(request.remote):
            said_scheme, said_host = _said(request)
            scheme = said_scheme if said_scheme in _SCHEMES else scheme
            host = said_host if _HOST.match(said_host) else host
        return Origin(scheme, host if _HOST.match(host) else "localhost")

    def client(self, request: web.Request) -> str:
        """The address of who sent a request: the nearest one that is not a trusted proxy's."""
        address = request.remote or ""
        hops = [hop for several in request.headers.getall("X-Forwarded-For", ()) for hop in several.split(",")]
        while hops and self._is_trusted(address) and _is_address(hops[-1]):
            address = hops.pop().strip()
        return address


#: Of one application.
FORWARDING = web.AppKey("forwarding", Forwarding)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip())
    except ValueError:
        return False
    return True


def _is_within(trusted: Sequence[Network], peer: str | None) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    return any(address in network for network in trusted)


def _said(request: web.Request) -> tuple[str, str]:
    """What the outermost proxy says; `Forwarded` wins, since it is the standard."""
    forwarded: Sequence[Mapping[str, str]] = request.forwarded
    if forwarded:
        return forwarded[0].get("proto", "").lower(), forwarded[0].get("host", "")
    return _first(request, "X-Forwarded-Proto").lower(), _first(request, "X-Forwarded-Host")


def _first(request: web.Request, name: str) -> str:
    return request.headers.get(name, "").split(",")[0].strip()
