"""Merges what the caller wished and what the settings say, in this one place, into a complete request."""

from api_models import ProviderName
from implementations.judging.prompt import VERDICT_SCHEMA_VERSION, build_prompt
from implementations.mock_provider_impl import MOCK_MODEL
from protocols import ComparisonQuery, CurrentSettings, ProviderRequest


class RequestBuilderImpl:
    """Decides once: below it there are no overrides and no defaults."""

    def build(
        self, query: ComparisonQuery, provider: ProviderName, settings: CurrentSettings
    ) -> tuple[ProviderRequest, tuple[str, ...]]:
        """The question to one provider, and the parameters that its model does not take (by name)."""
        request = ProviderRequest(
            provider=provider,
            model=_model(query, provider, settings),
            prompt=build_prompt(query),
            max_tokens=query.max_tokens or settings.default_max_tokens,
            temperature=settings.default_temperature if query.temperature is None else query.temperature,
            reasoning_effort=query.reasoning_effort,
            verdict_schema=VERDICT_SCHEMA_VERSION,
            replicate=query.replicate,
            mock=settings.mock,
        )
        return request, ()


def _model(query: ComparisonQuery, provider: ProviderName, settings: CurrentSettings) -> str:
    if settings.mock is not None:
        return MOCK_MODEL
    wished = query.model if query.provider is provider else None  # a fallback has models of its own
    return wished or settings.default_models[provider]
