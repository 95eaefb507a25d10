"""What is measured: the server's settings, its environment, and the loads."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from string import Template
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

Settings = Mapping[str, str]  # without prefix; $provider, $silence, $redis and $kafka stand for a world's addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What surrounds a server. addresses: of the provider, of what takes connections and says nothing, of needs."""

    provider: Running
    addresses: Mapping[str, str]

    def settled(self, settings: Settings) -> Settings:
        """The same with its addresses."""
        return {name: Template(value).substitute(self.addresses) for name, value in settings.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load. share: of the capacity, in an open loop; None for a closed one."""

    connections: int = USUAL
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """provider: whom the caller names. is_new: no question is asked twice.

    delay_ms, sigma: how long the provider takes. status: of every answer. in_short: part of the short selection.
    bare: not the service but a bare route of this kind.
    """

    name: str
    settings: Settings
    provider: str | None = OPENAI.name
    is_new: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_ms: float = 0.0
    sigma: float = 0.0
    status: int = OK
    runs: Sequence[Run] = (Run(),)
    in_short: bool = False
    bare: BareRoute | None = None

    @property
    def needs(self) -> Sequence[Need]:
        """Those whose addresses are in its settings."""
        return [need for need in Need if any(f"${need}" in value for value in self.settings.values())]


def judged_by(*dialects: Dialect, below: str = "", **more: str) -> Settings:
    """These providers at the stand-in. below: the path under which it answers differently."""
    known: dict[str, str] = {}
    for dialect in dialects:
        known |= dialect.variables(f"$provider{below}")
    return known | more


OPENAI_ONLY = judged_by(OPENAI)
CAPACITY = Run(connections=ENOUGH)
# The speed of a machine drifts, so the capacity is measured again before each share of it.
STEPS = tuple(run for share in SHARES for run in (CAPACITY, Run(connections=ENOUGH, share=share)))
WIDTHS = tuple(Run(connections=connections) for connections in CONNECTIONS)
SHOWN_KEY = {"Authorization": f"Bearer {CALLER_KEY}"}
KEYS_ASKED = {
    "AUTH_MODE": "api_key",
    "CALLER_API_KEYS": orjson.dumps({"bench": [hashlib.sha256(CALLER_KEY.encode()).hexdigest()]}).decode(),
}

AGAIN = (CAPACITY, Run(connections=ENOUGH, share=0.5)) * 8  # its target has an interval, which takes several windows
MISS = Setup(name="judged miss, openai", settings=OPENAI_ONLY, runs=(*WIDTHS, *STEPS, *AGAIN), in_short=True)
HIT = Setup(name="local hit", settings=OPENAI_ONLY, is_new=False, runs=(*WIDTHS, *STEPS), in_short=True)
REDIS_HIT = Setup(
    name="Redis hit",
    settings=judged_by(OPENAI, REDIS_URL="redis://$redis", NEAR_CACHE_TTL_SECONDS="0"),
    is_new=False,
    runs=WIDTHS,
    in_short=True,
)
BARE = Setup(name="bare Quart route", settings={}, bare="plain", runs=WIDTHS, in_short=True)
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
    Setup(name="judged miss with Redis", settings=REDIS_HIT.settings),
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
    Setup(
        name="fallback, first provider's circuit open",
        settings=judged_by(OPENAI, **judged_by(ANTHROPIC, below="/down")),
        provider=None,
        in_short=True,
    ),
    Setup(name="judged miss, Redis down", settings=judged_by(OPENAI, REDIS_URL=f"redis://{DEAD}")),
    Setup(name="judged miss, Redis hung", settings=judged_by(OPENAI, REDIS_URL="redis://$silence")),
    Setup(name="local hit, Redis hung", settings=judged_by(OPENAI, REDIS_URL="redis://$silence"), is_new=False),
    Setup(name="judged miss with Kafka", settings=judged_by(OPENAI, KAFKA_BOOTSTRAP_SERVERS="$kafka")),
    Setup(name="judged miss, Kafka down", settings=judged_by(OPENAI, KAFKA_BOOTSTRAP_SERVERS=DEAD)),
    Setup(name="judged miss, Kafka hung", settings=judged_by(OPENAI, KAFKA_BOOTSTRAP_SERVERS="$silence")),
    *(
        Setup(name=f"{name}, traced", settings=judged_by(OPENAI, OTLP_ENDPOINT="$provider/otlp"), is_new=is_new)
        for name, is_new in (("judged miss", True), ("local hit", False))
    ),
    Setup(name="judged miss, collector hung", settings=judged_by(OPENAI, OTLP_ENDPOINT="http://$silence")),
    Setup(
        name="judged miss as deployed: with Redis, Kafka and callers' keys",
        settings=judged_by(OPENAI, REDIS_URL="redis://$redis", KAFKA_BOOTSTRAP_SERVERS="$kafka", **KEYS_ASKED),
        headers=SHOWN_KEY,
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
