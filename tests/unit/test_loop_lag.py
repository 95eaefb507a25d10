"""How late the event loop is: the part of a short sleep that nobody asked for."""

import asyncio

import pytest

from implementations.background.loop_lag import INTERVAL_S, measure_loop_lag
from tests.fakes import Clock, new_metrics, sample


class Late:
    """A sleep that takes so many seconds longer than it should."""

    def __init__(self, clock: Clock, by_s: float) -> None:
        self._clock = clock
        self._by_s = by_s

    async def __call__(self, seconds: float) -> None:
        self._clock.advance(seconds + self._by_s)
        await asyncio.sleep(0)


@pytest.mark.parametrize(("by_s", "measured_s"), [(0.25, 0.25), (0.0, 0.0), (-INTERVAL_S / 2, 0.0)])
async def test_only_what_a_sleep_takes_too_long_is_lag(by_s: float, measured_s: float) -> None:
    metrics, clock = new_metrics(), Clock()
    await measure_loop_lag(metrics=metrics, clock=clock, sleep=Late(clock, by_s))

    assert sample(metrics, "llm_provider_event_loop_lag_seconds_sum") == pytest.approx(measured_s)
    assert sample(metrics, "llm_provider_event_loop_lag_seconds_count") == 1.0
