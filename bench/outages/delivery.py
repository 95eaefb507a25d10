"""What an independent consumer finds on the topics, compared with what callers were answered."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from bench.outages.callers import Asked
from tests.integration.events_on_kafka import COMPLETED, COST, STARTED
from tests.integration.kafka_broker import Broker

TOPICS = (STARTED, COMPLETED, COST)
READING_S = 300.0

Question = tuple[str, int]


class Told(Protocol):
    """A message as the consumer gives it."""

    def topic(self) -> str | None:
        """Where it was."""
        ...

    def key(self) -> bytes | None:
        """Whose it is."""
        ...

    def value(self) -> bytes | None:
        """Its envelope."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One topic. missing: questions without an event; doubled: events read twice; overtaken: out of a key's order."""

    topic: str
    expected: int
    arrived: int
    missing: int
    doubled: int
    overtaken: int

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        figures = (self.expected, self.arrived, self.missing, self.doubled, self.overtaken)
        return (self.topic.removeprefix("huleedu.llm_provider."), *(f"{one:,}" for one in figures))


HEADINGS = ("topic", "answered", "arrived", "missing", "doubled", "out of order")


@dataclass(slots=True)
class _Found:
    ids: Counter[str] = field(default_factory=Counter)
    questions: set[Question] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    overtaken: int = 0

    def add(self, envelope: dict[str, object]) -> None:
        key, number = _question(envelope)
        self.ids[str(envelope["event_id"])] += 1
        if self.ids[str(envelope["event_id"])] > 1:
            return
        self.overtaken += number < self.last.get(key, -1)
        self.last[key] = number
        self.questions.add((key, number))


def delivered(broker: Broker, answered: Sequence[Asked]) -> list[Delivery]:
    """Topic by topic. A key's questions were asked by rising numbers, one after the other."""
    wanted = {(one.key, one.number) for one in answered}
    messages = broker.read(*TOPICS, at_least=len(TOPICS) * len(wanted), within_s=READING_S)
    return [compared(topic, messages, wanted) for topic in TOPICS]


def compared(topic: str, messages: Iterable[Told], wanted: AbstractSet[Question]) -> Delivery:
    """What was found of the wanted questions, and of others under their keys."""
    found, keys = _Found(), {key for key, _ in wanted}
    for message in messages:
        if message.topic() == topic and (message.key() or b"").decode() in keys:
            found.add(orjson.loads(message.value() or b""))
    return Delivery(
        topic=topic,
        expected=len(wanted),
        arrived=len(found.questions & wanted),
        missing=len(wanted - found.questions),
        doubled=found.ids.total() - len(found.ids),
        overtaken=found.overtaken,
    )


def _question(envelope: dict[str, object]) -> Question:
    data = envelope["data"]
    if not isinstance(data, dict):
        raise TypeError("an event without data")
    return str(envelope["correlation_id"]), int(data["metadata"]["number"])
