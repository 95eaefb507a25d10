"""The benchmark of outages finds what is missing, doubled or out of order; else its good news would be none."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
import pytest

from bench.outages.delivery import Delivery, compared

KEY = "the-key"
TOPIC = "topic"


@dataclass
class Message:
    """As a consumer gives it."""

    number: int
    event_id: str
    on: str = TOPIC
    under: str = KEY

    def topic(self) -> str:
        return self.on

    def key(self) -> bytes:
        return self.under.encode()

    def value(self) -> bytes:
        envelope: dict[str, Any] = {"event_id": self.event_id, "correlation_id": self.under}
        return orjson.dumps({**envelope, "data": {"metadata": {"number": self.number}}})


def told(*numbers: int) -> list[Message]:
    return [Message(number=number, event_id=str(uuid4())) for number in numbers]


SAME = told(1)
OTHERS = [Message(1, "a", on="elsewhere"), Message(1, "b", under="somebody else's")]


@pytest.mark.parametrize(
    ("messages", "arrived", "missing", "doubled", "overtaken"),
    [
        (told(0, 1, 2), 3, 0, 0, 0),
        (told(0, 2), 2, 1, 0, 0),
        (told(0, 2, 1), 3, 0, 0, 1),
        ([*told(0), *SAME, *SAME, *told(2)], 3, 0, 1, 0),
        ([*told(0, 2), *OTHERS], 2, 1, 0, 0),
        ([], 0, 3, 0, 0),
    ],
    ids=["all is well", "one is missing", "one was overtaken", "one came twice", "others do not count", "nothing"],
)
def test_what_went_wrong_is_counted(
    messages: list[Message], arrived: int, missing: int, doubled: int, overtaken: int
) -> None:
    found = compared(TOPIC, messages, {(KEY, number) for number in range(3)})
    assert found == Delivery(
        topic=TOPIC, expected=3, arrived=arrived, missing=missing, doubled=doubled, overtaken=overtaken
    )
