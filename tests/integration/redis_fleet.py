"""Several real Redis servers that replace a primary which dies: watched by Sentinels, or as a Cluster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.integration.redis_server import PASSWORD, RedisServer, redis_server
from tests.integration.service_process import free_port, wait_until

PRIMARY = "essays"
SENTINEL_PASSWORD = "kanarienvogel-sentinel"  # noqa: S105  it opens what lives for one test
SILENT_MS = "700"  # after which a server counts as dead
BOUNDS = 0, 5_461, 10_923, 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """url: as a setting has it; primary and replica: of our keys; others: Sentinels, or primaries of other keys."""

    url: str
    primary: RedisServer
    replica: RedisServer
    others: tuple[RedisServer, ...]


@contextmanager
def watched(directory: Path) -> Iterator[Fleet]:
    """A primary and its replica under three Sentinels."""
    own = "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(directory, *own, password=PASSWORD))
        copies = "--replicaof", "127.0.0.1", str(primary.port)
        replica = stack.enter_context(redis_server(directory, *own, *copies, password=PASSWORD))
        wait_until(lambda: b"state=online" in primary.ask("INFO", "replication"))
        sentinels = tuple(stack.enter_context(_sentinel(directory, number, primary)) for number in range(3))
        known = b"slaves=1,sentinels=3"
        wait_until(lambda: all(known in sentinel.ask("INFO", "sentinel") for sentinel in sentinels))
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        url = f"redis+sentinel://:{PASSWORD}@{hosts}/{PRIMARY}/0"
        yield Fleet(url=url, primary=primary, replica=replica, others=sentinels)


@contextmanager
def _sentinel(directory: Path, number: int, primary: RedisServer) -> Iterator[RedisServer]:
    file = directory / f"sentinel-{number}.conf"
    file.write_text(
        f"sentinel monitor {PRIMARY} 127.0.0.1 {primary.port} 2\n"
        f"sentinel auth-pass {PRIMARY} {PASSWORD}\n"
        f"sentinel down-after-milliseconds {PRIMARY} {SILENT_MS}\n"
        f"sentinel failover-timeout {PRIMARY} 3000\n"
    )
    with redis_server(directory, "--sentinel", password=SENTINEL_PASSWORD, file=file) as sentinel:
        yield sentinel


@contextmanager
def clustered(directory: Path) -> Iterator[Fleet]:
    """Three primaries, and a replica of the one that holds the slot of our keys, which is the second."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(4)]
        nodes = [stack.enter_context(_node(directory, bus)) for bus in buses]
        for node, (first, last) in zip(nodes, pairwise(BOUNDS), strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last - 1))
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        wait_until(lambda: all(b"cluster_known_nodes:4" in node.ask("CLUSTER", "INFO") for node in nodes))
        primary, replica = nodes[1], nodes[3]
        name = primary.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()
        wait_until(lambda: replica.ask("CLUSTER", "REPLICATE", name) == b"+OK\r\n")
        wait_until(lambda: b"state=online" in primary.ask("INFO", "replication"))
        wait_until(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        url = f"redis+cluster://{hosts}"
        yield Fleet(url=url, primary=primary, replica=replica, others=(nodes[0], nodes[2]))


@contextmanager
def _node(directory: Path, bus: int) -> Iterator[RedisServer]:
    own = "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-config-file", f"nodes-{bus}.conf"
    with redis_server(directory, *own, "--cluster-node-timeout", SILENT_MS, "--repl-diskless-sync-delay", "0") as node:
        yield node
