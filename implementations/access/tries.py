"""How often one address may show a wrong key."""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Hashable

from protocols import ClockProtocol

MOST_FAILURES = 5
WINDOW_S = 60.0
MOST_PEERS = 1000
IPV6_SITE_BITS = 64


class WrongKeys:
    """Five in any minute. An IPv6 address counts as its /64: whoever has one address of it has them all.

    clock: monotonic seconds. Of a thousand addresses something is known; who failed longest ago is forgotten first.
    """

    def __init__(self, *, clock: ClockProtocol) -> None:
        self._clock = clock
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until one is looked at again, 0 for now. A right one forgives nothing."""
        failures = self._failures.get(_site(address))
        if failures is None or len(failures) < MOST_FAILURES:
            return 0.0
        return max(0.0, failures[0] + WINDOW_S - self._clock())

    def remember(self, address: str) -> None:
        """One more was wrong."""
        site = _site(address)
        self._failures.setdefault(site, deque(maxlen=MOST_FAILURES)).append(self._clock())
        self._failures.move_to_end(site)
        if len(self._failures) > MOST_PEERS:
            self._failures.popitem(last=False)


def _site(address: str) -> Hashable:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return known
    return ipaddress.ip_network((known, IPV6_SITE_BITS), strict=False)
