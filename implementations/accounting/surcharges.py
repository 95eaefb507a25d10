"""What a vendor charges beyond its list for the address at which it is asked."""

import re

from api_models import ProviderName

REGIONAL_FACTOR = 1.1
_REGIONAL = re.compile(r"https://[a-z]+\.api\.openai\.com(?![\w.-])", re.IGNORECASE)
_EXEMPT = re.compile(r"o\d|gpt-(?:[34]|5(?:\.[0-3])?(?:-|$))")  # models from before March 2026


def surcharge(provider: ProviderName, base_url: str | None, model: str) -> float:
    """How many times the list price the model costs: more where OpenAI is to work in one region only."""
    is_regional = provider is ProviderName.OPENAI and _REGIONAL.match(base_url or "") is not None
    return REGIONAL_FACTOR if is_regional and not _EXEMPT.match(model) else 1.0
