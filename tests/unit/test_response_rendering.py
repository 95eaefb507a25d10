"""What the Server-Timing header says of a request's time, and what it leaves to the total."""

from api.response_rendering import server_timing
from exceptions import ProviderUnavailableError
from implementations.resilience.call import calling
from implementations.resilience.metering import Metered
from implementations.resilience.policies import Retrying
from implementations.resilience.retry_budget import RetryBudget
from implementations.retry_manager_impl import RetryManagerImpl
from protocols import ProviderReply, ProviderRequest, Timings
from tests.fakes import (
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    InstantSleep,
    accounting_of,
    call,
    new_metrics,
    reply,
    request,
    unlimited,
)


def test_each_stage_stands_in_milliseconds() -> None:
    timings = Timings(total_s=2.5, cache_s=0.0001234, queued_s=0.25, upstream_s=2.0)
    assert server_timing(timings) == "total;dur=2500.000, cache;dur=0.123, queue;dur=250.000, upstream;dur=2000.000"


async def test_the_wait_between_two_attempts_is_no_time_upstream() -> None:
    clock = Clock()

    async def slowly_failing(_: ProviderRequest) -> ProviderReply:
        clock.advance(1.5)
        raise ProviderUnavailableError("overloaded")

    async def slowly(_: ProviderRequest) -> ProviderReply:
        clock.advance(2.0)
        return reply()

    sleep, asked = InstantSleep(clock), call(clock)
    accounting = accounting_of(FixedPrices(), metrics=new_metrics(), now=Calendar())
    metered = Metered(FakeProvider(slowly_failing, slowly), budget=unlimited(), accounting=accounting, clock=clock)
    with calling(asked):
        await Retrying(metered, retries=RetryManagerImpl(budget=RetryBudget(), sleep=sleep)).generate_comparison(
            request()
        )
    assert sum(sleep.naps) > 0
    assert asked.record.upstream_s == 3.5
