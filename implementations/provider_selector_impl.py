"""The single place that decides which providers are usable, why others are not, and in which order to try them."""

from collections.abc import Mapping, Sequence
from math import ceil

from api_models import ProviderName
from exceptions import InvalidQueryError, NoUsableProviderError
from implementations.judging.catalogue import MOCK_MODEL
from implementations.resilience.provider_guards import ProviderGuards
from implementations.selection.ranking import Ranking
from implementations.selection.routing import rule_for
from protocols import (
    Candidate,
    Choice,
    ComparisonQuery,
    CurrentSettings,
    Judges,
    LLMAccountingProtocol,
    LLMRequestBuilderProtocol,
    ModelCatalogueProtocol,
    ProbeFinding,
    ProviderActivity,
    ProviderStatus,
)


class ProviderSelectorImpl:
    """configured: the providers with a key or a URL. findings: the results of their free probes."""

    def __init__(
        self,
        *,
        judges: Judges,
        guards: ProviderGuards,
        configured: frozenset[ProviderName],
        catalogue: ModelCatalogueProtocol,
        ranking: Ranking,
        builder: LLMRequestBuilderProtocol,
        accounting: LLMAccountingProtocol,
        findings: Mapping[ProviderName, ProbeFinding],
    ) -> None:
        self._judges = judges
        self._guards = guards
        self._configured = configured
        self._catalogue = catalogue
        self._ranking = ranking
        self._builder = builder
        self._accounting = accounting
        self._findings = findings

    def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Candidate]:
        """Best first; only the pinned provider unless fallback is allowed. Raises NoUsableProviderError.

        An open circuit does not change the order: the first choice's answer may be cached, and an open circuit fails
        fast.
        """
        wanted = self._choices(query, settings)
        usable = [choice for choice in wanted if self._obstacle(choice.provider, settings) is None]
        if not usable:
            raise NoUsableProviderError(self._why_nobody(wanted, settings), provider=query.provider)
        first = wanted[0] if query.provider or query.model else usable[0]
        return [
            Candidate(
                request=request,
                provider=self._judges[choice.provider].provider,
                dropped_parameters=dropped,
                is_fallback=choice is not first,
                may_be_asked=self._guards[choice.provider].may_be_asked,
                window_tokens=self._catalogue.traits(choice.provider, request.model).context_tokens,
            )
            for choice, (request, dropped) in zip(usable, self._builder.build(query, usable, settings), strict=True)
        ]

    def statuses(self, settings: CurrentSettings) -> Sequence[ProviderStatus]:
        """All providers in priority order, then other usable ones; only the mock in mock mode."""
        if settings.mock:
            return [self.status(ProviderName.MOCK, settings)]
        others = (name for name in ProviderName if self._obstacle(name, settings) is None)
        return [self.status(name, settings) for name in dict.fromkeys((*settings.priority_order, *others))]

    def status(self, name: ProviderName, settings: CurrentSettings) -> ProviderStatus:
        """One provider, whether or not it is in the priority order."""
        mocked = name is ProviderName.MOCK and settings.mock is not None
        hold = self._guards[name].circuit.hold
        activity = self._accounting.activity(name)
        default_model = settings.default_models.get(name, MOCK_MODEL)
        return ProviderStatus(
            name=name,
            enabled=mocked or name in settings.enabled_providers,
            configured=mocked or name in self._configured,
            circuit_state=self._guards[name].circuit.state,
            default_model=default_model,
            model_deprecated_on=self._catalogue.traits(name, default_model).deprecated_on,
            reason=self._obstacle(name, settings) or self._why_not_now(name),
            activity=activity,
            last_probe=self._finding(name, activity),
            held_because=None if hold is None else hold.reason,
        )

    def _choices(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Choice]:
        """Every provider that may answer, first choice first, without duplicates."""
        if settings.mock:
            return (Choice(provider=ProviderName.MOCK),)
        pinned = query.provider or self._owner_of_model(query, settings)
        if pinned is not None and not query.allow_fallback:
            return (Choice(provider=pinned, model=query.model),)
        others = tuple(Choice(provider=name) for name in self._ranked(query, settings))
        first = Choice(provider=pinned, model=query.model) if pinned else _preferred(query, settings)
        return others if first is None else (first, *(one for one in others if one.provider is not first.provider))

    def _ranked(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[ProviderName]:
        """The usable providers, ranked, then the others, so that an error can give every reason."""
        order = tuple(dict.fromkeys((settings.default_provider, *settings.priority_order)))
        usable = [name for name in order if self._obstacle(name, settings) is None]
        ranked = self._ranking.ranked(usable, query, settings)
        return (*ranked, *(name for name in order if name not in usable))

    def _owner_of_model(self, query: ComparisonQuery, settings: CurrentSettings) -> ProviderName | None:
        """For a model without a provider, the one enabled provider that lists it. Raises InvalidQueryError."""
        if query.model is None:
            return None
        owners = [name for name in settings.enabled_providers if query.model in self._catalogue.models(name)]
        if len(owners) != 1:
            raise InvalidQueryError(
                "llm_config_overrides.model_override: needs a provider_override as well, because the catalogue "
                "does not list the model for exactly one enabled provider"
            )
        return owners[0]

    def _obstacle(self, name: ProviderName, settings: CurrentSettings) -> str | None:
        """Why the provider is unusable, or None."""
        if name is ProviderName.MOCK:
            return None if settings.mock else "the mock judges only when the operator asks for it"
        if name not in settings.enabled_providers:
            return "disabled"
        return None if name in self._configured else "not configured"

    def _why_not_now(self, name: ProviderName) -> str | None:
        """Why it is temporarily not called, or None."""
        guards = self._guards[name]
        refusal = guards.circuit.refusal()
        if refusal is not None:
            if refusal.reason is not None:
                return f"circuit held open: {refusal.reason}"
            return "circuit half open, being tried" if refusal.is_probed else "circuit open"
        pause_s = ceil(guards.gate.remaining_s)
        return f"throttled for {pause_s} s" if pause_s else None

    def _finding(self, name: ProviderName, activity: ProviderActivity) -> ProbeFinding | None:
        """What its last probe found; a failed one is refuted by a call that succeeded later."""
        found = self._findings.get(name)
        is_refuted = found is not None and not found.success and activity.last_success != found.last_success
        return None if is_refuted else found

    def _why_nobody(self, wanted: Sequence[Choice], settings: CurrentSettings) -> str:
        return "; ".join(f"{choice.provider}: {self._obstacle(choice.provider, settings)}" for choice in wanted)


def _preferred(query: ComparisonQuery, settings: CurrentSettings) -> Choice | None:
    rule = rule_for(query, settings.routing_rules)
    return None if rule is None else Choice(provider=rule.provider, model=rule.model)
