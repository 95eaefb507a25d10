"""The client's address: the socket's peer, or what a trusted proxy reports.

Only what trusted proxies wrote can be believed: hops are read from the right, and the first that is not a trusted proxy
is the client. If it is unreadable, the client is unknown, never the proxy itself, which may have more rights.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice

from werkzeug.datastructures import Headers

from addresses import IPNetwork
from api.request_scope import UNKNOWN_PEER

MOST_HOPS = 32
LONGEST_TEXT = 100
WHOLE_PAIR = re.compile(r'[^"\\]*(?:"[^"\\]*")?')  # of `Forwarded`: not cut within a quoted value

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(remote: str | None, headers: Headers, trusted: Sequence[IPNetwork]) -> str:
    """The nearest hop that is not a trusted proxy, as text, or `UNKNOWN_PEER`. remote: the socket's peer.

    A proxy sets one of the two headers and passes the other on as received, so if both are present they must agree.
    """
    socket_peer = _address(remote or "")
    if socket_peer is None or not _is_in(socket_peer, trusted):
        return _shown(socket_peer)
    chains = [
        _elements(headers, "X-Forwarded-For"),
        [_forwarded_for(element) for element in _elements(headers, "Forwarded")],
    ]
    found = {_nearest(chain, trusted) for chain in chains if chain}
    if not found:
        return _shown(socket_peer)
    return _shown(found.pop()) if len(found) == 1 else UNKNOWN_PEER


def _elements(headers: Headers, name: str) -> list[str]:
    """The nearest elements of all lines, right-most first, one more of them than MOST_HOPS.

    A comma inside quotes separates too: no address contains one. `_forwarded_for` notices it.
    """
    lines = headers.getlist(name)
    nearest = islice(reversed(",".join(lines).split(",")), MOST_HOPS + 1)
    return list(nearest) if lines else []


def _forwarded_for(element: str) -> str:
    """The `for` parameter of a `Forwarded` element (RFC 7239) as sent, or an empty text, which is no address either.

    Likewise if the element was cut in quotes, or has two: a proxy may quote the caller's own Host, `a;for=10.0.0.1`.
    """
    pairs = [pair.strip() for pair in element.split(";")]
    parted = (pair.partition("=") for pair in pairs)
    found = [value for name, _, value in parted if name.strip().lower() == "for"]
    return found[0] if len(found) == 1 and all(map(WHOLE_PAIR.fullmatch, pairs)) else ""


def _nearest(hops: Iterable[str], trusted: Sequence[IPNetwork]) -> IPAddress | None:
    """hops: the nearest first. If all are trusted, the farthest is the client."""
    farthest = None
    for number, hop in enumerate(hops):
        farthest = _address(hop)
        if farthest is None or number == MOST_HOPS:
            return None
        if not _is_in(farthest, trusted):
            return farthest
    return farthest


def _address(text: str) -> IPAddress | None:
    return _read(text) if len(text) <= LONGEST_TEXT else None


@lru_cache(maxsize=1024)  # peers recur
def _read(text: str) -> IPAddress | None:
    """The address without blanks and quotes around it, port, brackets and zone; IPv4-mapped IPv6 is IPv4."""
    bare = text.strip().strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_in(address: IPAddress, networks: Sequence[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def _shown(address: IPAddress | None) -> str:
    return UNKNOWN_PEER if address is None else str(address)
