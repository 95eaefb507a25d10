"""Tests one provider for an operator: the free probe, or one paid verdict on a fixed tiny pair."""

from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

from api_models import ProviderName, ProviderTestResponse
from exceptions import ProviderTimeoutError, ServiceError, TestedTooOftenError
from implementations.events.receipts import Receipts
from implementations.resilience.call import brief_call, current_call
from implementations.resilience.single_flight import SingleFlight
from protocols import (
    Choice,
    ClockProtocol,
    ComparisonQuery,
    CurrentSettings,
    Judge,
    Judges,
    LLMProviderSelectorProtocol,
    LLMRequestBuilderProtocol,
    ProviderReply,
    ProviderRequest,
    RuntimeSettingsProtocol,
)

TEST_TIMEOUT_S = 9.5  # the contract promises ten
DEEP_INTERVAL_S = 60.0
TINY_QUERY = ComparisonQuery(
    user_prompt="Which of the two sentences describes the weather better?",
    essay_a="It rained all morning, but by noon the clouds had gone and the streets were steaming in the sun.",
    essay_b="weather was weather it was ok",
    correlation_id=UUID(int=0),
)


class ProviderTesterImpl:
    """clock: monotonic seconds."""

    def __init__(
        self,
        *,
        judges: Judges,
        selector: LLMProviderSelectorProtocol,
        builder: LLMRequestBuilderProtocol,
        runtime_settings: RuntimeSettingsProtocol,
        flights: SingleFlight[ProviderReply],
        receipts: Receipts,
        clock: ClockProtocol,
    ) -> None:
        self._judges = judges
        self._selector = selector
        self._builder = builder
        self._runtime_settings = runtime_settings
        self._flights = flights
        self._receipts = receipts
        self._clock = clock
        self._last_deep_s: dict[ProviderName, float] = {}
        self._look_ups = SingleFlight[str]()

    async def test(
        self, provider: ProviderName, *, deep: bool, caller: str, correlation_id: UUID
    ) -> ProviderTestResponse:
        """Report within ten seconds, whatever the provider does. Raises TestedTooOftenError.

        Look-ups that are asked for together are one: nothing else bounds them.
        """
        settings, began_s = self._runtime_settings.current(), self._clock()
        name = ProviderName.MOCK if settings.mock else provider
        judge, status = self._judges[name], self._selector.status(name, settings)
        if not status.is_usable:
            return self._report(name, began_s, f"The provider cannot be asked: {status.reason}.")
        if deep:
            self._allow_deep(name)
        try:
            if not deep:
                found = await self._look_ups.join(name, partial(self._look_up, judge))
                return self._report(name, began_s, found, success=True)
            async with brief_call(TEST_TIMEOUT_S, self._clock):
                query = replace(TINY_QUERY, caller=caller, correlation_id=correlation_id)
                reply = await self._paid_verdict(name, judge, query, settings)
        except (TimeoutError, ProviderTimeoutError):  # also of an attempt: it had no more time than the test
            return self._report(name, began_s, "The provider did not answer within ten seconds.")
        except ServiceError as failure:
            return self._report(name, began_s, failure.in_words)
        message = f"The provider judged a pair: {reply.verdict.winner}."
        return self._report(name, began_s, message, model=reply.purchase.model, success=True)

    async def _look_up(self, judge: Judge) -> str:
        async with brief_call(TEST_TIMEOUT_S, self._clock):
            return await judge.probe.probe()

    def _allow_deep(self, name: ProviderName) -> None:
        now_s = self._clock()
        wait_s = self._last_deep_s.get(name, now_s - DEEP_INTERVAL_S) + DEEP_INTERVAL_S - now_s
        if wait_s > 0:
            raise TestedTooOftenError("a paid test is allowed once a minute", provider=name, retry_after_s=wait_s)
        self._last_deep_s[name] = now_s

    async def _paid_verdict(
        self, name: ProviderName, judge: Judge, query: ComparisonQuery, settings: CurrentSettings
    ) -> ProviderReply:
        ((request, _),) = self._builder.build(query, (Choice(provider=name),), settings)
        # A paid call is finished and accounted for even if the operator disconnects.
        return await self._flights.join(uuid4(), lambda: self._buy(query, request, judge))

    async def _buy(self, query: ComparisonQuery, request: ProviderRequest, judge: Judge) -> ProviderReply:
        current_call().record.on_attempt = self._receipts.issuer(query, request)
        return await judge.metered.generate_comparison(request)

    def _report(
        self, name: ProviderName, began_s: float, message: str, *, model: str | None = None, success: bool = False
    ) -> ProviderTestResponse:
        return ProviderTestResponse(
            success=success,
            provider=name,
            message=message,
            response_time_ms=round(1000 * (self._clock() - began_s)),
            model=model,
        )
