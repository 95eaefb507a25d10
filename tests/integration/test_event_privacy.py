"""What no event may carry: essays, prompts, keys and the words of a provider, whatever happened to the request.

The events are read where the spool keeps them, byte for byte as Kafka would get them.
"""

import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import orjson

from api_models import ProcessingEvent, ProviderName
from tests.integration.dialects import CANARIES, DIALECTS, Dialect
from tests.integration.events_on_kafka import NOBODY
from tests.integration.pointed_service import Service, running
from tests.integration.stand_in import Act, StandIn, answer, standing_in

NOTE = {"batch": "the caller's own word"}
ATTEMPTS = 3
TOLD_OF_EACH = {
    ProcessingEvent.LLM_REQUEST_STARTED,
    ProcessingEvent.LLM_REQUEST_COMPLETED,
    ProcessingEvent.LLM_PROVIDER_FAILURE,
    ProcessingEvent.LLM_COST_TRACKING,
    ProcessingEvent.LLM_CACHE_MISS,
    ProcessingEvent.LLM_CACHE_HIT,
}


def failing_then_good(dialect: Dialect) -> list[Act]:
    failures = [answer(body, status) for status, body in dialect.failures.values() for _ in range(ATTEMPTS)]
    return [*failures, answer(dialect.good())]


async def ask_to_the_end(service: Service, dialect: Dialect, provider: StandIn) -> None:
    """Until the whole script was played; then once more, when the answer is known."""
    for _ in range(len(provider.script) + 1):
        told = await service.judges(dialect, headers={"Cache-Control": "max-age=60"}, metadata=NOTE)
        if told.headers.get("x-cache") == "HIT":
            return
    raise AssertionError("the good answer was never given")


async def test_no_event_carries_an_essay_a_prompt_a_key_or_a_word_of_a_provider(tmp_path: Path) -> None:
    spool = tmp_path / "spool.db"
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": NOBODY,
        "EVENT_SPOOL_PATH": str(spool),
        "CIRCUIT_BREAKER_ENABLED": "false",
    }
    async with AsyncExitStack() as stand_ins:
        providers = [await stand_ins.enter_async_context(standing_in(*failing_then_good(one))) for one in DIALECTS]
        for dialect, provider in zip(DIALECTS, providers, strict=True):
            settings |= dialect.variables(provider.url)
        async with running(**settings) as service:
            for dialect, provider in zip(DIALECTS, providers, strict=True):
                await ask_to_the_end(service, dialect, provider)
    with closing(sqlite3.connect(spool)) as rows:
        values = [value for (value,) in rows.execute("SELECT value FROM events")]
    everything = b"".join(values).lower()
    assert not [canary for canary in CANARIES if canary.encode() in everything]
    told = [
        (one["event_type"], one["data"].get("provider"), one["data"].get("metadata"))
        for one in map(orjson.loads, values)
    ]
    for dialect in DIALECTS:
        for event in TOLD_OF_EACH:
            assert (event.event_type, ProviderName(dialect.name), NOTE) in told
