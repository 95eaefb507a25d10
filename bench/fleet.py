"""Replicas behind HAProxy, with one Redis and one provider. What waits here runs in a thread beside the load."""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from bench.machine import version_of
from bench.processes import HOST, ROOT, Running
from bench.setups import Need, World, judged_by
from bench.stage import Stage
from tests.integration.dialects import OPENAI
from tests.integration.service_process import free_port

CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
CHECKED_S = 2.0  # by then HAProxy has looked at every replica
DRAINED_S = 1.0  # by then what it had given to a replica has arrived there


@dataclass(slots=True, kw_only=True)
class Replica:
    """One of them; its port stays its own. name: in HAProxy's configuration."""

    name: str
    port: int
    stage: Stage
    settings: Mapping[str, str]
    running: Running | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Wait until it is ready."""
        self.running = self._stack.enter_context(self.stage.service(self.settings, port=self.port))

    def stop(self) -> int:
        """Ask it to end, as an orchestrator does. Returns its exit code."""
        if self.running is None:
            raise RuntimeError("it was never started")
        code = self.running.stop()
        self.close()
        return code

    def close(self) -> None:
        """End it whatever it does."""
        self._stack.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """balancer: where callers ask."""

    world: World
    replicas: Sequence[Replica]
    balancer: Running
    control: Path

    def rss_mib(self) -> list[float]:
        """Of each replica."""
        return [replica.running.rss_mib() for replica in self.replicas if replica.running is not None]

    def redis_connections(self) -> int:
        """Of all replicas together."""
        with Redis.from_url(f"redis://{self.world.addresses[Need.REDIS]}") as redis:
            return int(redis.info("clients")["connected_clients"]) - 1

    def restart(self, replica: Replica, *, told_before: bool) -> int:
        """Replace one. told_before: the balancer drains it first. Returns the old one's exit code."""
        if told_before:
            self._set(replica, "drain")
            time.sleep(DRAINED_S)
        code = replica.stop()
        replica.start()
        if told_before:
            self._set(replica, "ready")
        time.sleep(CHECKED_S)
        return code

    def _set(self, replica: Replica, state: str) -> None:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.control))
            control.sendall(f"set server replicas/{replica.name} state {state}\n".encode())
            refused = control.recv(1000).strip()
        if refused:
            raise RuntimeError(refused.decode())


@contextmanager
def fleet_of(stage: Stage, count: int, *, delay_ms: float, settings: Mapping[str, str]) -> Iterator[Fleet]:
    """That many replicas with these settings, and a provider that takes delay_ms."""
    with ExitStack() as stack:
        world = stack.enter_context(stage.world(delay_ms=delay_ms, needs=(Need.REDIS,)))
        given = world.settled(judged_by(OPENAI, REDIS_URL="redis://$redis", **settings))
        replicas = [
            Replica(name=f"replica_{number}", port=free_port(), stage=stage, settings=given)
            for number in range(1, count + 1)
        ]
        for replica in replicas:
            stack.callback(replica.close)
            replica.start()
        control = stage.directory / "haproxy.sock"
        yield Fleet(
            world=world,
            replicas=replicas,
            balancer=stack.enter_context(_balancer(stage, replicas, control)),
            control=control,
        )


@contextmanager
def _balancer(stage: Stage, replicas: Sequence[Replica], control: Path) -> Iterator[Running]:
    port = free_port()
    addresses = {replica.name.upper(): f"{HOST}:{replica.port}" for replica in replicas}
    env = {"BIND": f"{HOST}:{port}", "ADMIN_SOCKET": str(control), **addresses}
    command = ("haproxy", "-f", str(CONFIG))
    stage.versions["HAProxy"] = version_of("haproxy", "-v")
    with stage.process("haproxy", command, port, env, core=stage.other_core) as balancer:
        time.sleep(CHECKED_S)
        yield balancer
