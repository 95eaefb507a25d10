"""What a purchase cost, in US dollars; None when the price is not known, never 0 instead."""

from api_models import ProviderName
from protocols import ProviderReply

FREE = frozenset({ProviderName.MOCK})


def cost_usd(reply: ProviderReply) -> float | None:
    """The provider's own figure first; the mock is free; anything else is unknown."""
    if reply.cost_usd is not None:
        return reply.cost_usd
    return 0.0 if reply.provider in FREE else None
