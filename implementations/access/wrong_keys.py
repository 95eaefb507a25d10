"""Counts and logs refusals at one door, and limits how often one address may send a wrong key."""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping

import structlog

from api_models import AccessRefusal, Door
from metrics import Metrics
from protocols import ClockProtocol

MOST_FAILURES = 5
WINDOW_S = 60.0
MOST_PEERS = 1000
IPV6_SITE_BITS = 64
LOGGED: Mapping[Door, str] = {Door.ADMIN: "admin_refused", Door.CALLER: "caller_refused"}

log = structlog.get_logger("access")


class WrongKeys:
    """Five per sliding minute. An IPv6 address counts as its /64, because one client usually holds all of it.

    clock: monotonic seconds. Tracks a thousand addresses; the one whose last failure is oldest is evicted first.
    """

    def __init__(self, door: Door, *, metrics: Metrics, clock: ClockProtocol) -> None:
        self._door = door
        self._metrics = metrics
        self._clock = clock
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until a key from the address is checked again, 0 for now. A right key does not reset the count."""
        failures = self._failures.get(_site(address))
        if failures is None or len(failures) < MOST_FAILURES:
            return 0.0
        return max(0.0, failures[0] + WINDOW_S - self._clock())

    def refused(self, reason: AccessRefusal, address: str) -> None:
        """Count every refusal; log attempts, at most five a minute per address. A missing key is not an attempt."""
        self._metrics.access_refusals.of(self._door, reason).inc()
        if reason is not AccessRefusal.NO_KEY and self.wait_s(address) == 0:
            self._remember(address)
            log.warning(LOGGED[self._door], reason=reason, peer=address)

    def _remember(self, address: str) -> None:
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
