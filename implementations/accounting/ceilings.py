"""The most that one call can cost at the known price, which is reserved before it: too much rather than too little."""

from collections.abc import Callable

from api_models import Purchase, UnknownPrice, Usage
from exceptions import CostLimitExceededError
from implementations.accounting.money import micro_usd_at_least
from protocols import RATED_TOKENS, CostRules, PricesProtocol, ProviderRequest, Rates

# The verdict's schema, the tool that some APIs turn it into, and what a provider adds around them.
ENVELOPE_TOKENS = 1_000
# Longer prompts may fall into a more expensive tier, which the rates for a usual size do not show. Some start here.
USUAL_TOKENS = 32_000


class Ceilings:
    """rules: those in force now."""

    def __init__(self, *, prices: PricesProtocol, rules: Callable[[], CostRules]) -> None:
        self._prices = prices
        self._rules = rules

    def of(self, request: ProviderRequest) -> int:
        """In micro-dollars, at today's price; 0 if free.

        Raises CostLimitExceededError for an unknown price, if the operator wants such calls refused.
        """
        rates = self._prices.rates(request.provider, request.model)
        if rates is not None:
            return micro_usd_at_least(self._known(request, rates))
        rules = self._rules()
        if rules.unknown_price is UnknownPrice.REFUSE:
            raise CostLimitExceededError("the price of this model is unknown", provider=request.provider)
        return micro_usd_at_least(rules.unknown_ceiling_usd)

    def _known(self, request: ProviderRequest, rates: Rates) -> float:
        """Assumes one token per byte, a tokenizer's worst case; English text has about one per four bytes."""
        tokens = ENVELOPE_TOKENS + request.prompt.size_bytes
        dearest = max(rates.input, rates.cached_input, rates.cache_write)
        usual_usd = (tokens * dearest + request.max_tokens * rates.output) / RATED_TOKENS
        if tokens <= USUAL_TOKENS:
            return usual_usd
        written = (0, tokens)
        return max(usual_usd, *(self._listed(request, tokens, count) for count in written))

    def _listed(self, request: ProviderRequest, tokens: int, written: int) -> float:
        usage = Usage(prompt=tokens, completion=request.max_tokens, written=written)
        purchase = Purchase(model=request.model, usage=usage, cost_usd=None)
        return self._prices.cost_usd(request.provider, purchase, asked=request.model) or 0.0
