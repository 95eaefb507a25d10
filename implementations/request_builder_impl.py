"""Merges the caller's overrides and the settings into a complete request, in this one place.

Parameters that a model does not take are dropped here and reported; further down there are no overrides, defaults or
gates.
"""

from collections.abc import Mapping, Sequence

from api_models import ProviderName, TemperatureUse
from implementations.judging.catalogue import MOCK_MODEL
from implementations.judging.prompt import build_prompt
from implementations.judging.verdict import SCHEMA_VERSION
from protocols import (
    BYTES_PER_TOKEN,
    Choice,
    ComparisonQuery,
    CurrentSettings,
    ModelCatalogueProtocol,
    ModelTraits,
    PromptProtocol,
    ProviderRequest,
)

NO_REASONING = "none"
LARGEST_CAP = 1_000_000  # tokens, for a model whose limit is unknown


class RequestBuilderImpl:
    """Resolves every override and default. base_urls: of the providers that are called over the network."""

    def __init__(self, *, catalogue: ModelCatalogueProtocol, base_urls: Mapping[ProviderName, str | None]) -> None:
        self._catalogue = catalogue
        self._base_urls = base_urls

    def build(
        self, query: ComparisonQuery, choices: Sequence[Choice], settings: CurrentSettings
    ) -> Sequence[tuple[ProviderRequest, tuple[str, ...]]]:
        """For each choice its request and the names of the overrides dropped from it. All share one prompt."""
        prompt = build_prompt(query)
        if settings.mock is not None:
            return [(_mock_request(query, prompt, settings), ()) for _ in choices]
        return [self._gated(query, prompt, choice, settings) for choice in choices]

    def _gated(
        self, query: ComparisonQuery, prompt: PromptProtocol, choice: Choice, settings: CurrentSettings
    ) -> tuple[ProviderRequest, tuple[str, ...]]:
        model = choice.model or settings.default_models[choice.provider]
        traits = self._catalogue.traits(choice.provider, model)
        wished_tokens = query.max_tokens or settings.default_max_tokens
        most_tokens = traits.max_output_tokens or LARGEST_CAP
        reasoning = traits.efforts.get(query.reasoning_effort) if query.reasoning_effort else None
        wished_temperature = settings.default_temperature if query.temperature is None else query.temperature
        takes_temperature = _takes_temperature(traits, reasoning, wished_temperature)
        request = ProviderRequest(
            provider=choice.provider,
            base_url=self._base_urls.get(choice.provider),
            model=model,
            prompt=prompt,
            max_tokens=min(wished_tokens, most_tokens),
            max_tokens_limit=most_tokens,
            temperature=wished_temperature if takes_temperature else None,
            reasoning=reasoning or None,
            marks_prefix=_is_cacheable_prefix(prompt, traits),
            verdict_schema=SCHEMA_VERSION,
            replicate=query.replicate,
        )
        dropped = {
            "model_override": query.model is not None and query.model != model,
            "temperature_override": query.temperature is not None and not takes_temperature,
            "max_tokens_override": query.max_tokens is not None and query.max_tokens != request.max_tokens,
            "reasoning_effort_override": query.reasoning_effort is not None and reasoning is None,
        }
        return request, tuple(name for name, is_dropped in dropped.items() if is_dropped)


def _mock_request(query: ComparisonQuery, prompt: PromptProtocol, settings: CurrentSettings) -> ProviderRequest:
    """The mock takes every parameter, and answers for any model under its own name. It truncates nothing."""
    max_tokens = query.max_tokens or settings.default_max_tokens
    return ProviderRequest(
        provider=ProviderName.MOCK,
        model=MOCK_MODEL,
        prompt=prompt,
        max_tokens=max_tokens,
        max_tokens_limit=max_tokens,
        temperature=settings.default_temperature if query.temperature is None else query.temperature,
        reasoning=query.reasoning_effort,
        verdict_schema=SCHEMA_VERSION,
        replicate=query.replicate,
        mock=settings.mock,
    )


def _takes_temperature(traits: ModelTraits, reasoning: str | None, wished: float | None) -> bool:
    if wished is not None and wished > traits.max_temperature:
        return False
    if traits.temperature is TemperatureUse.WITHOUT_REASONING:
        return reasoning == NO_REASONING
    return traits.temperature is TemperatureUse.ALWAYS


def _is_cacheable_prefix(prompt: PromptProtocol, traits: ModelTraits) -> bool:
    """The stable prefix ends in text and is, by estimate, at least the provider's minimum cacheable length."""
    if traits.min_cacheable_tokens is None or not prompt.lead.strip():
        return False
    size_bytes = len(prompt.system.encode()) + len(prompt.lead.encode())
    return size_bytes // BYTES_PER_TOKEN >= traits.min_cacheable_tokens
