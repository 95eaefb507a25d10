"""Where the primary is: its Sentinels know, or the nodes of its Cluster.

Any of them may be away, hang, or not have heard of a failover yet. So all are asked at once, and whoever knows the
latest epoch is believed.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import structlog
from redis.crc import key_slot
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import ResponseError

from addresses import RedisAddress
from implementations.resilience.stalls import within
from implementations.shared_state.connections import Address, Command, Connections, ConnectionsProtocol
from implementations.shared_state.faults import Fault, fault_of
from implementations.shared_state.lateness import SLOW_S
from metrics import Metrics

Testimony = tuple[int, Address]  # epoch first, so that they sort by it
NO_ADDRESS = None, b"", b"?"  # of a node that announces none: as configured, not yet met by another, or no host name

log = structlog.get_logger("redis")


class Primary:
    """witnesses: one connection to each; read: the epoch and the address in their replies to the commands."""

    def __init__(
        self,
        witnesses: Sequence[ConnectionsProtocol],
        commands: Sequence[Command],
        read: Callable[[Any], Testimony],
        *,
        metrics: Metrics,
    ) -> None:
        self._witnesses = witnesses
        self._commands = commands
        self._read = read
        self._metrics = metrics
        self._known: Address | None = None
        self._was_told = True  # so that the first silence is logged

    @classmethod
    def of(cls, address: RedisAddress, *, prefix: str, metrics: Metrics) -> Self | None:
        """Of the address; None where that names it. prefix: of all keys, which has a hash tag at a Cluster."""
        if not address.witnesses:
            return None
        witnesses = [Connections(url, connections=1) for url in address.witnesses]
        if address.is_cluster:
            owner = partial(told_by_node, slot=key_slot(prefix.encode()))
            return cls(witnesses, [("CLUSTER", "NODES"), ("CLUSTER", "SLOTS")], owner, metrics=metrics)
        names = "GET-MASTER-ADDR-BY-NAME", "MASTER"
        commands = [("SENTINEL", name, address.primary or "") for name in names]
        return cls(witnesses, commands, told_by_sentinel, metrics=metrics)

    async def find(self) -> Address:
        """Host and port; the last ones if nobody knows any within SLOW_S. Raises ConnectionError if nobody ever did."""
        answers = await asyncio.gather(*map(self._ask, self._witnesses))
        told = [one for one in answers if not isinstance(one, Fault)]
        faults = [str(one) for one in answers if isinstance(one, Fault)]
        for fault in Fault:
            self._metrics.redis_witnesses_failing.of(fault).set(faults.count(fault))
        before, was_told = self._known, self._was_told
        self._was_told = bool(told)
        if told:
            self._known = max(told)[1]
            if self._known != before or not was_told:
                log.info("redis_primary", host=self._known[0], port=self._known[1], faults=faults)
        elif was_told:
            log.warning("redis_primary_unconfirmed", faults=faults)
        if self._known is None:
            raise NotConnectedError
        return self._known

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(witness.close() for witness in self._witnesses))

    async def _ask(self, witness: ConnectionsProtocol) -> Testimony | Fault:
        try:
            async with within(SLOW_S):
                replies = await witness.send(*self._commands)
            refusals = [reply for reply in replies if isinstance(reply, ResponseError)]
            return fault_of(refusals[0]) if refusals else self._read(replies)
        except Exception as error:  # noqa: BLE001  whatever a library makes of what comes; another one may know
            return fault_of(error)


def told_by_sentinel(replies: Any) -> Testimony:
    """Of its two replies. Raises ValueError, TypeError or LookupError if they are not what they should be."""
    (host, port), fields = replies
    known = dict(zip(fields[::2], fields[1::2], strict=True))
    return int(known[b"config-epoch"]), (host.decode(), int(port))


def told_by_node(replies: Any, *, slot: int) -> Testimony:
    """Of its two replies, for the owner of the slot: a node hears of an election's epoch before it hears who won.

    Raises likewise.
    """
    nodes, ranges = replies
    epochs = {fields[0]: fields[6] for fields in map(bytes.split, nodes.splitlines())}
    (host, port, name), *_ = (node[:3] for first, last, node, *_ in ranges if first <= slot <= last)
    if host in NO_ADDRESS:
        raise ValueError
    return int(epochs[name]), (host.decode(), int(port))
