"""How often one address may show a wrong key."""

import ipaddress
from collections.abc import Hashable

from implementations.resilience.failed_tries import FailedTries
from protocols import ClockProtocol

MOST_FAILURES = 5
WINDOW_S = 60.0
MOST_PEERS = 1000
IPV6_SITE_BITS = 64


class WrongKeys:
    """Five a minute. An IPv6 address counts as its /64: whoever has one address of it has them all."""

    def __init__(self, *, clock: ClockProtocol) -> None:
        self._tries = FailedTries(most=MOST_FAILURES, window_s=WINDOW_S, remembered=MOST_PEERS, clock=clock)

    def wait_s(self, address: str) -> float:
        """Seconds until one is looked at again, 0 for now."""
        return self._tries.wait_s(_site(address))

    def remember(self, address: str) -> None:
        """One more was wrong."""
        self._tries.remember(_site(address))


def _site(address: str) -> Hashable:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return known
    return ipaddress.ip_network((known, IPV6_SITE_BITS), strict=False)
