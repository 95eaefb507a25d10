"""What is measured: the server's settings, its environment, and the loads."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import orjson

from bench.processes import Running
from tests.integration.dialects import ANTHROPIC, GOOGLE, INTERNAL, OPENAI, OPENROUTER, Dialect

DEAD = "127.0.0.1:9"  # nobody listens there
CALLER_KEY = "key-of-the-caller-of-the-benchmark"
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.2)
CONNECTIONS = (1, 8, 32, 128)
USUAL = 32  # connections
ENOUGH = 128  # for an open load, and for the capacity of which it is a share
OK, REFUSED = 200, 503
PORTKEY, LITELLM, DIRECT = "Portkey gateway", "LiteLLM proxy", "no gateway at all"  # beside our own setups


class Need(StrEnum):
    """A server that has to run beside the service."""

    REDIS = "redis"
    KAFKA = "kafka"


BareRoute = Literal["plain", "lean", "passing on"]  # the kinds in `bench/bare.py`


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What surrounds a server. silence: takes connections and says nothing. needs: their addresses."""

    provider: Running
    silence: str
    needs: Mapping[Need, str] = field(default_factory=dict)


Settings = Callable[[World], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load. share: of the capacity, in an open loop; None for a closed one."""

    connections: int = USUAL
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """settings: without prefix. provider: whom the caller names. is_new: no question is asked twice.

    delay_ms, sigma: how long the provider takes. status: of every answer. in_short: part of the short selection.
    bare: not the service but a bare route of this kind.
    """

    name: str
    settings: Settings
    provider: str | None = OPENAI.name
    is_new: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[Need] = ()
    delay_ms: float = 0.0
    sigma: float = 0.0
    status: int = OK
    runs: Sequence[Run] = (Run(),)
    in_short: bool = False
    bare: BareRoute | None = None


def judged_by(*dialects: Dialect, below: str = "", **more: str) -> Settings:
    """These providers at the stand-in. below: the path under which it answers differently."""

    def settings(world: World) -> Mapping[str, str]:
        known: dict[str, str] = {}
        for dialect in dialects:
            known |= dialect.variables(world.provider.url + below)
        return known | more

    return settings


def beside(settings: Settings, more: Settings) -> Settings:
    """Both."""
    return lambda world: {**settings(world), **more(world)}


OPENAI_ONLY = judged_by(OPENAI)
CAPACITY = Run(connections=ENOUGH)
# The speed of a machine drifts, so the capacity is measured again before each share of it.
STEPS = tuple(run for share in SHARES for run in (CAPACITY, Run(connections=ENOUGH, share=share)))
WIDTHS = tuple(Run(connections=connections) for connections in CONNECTIONS)


def redis_at(address: Callable[[World], str], **more: str) -> Settings:
    """The usual provider, and Redis there."""
    return beside(OPENAI_ONLY, lambda world: {"REDIS_URL": f"redis://{address(world)}/0", **more})


def kafka_at(address: Callable[[World], str]) -> Settings:
    """The usual provider, and Kafka there."""
    return beside(OPENAI_ONLY, lambda world: {"KAFKA_BOOTSTRAP_SERVERS": address(world)})


def collector_at(address: Callable[[World], str]) -> Settings:
    """The usual provider, and a collector that gets the spans of every request."""
    return beside(OPENAI_ONLY, lambda world: {"OTLP_ENDPOINT": address(world)})


SHOWN_KEY = {"Authorization": f"Bearer {CALLER_KEY}"}
KEYS_ASKED = {
    "AUTH_MODE": "api_key",
    "CALLER_API_KEYS": orjson.dumps({"bench": [hashlib.sha256(CALLER_KEY.encode()).hexdigest()]}).decode(),
}


def _down(world: World) -> Mapping[str, str]:
    return {**ANTHROPIC.variables(f"{world.provider.url}/down"), **OPENAI.variables(world.provider.url)}


AGAIN = (CAPACITY, Run(connections=ENOUGH, share=0.5)) * 8  # its target has an interval, which takes several windows
MISS = Setup(name="judged miss, openai", settings=OPENAI_ONLY, runs=(*WIDTHS, *STEPS, *AGAIN), in_short=True)
HIT = Setup(name="local hit", settings=OPENAI_ONLY, is_new=False, runs=(*WIDTHS, *STEPS), in_short=True)
REDIS_HIT = Setup(
    name="Redis hit",
    settings=redis_at(lambda world: world.needs[Need.REDIS], NEAR_CACHE_TTL_SECONDS="0"),
    needs=(Need.REDIS,),
    is_new=False,
    runs=WIDTHS,
    in_short=True,
)
BARE = Setup(name="bare Quart route", settings=lambda _: {}, bare="plain", runs=WIDTHS, in_short=True)
LEAN = replace(BARE, name="leanest Quart route", bare="lean", in_short=False)
PASSED_ON = replace(BARE, name="bare Quart route that passes the question on", bare="passing on")

SETUPS = (
    BARE,
    LEAN,
    PASSED_ON,
    HIT,
    MISS,
    *(
        Setup(name=f"judged miss, {dialect.name}", settings=judged_by(dialect), provider=dialect.name, in_short=True)
        for dialect in (ANTHROPIC, GOOGLE, OPENROUTER)
    ),
    Setup(
        name=f"judged miss, {INTERNAL.name}",
        settings=judged_by(INTERNAL, below="/internal"),
        provider=INTERNAL.name,
        in_short=True,
    ),
    Setup(
        name="judged miss, provider takes 200 ms (log-normal, sigma 0.5)",
        settings=judged_by(OPENAI, LLM_MAX_CONCURRENT_REQUESTS="128"),
        delay_ms=200,
        sigma=0.5,
        runs=(Run(), Run(connections=128)),
    ),
    REDIS_HIT,
    Setup(name="judged miss with Redis", settings=REDIS_HIT.settings, needs=(Need.REDIS,)),
    Setup(
        name="coalesced: the same question from all, provider takes 50 ms, no cache",
        settings=judged_by(OPENAI, LLM_CACHE_ENABLED="false"),
        is_new=False,
        delay_ms=50,
        in_short=True,
    ),
    Setup(
        name="pinned provider down, circuit open",
        settings=judged_by(OPENAI, below="/down"),
        status=REFUSED,
        in_short=True,
    ),
    Setup(name="fallback, first provider's circuit open", settings=_down, provider=None, in_short=True),
    Setup(name="judged miss, Redis down", settings=redis_at(lambda _: DEAD)),
    Setup(name="judged miss, Redis hung", settings=redis_at(lambda world: world.silence)),
    Setup(name="local hit, Redis hung", settings=redis_at(lambda world: world.silence), is_new=False),
    Setup(name="judged miss with Kafka", settings=kafka_at(lambda world: world.needs[Need.KAFKA]), needs=(Need.KAFKA,)),
    Setup(name="judged miss, Kafka down", settings=kafka_at(lambda _: DEAD)),
    Setup(name="judged miss, Kafka hung", settings=kafka_at(lambda world: world.silence)),
    *(
        Setup(name=f"{name}, traced", settings=collector_at(lambda world: f"{world.provider.url}/otlp"), is_new=is_new)
        for name, is_new in (("judged miss", True), ("local hit", False))
    ),
    Setup(name="judged miss, collector hung", settings=collector_at(lambda world: f"http://{world.silence}")),
    Setup(
        name="judged miss as deployed: with Redis, Kafka and callers' keys",
        settings=beside(
            redis_at(lambda world: world.needs[Need.REDIS]),
            beside(kafka_at(lambda world: world.needs[Need.KAFKA]), lambda _: KEYS_ASKED),
        ),
        headers=SHOWN_KEY,
        needs=(Need.REDIS, Need.KAFKA),
    ),
    Setup(
        name="local hit, callers show keys",
        settings=judged_by(OPENAI, **KEYS_ASKED),
        headers=SHOWN_KEY,
        is_new=False,
    ),
)


def shortened(setups: Sequence[Setup]) -> Sequence[Setup]:
    """A selection for three minutes."""
    runs = {MISS.name: (Run(connections=1), Run(), CAPACITY, Run(connections=ENOUGH, share=0.5))}
    return [replace(setup, runs=runs.get(setup.name, (Run(),))) for setup in setups if setup.in_short]
