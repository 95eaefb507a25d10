"""Starts a setup: provider, Redis and Kafka on the load's core, the server on a core of its own."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from api_models import ProcessingEvent
from bench.machine import version_of
from bench.processes import HOST, Running, running
from bench.setups import Need, Setup, World
from tests.integration.dialects import OPENAI
from tests.integration.kafka_broker import broker
from tests.integration.redis_server import binary, redis_server
from tests.integration.service_process import environment, free_port, prefixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """server_core: that of what is measured; other_core: that of everything else. directory: takes logs.

    say: shows a line to people. versions: takes those of the servers that are needed.
    """

    server_core: int
    other_core: int
    directory: Path
    say: Callable[[str], None]
    versions: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def world(self, *, delay_ms: float = 0.0, sigma: float = 0.0, needs: Sequence[Need] = ()) -> Iterator[World]:
        """The provider, which takes delay_ms (sigma: log-normal spread), and what else is needed."""
        with ExitStack() as stack:
            port, silent_port = free_port(), free_port()
            options = (f"--delay-ms={delay_ms}", f"--sigma={sigma}")
            command = (sys.executable, "-m", "bench.upstream", str(port), str(silent_port), *options)
            provider = stack.enter_context(
                self.process("provider", command, port, {}, ready="/calls", core=self.other_core)
            )
            yield World(
                provider=provider,
                addresses={
                    "provider": provider.url,
                    "silence": f"{HOST}:{silent_port}",
                    **{need: stack.enter_context(self._need(need)) for need in needs},
                },
            )

    @contextmanager
    def server(self, setup: Setup, world: World) -> Iterator[Running]:
        """What is measured."""
        if setup.bare is not None:
            port = free_port()
            asks = (world.provider.url + OPENAI.ask_path,) if setup.bare == "passing on" else ()
            command = (sys.executable, "-m", "bench.bare", str(port), setup.bare, *asks)
            with self.process("bare", command, port, {}) as bare:
                yield bare
            return
        with self.service(world.settled(setup.settings)) as service:
            yield service

    @contextmanager
    def service(self, settings: Mapping[str, str], *, port: int | None = None) -> Iterator[Running]:
        """One replica. settings: without prefix."""
        port = port or free_port()
        given = {"HOST": HOST, "PORT": str(port), "ENVIRONMENT": "production", **settings}
        with self.process("service", (sys.executable, "app.py"), port, prefixed(**given)) as service:
            yield service

    @contextmanager
    def process(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        env: Mapping[str, str],
        *,
        ready: str = "/readyz",
        core: int | None = None,
    ) -> Iterator[Running]:
        """Any server, on the server's core if no other is given, with an environment of its own."""
        with running(
            command,
            core=self.server_core if core is None else core,
            port=port,
            ready=ready,
            log=self.directory / f"{name}-{port}.log",
            env=environment(env),
        ) as server:
            yield server

    @contextmanager
    def _need(self, need: Need) -> Iterator[str]:
        if need is Need.REDIS:
            self.versions["Redis server"] = version_of(binary())
            with redis_server(self.directory) as redis:
                yield f"{HOST}:{redis.port}"
            return
        own = Path(mkdtemp(dir=self.directory))  # what a broker leaves behind is no other one's
        with broker(own, self.say) as kafka:
            self.versions["Kafka broker"] = kafka.name
            kafka.create(*(event.topic for event in ProcessingEvent))
            yield kafka.servers
