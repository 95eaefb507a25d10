"""The one place that knows which providers can be asked, why not, and in which order."""

from collections.abc import Sequence
from dataclasses import replace

from api_models import CircuitState, ProviderName
from exceptions import InvalidQueryError, NoUsableProviderError
from implementations.mock_provider_impl import MOCK_MODEL
from protocols import (
    Candidate,
    ComparisonQuery,
    CurrentSettings,
    Judges,
    LLMAccountingProtocol,
    LLMRequestBuilderProtocol,
    ModelCatalogueProtocol,
    ProviderStatus,
)


class ProviderSelectorImpl:
    """Ranks the usable providers. configured: the providers that the operator gave a key or a URL."""

    def __init__(
        self,
        *,
        judges: Judges,
        configured: frozenset[ProviderName],
        catalogue: ModelCatalogueProtocol,
        builder: LLMRequestBuilderProtocol,
        accounting: LLMAccountingProtocol,
    ) -> None:
        self._judges = judges
        self._catalogue = catalogue
        self._configured = configured
        self._builder = builder
        self._accounting = accounting

    def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Candidate]:
        """Best first; only the named provider unless it may be replaced. Raises NoUsableProviderError."""
        query = self._with_owner_of_model(query, settings)
        wanted = _wanted(query, settings)
        usable = [name for name in wanted if self._obstacle(name, settings) is None]
        if not usable:
            raise NoUsableProviderError(self._why_nobody(wanted, settings), provider=query.provider)
        first = wanted[0] if query.provider else usable[0]
        return [
            Candidate(
                request=request,
                provider=self._judges[name].provider,
                dropped_parameters=dropped,
                is_fallback=name is not first,
            )
            for name, (request, dropped) in zip(usable, self._builder.build(query, usable, settings), strict=True)
        ]

    def statuses(self, settings: CurrentSettings) -> Sequence[ProviderStatus]:
        """Every provider of the priority order; only the mock while it judges."""
        names = (ProviderName.MOCK,) if settings.mock else settings.priority_order
        return [self.status(name, settings) for name in names]

    def status(self, name: ProviderName, settings: CurrentSettings) -> ProviderStatus:
        """One provider, in the order or not."""
        mocked = name is ProviderName.MOCK and settings.mock is not None
        return ProviderStatus(
            name=name,
            enabled=mocked or name in settings.enabled_providers,
            configured=mocked or name in self._configured,
            circuit_state=CircuitState.CLOSED,
            default_model=settings.default_models.get(name, MOCK_MODEL),
            reason=self._obstacle(name, settings),
            activity=self._accounting.activity(name),
        )

    def _with_owner_of_model(self, query: ComparisonQuery, settings: CurrentSettings) -> ComparisonQuery:
        """A model without a provider names the one enabled provider that offers it. Raises InvalidQueryError."""
        if query.model is None or query.provider is not None or settings.mock:
            return query
        owners = [name for name in settings.enabled_providers if query.model in self._catalogue.models(name)]
        if len(owners) != 1:
            raise InvalidQueryError(
                "llm_config_overrides.model_override: needs a provider_override beside it, because the catalogue "
                "does not list the model for exactly one enabled provider"
            )
        return replace(query, provider=owners[0])

    def _obstacle(self, name: ProviderName, settings: CurrentSettings) -> str | None:
        """Why the provider cannot be asked, or None."""
        if name is ProviderName.MOCK:
            return None if settings.mock else "the mock judges only when the operator asks for it"
        if name not in settings.enabled_providers:
            return "disabled"
        return None if name in self._configured else "not configured"

    def _why_nobody(self, wanted: Sequence[ProviderName], settings: CurrentSettings) -> str:
        return "; ".join(f"{name}: {self._obstacle(name, settings)}" for name in wanted)


def _wanted(query: ComparisonQuery, settings: CurrentSettings) -> tuple[ProviderName, ...]:
    """Everyone who may answer, first choice first and nobody twice."""
    if settings.mock:
        return (ProviderName.MOCK,)
    if query.provider and not query.allow_fallback:
        return (query.provider,)
    first = query.provider or settings.default_provider
    return tuple(dict.fromkeys((first, *settings.priority_order)))
