"""Whatever happens on the way to a provider and back: one documented failure, nothing followed, nothing unbounded."""

import asyncio
import gzip
import tracemalloc
from codecs import BOM_UTF8
from functools import cache

import orjson
import pytest

from tests.integration.dialects import ANTHROPIC, OPENAI, UPSTREAM, Dialect
from tests.integration.pointed_service import Fault, every_provider, running, serving
from tests.integration.stand_in import (
    NOBODY,
    answer,
    cut_off,
    dripping,
    early,
    flood,
    hanging,
    kept_open,
    reset,
    standing_in,
)

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("nothing_private_is_written")]

MIB = 1024 * 1024


FAULTS = {
    "reset before the answer": Fault(plays=lambda _: [reset()], status=503, error_type="CONNECTION_ERROR", calls=3),
    "reset amid the answer": Fault(
        plays=lambda dialect: [reset(dialect.good())], status=502, error_type="INVALID_RESPONSE", calls=3
    ),
    "cut off": Fault(
        plays=lambda dialect: [cut_off(dialect.good())], status=502, error_type="INVALID_RESPONSE", calls=3
    ),
    "413 while the question is sent": Fault(
        plays=lambda _: [early(UPSTREAM, 413)], status=422, error_type="INVALID_REQUEST", calls=1
    ),
}


@every_provider
@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_exchange_ends_in_its_one_failure(dialect: Dialect, name: str) -> None:
    await FAULTS[name].befalls(dialect)


@every_provider
async def test_a_mark_before_the_json_is_skipped(dialect: Dialect) -> None:
    async with serving(dialect, answer(BOM_UTF8 + orjson.dumps(dialect.good()))) as (service, provider):
        assert (await service.judges(dialect)).status == 200
    assert len(provider.requests) == 1


@every_provider
async def test_a_reset_amid_the_answer_is_repeated(dialect: Dialect) -> None:
    async with serving(dialect, reset(dialect.good()), answer(dialect.good())) as (service, provider):
        assert (await service.judges(dialect)).status == 200
    assert len(provider.requests) == 2


@every_provider
async def test_nobody_at_the_address_is_told_after_three_attempts(dialect: Dialect) -> None:
    async with running(**dialect.variables(NOBODY)) as service:
        (await service.judges(dialect)).refusal(503, "CONNECTION_ERROR")
    assert len(service.naps) == 2


@every_provider
async def test_a_connection_that_ended_while_it_was_kept_is_replaced_at_once(dialect: Dialect) -> None:
    script = (kept_open(dialect.good()), reset(), answer(dialect.good()))
    async with serving(dialect, *script) as (service, provider):
        assert (await service.judges(dialect)).status == 200
        assert (await service.judges(dialect)).status == 200
    assert len(provider.requests) == 3
    assert service.naps == []


async def test_a_refusal_of_a_long_question_is_heard_while_the_question_is_sent() -> None:
    async with serving(OPENAI, early(UPSTREAM, 413)) as (service, _):
        told = await service.judges(OPENAI, essay_a="long " * 150_000)
    told.refusal(422, "INVALID_REQUEST")


# --- Waiting ----------------------------------------------------------------------------------------------------------


@every_provider
async def test_an_attempt_that_takes_too_long_is_repeated(dialect: Dialect) -> None:
    fault = Fault(plays=lambda _: [hanging()], status=504, error_type="TIMEOUT", calls=3)
    await fault.befalls(dialect, LLM_ATTEMPT_TIMEOUT="0.2")


async def test_an_answer_that_comes_byte_by_byte_has_no_more_time_than_another() -> None:
    fault = Fault(plays=lambda it: [dripping(it.good())], status=504, error_type="TIMEOUT", calls=3)
    await fault.befalls(OPENAI, LLM_ATTEMPT_TIMEOUT="0.2")


@every_provider
async def test_a_caller_whose_time_is_up_is_told_and_whoever_asks_again_gets_what_was_bought(dialect: Dialect) -> None:
    shared = {"Cache-Control": "max-age=60"}
    async with serving(dialect, hanging(), answer(dialect.good())) as (service, provider):
        told = await service.judges(dialect, headers={**shared, "X-Request-Timeout-Ms": "200"})
        told.refusal(504, "TIMEOUT")
        await provider.stop()
        assert (await service.judges(dialect, headers=shared)).status == 200
    assert len(provider.requests) == 2


async def test_a_provider_that_hangs_holds_up_no_other() -> None:
    async with (
        standing_in(hanging(), answer(ANTHROPIC.good())) as slow,
        standing_in(answer(OPENAI.good())) as quick,
        running(**ANTHROPIC.variables(slow.url), **OPENAI.variables(quick.url)) as service,
    ):
        held = asyncio.create_task(service.judges(ANTHROPIC))
        assert (await service.judges(OPENAI)).status == 200
        assert not held.done()
        await slow.stop()
        assert (await held).status == 200


# --- Too much ---------------------------------------------------------------------------------------------------------


@cache
def bomb() -> bytes:
    return gzip.compress(bytes(64 * MIB))


@every_provider
async def test_a_body_without_end_is_not_read_to_its_end(dialect: Dialect) -> None:
    sent: list[int] = []
    fault = Fault(plays=lambda _: [flood(64 * MIB, sent)], status=502, error_type="INVALID_RESPONSE", calls=1)
    await fault.befalls(dialect)
    assert sum(sent) < 32 * MIB


@every_provider
async def test_a_compressed_body_is_not_unpacked_beyond_the_bound(dialect: Dialect) -> None:
    packed = answer(bomb(), Content_Encoding="gzip")
    fault = Fault(plays=lambda _: [packed], status=502, error_type="INVALID_RESPONSE", calls=1)
    tracemalloc.start()
    try:
        await fault.befalls(dialect)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 16 * MIB


# --- Redirects --------------------------------------------------------------------------------------------------------


@every_provider
async def test_a_redirect_is_not_followed(dialect: Dialect) -> None:
    async with standing_in(answer(dialect.good())) as elsewhere:
        away = answer(UPSTREAM, 307, Location=f"{elsewhere.url}/{UPSTREAM}")
        fault = Fault(plays=lambda _: [away], status=502, error_type="INVALID_RESPONSE", calls=1)
        await fault.befalls(dialect)
    assert elsewhere.requests == []
