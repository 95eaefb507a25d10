"""The policies around a judge: each is a provider itself. Their order is the business of `di.py`."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from api_models import AttemptOutcome, Purchase
from exceptions import ProviderError, ProviderTimeoutError, TruncatedReplyError
from implementations.resilience.call import current_call
from protocols import (
    Attempt,
    LLMAccountingProtocol,
    LLMProviderProtocol,
    LLMRetryManagerProtocol,
    ProviderReply,
    ProviderRequest,
)


class Retrying:
    """Repeats what may be repeated; the retry manager decides."""

    def __init__(self, provider: LLMProviderProtocol, *, retries: LLMRetryManagerProtocol) -> None:
        self._provider = provider
        self._retries = retries

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The first good reply, or the last failure. What was cut off is asked again with more room."""
        asked = request

        async def attempt() -> ProviderReply:
            nonlocal asked
            try:
                return await self._provider.generate_comparison(asked)
            except TruncatedReplyError as cut:
                asked = replace(asked, max_tokens=cut.larger_max_tokens or asked.max_tokens)
                raise

        return await self._retries.run(attempt)


class Metered:
    """Times, prices and books every attempt, usable or not."""

    def __init__(
        self, provider: LLMProviderProtocol, *, accounting: LLMAccountingProtocol, clock: Callable[[], float]
    ) -> None:
        self._provider = provider
        self._accounting = accounting
        self._clock = clock

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, priced. A failure leaves with the provider's name."""
        began_s = self._clock()
        self._accounting.started(request)
        outcome, purchase = AttemptOutcome.DEFECT, None
        try:
            reply = await self._provider.generate_comparison(request)
            outcome = AttemptOutcome.SUCCESS
        except ProviderError as failure:
            failure.provider = request.provider
            outcome, purchase = failure.outcome, failure.purchase
            raise
        except asyncio.CancelledError:
            outcome = AttemptOutcome.CANCELLED
            raise
        finally:
            elapsed_s = self._clock() - began_s
            if outcome is not AttemptOutcome.SUCCESS:
                _record(request, outcome, elapsed_s, self._accounting.failed(request, outcome, elapsed_s, purchase))
        priced = self._accounting.succeeded(request, reply, elapsed_s)
        _record(request, outcome, elapsed_s, priced.purchase)
        return priced


def _record(request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float, purchase: Purchase | None) -> None:
    record = current_call().record
    record.upstream_s += elapsed_s
    record.attempts.append(
        Attempt(
            provider=request.provider,
            model=request.model,
            outcome=outcome,
            duration_s=elapsed_s,
            purchase=purchase,
        )
    )


class TimeLimited:
    """Ends an attempt that takes longer than an attempt may, whatever the provider does."""

    def __init__(self, provider: LLMProviderProtocol) -> None:
        self._provider = provider

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, or ProviderTimeoutError."""
        limit = asyncio.timeout(current_call().deadline.attempt_s())
        try:
            async with limit:
                return await self._provider.generate_comparison(request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ProviderTimeoutError("no answer within the attempt's time") from None
