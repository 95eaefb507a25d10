"""The policies around a judge: each is a provider itself. Their order is the business of `di.py`."""

import asyncio
from collections.abc import Callable

from api_models import AttemptOutcome
from exceptions import ProviderError, ProviderTimeoutError
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
        """The first good reply, or the last failure."""
        return await self._retries.run(lambda: self._provider.generate_comparison(request))


class Metered:
    """Times, prices and books every attempt, usable or not."""

    def __init__(
        self, provider: LLMProviderProtocol, *, accounting: LLMAccountingProtocol, clock: Callable[[], float]
    ) -> None:
        self._provider = provider
        self._accounting = accounting
        self._clock = clock

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, priced."""
        began_s = self._clock()
        self._accounting.started(request)
        outcome = AttemptOutcome.DEFECT
        try:
            reply = await self._provider.generate_comparison(request)
            outcome = AttemptOutcome.SUCCESS
        except ProviderError as failure:
            outcome = failure.outcome
            raise
        except asyncio.CancelledError:
            outcome = AttemptOutcome.CANCELLED
            raise
        finally:
            elapsed_s = self._clock() - began_s
            self._record(request, outcome, elapsed_s)
            if outcome is not AttemptOutcome.SUCCESS:
                self._accounting.failed(request, outcome, elapsed_s)
        return self._accounting.succeeded(request, reply, elapsed_s)

    def _record(self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float) -> None:
        record = current_call().record
        record.upstream_s += elapsed_s
        record.attempts.append(
            Attempt(provider=request.provider, model=request.model, outcome=outcome, duration_s=elapsed_s)
        )


class TimeLimited:
    """Ends an attempt that takes longer than an attempt may, whatever the provider does."""

    def __init__(self, provider: LLMProviderProtocol) -> None:
        self._provider = provider

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, or ProviderTimeoutError."""
        try:
            async with asyncio.timeout(current_call().deadline.attempt_s()):
                return await self._provider.generate_comparison(request)
        except TimeoutError:
            raise ProviderTimeoutError("no answer within the attempt's time", provider=request.provider) from None
