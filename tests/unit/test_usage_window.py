"""Usage analytics: one event per window, adding up what the other events said."""

from dataclasses import replace

import pytest

from api_models import CacheHit, CacheMiss, CostTracked, ProviderName, ProviderUsage
from implementations.events import request_events
from implementations.events.usage_window import UsageWindow
from tests.fakes import CORRELATION_ID, Calendar, caller_purchase, query
from tests.kafka_fakes import message

HIT = CacheHit(provider=None, correlation_id=CORRELATION_ID, cache_key="key")
MISS = CacheMiss(provider=None, correlation_id=CORRELATION_ID, cache_key="key")


def bought(cost_usd: float | None) -> CostTracked:
    return replace(caller_purchase("anonymous", cost_usd=cost_usd), provider=ProviderName.OPENAI)


def test_a_window_adds_up_what_was_published() -> None:
    calendar = Calendar()
    window = UsageWindow(now=calendar)
    failed = request_events.unanswered(
        query(provider=ProviderName.OPENAI), "No.", 0.3, provider=ProviderName.OPENAI, cost_usd=0.0
    )
    nobody = request_events.unanswered(query(), "No.", 0.1, provider=None, cost_usd=0.0)
    answered = replace(failed, success=True)
    for event in (HIT, MISS, MISS, MISS, bought(0.5), bought(0.5), bought(None), failed, answered, answered, nobody):
        window.observe(event)
    calendar.move(seconds=60)
    told = window.turn()

    assert (told.period_end - told.period_start).total_seconds() == 60
    assert (told.total_requests, told.successful_requests, told.failed_requests) == (4, 2, 2)
    assert (told.total_tokens, told.total_cost) == (45, 1.0)
    assert told.cache_hit_rate == 0.25
    assert told.average_response_time_ms == pytest.approx(250.0)
    assert told.provider_stats["openai"] == ProviderUsage(
        requests=3,
        successful=2,
        failed=1,
        purchases=3,
        tokens=45,
        cost_usd=1.0,
        purchases_of_unknown_price=1,
        average_response_time_ms=300.0,
    )
    assert told.provider_stats["none"].requests == 1
    assert b'"openai":{' in message(told).encoded()


def test_windows_follow_each_other_without_a_gap_and_an_empty_one_knows_no_rates() -> None:
    calendar = Calendar()
    window = UsageWindow(now=calendar)
    window.observe(HIT)
    calendar.move(seconds=60)
    first = window.turn()
    second = window.turn()

    assert first.period_end == second.period_start
    assert (second.cache_hit_rate, second.average_response_time_ms, second.total_requests) == (None, None, 0)


def test_a_window_never_ends_before_it_began_though_the_clock_is_set_back() -> None:
    calendar = Calendar()
    window = UsageWindow(now=calendar)
    calendar.move(hours=-1)
    first = window.turn()
    calendar.move(seconds=60)
    second = window.turn()

    assert first.period_start == first.period_end == second.period_start
    assert (second.period_end - second.period_start).total_seconds() == 60
