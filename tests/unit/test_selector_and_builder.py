"""Who may be asked, in which order and why not; and what exactly is asked of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pytest

from api_models import CircuitState, ProviderName, ReasoningEffort, RoutingRule, SelectionStrategy
from exceptions import InvalidQueryError, NoUsableProviderError
from implementations.judging.catalogue import MOCK_MODEL, ModelCatalogue
from implementations.judging.verdict import SCHEMA_VERSION
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.provider_guards import ProviderGuards
from protocols import Choice, Judge, Judges, LLMAccountingProtocol, ModelTraits, ProbeFinding, ProviderRequest
from tests.fakes import (
    KNOBS,
    NOON,
    REAL_PROVIDERS,
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    accounting_of,
    current_settings,
    guards,
    new_metrics,
    query,
    ranking,
    reply,
    request,
    tolerant_catalogue,
)

ANTHROPIC, OPENAI, GOOGLE = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE
MOCK = ProviderName.MOCK


def judge() -> Judge:
    fake = FakeProvider()
    return Judge(provider=fake, metered=fake, probe=fake)


def selector(
    *,
    configured: Iterable[ProviderName] = REAL_PROVIDERS,
    catalogue: ModelCatalogue | None = None,
    judges: Judges | None = None,
    known_guards: ProviderGuards | None = None,
    findings: Mapping[ProviderName, ProbeFinding] | None = None,
    accounting: LLMAccountingProtocol | None = None,
) -> ProviderSelectorImpl:
    metrics = new_metrics()
    accounting = accounting or accounting_of(FixedPrices(), metrics=metrics, now=Calendar())
    return ProviderSelectorImpl(
        judges=judges or {name: judge() for name in ProviderName},
        guards=known_guards or guards(metrics, Clock()),
        configured=frozenset(configured),
        catalogue=catalogue or tolerant_catalogue(),
        ranking=ranking(accounting),
        builder=RequestBuilderImpl(catalogue=tolerant_catalogue(), base_urls={}),
        accounting=accounting,
        findings=findings or {},
    )


def asked(chosen: ProviderSelectorImpl, settings: dict[str, Any] | None = None, **wishes: Any) -> list[ProviderName]:
    found = chosen.candidates(query(**wishes), current_settings(**settings or {}))
    return [candidate.request.provider for candidate in found]


def built(settings: dict[str, Any], name: ProviderName = ANTHROPIC, **wishes: Any) -> ProviderRequest:
    builder = RequestBuilderImpl(catalogue=tolerant_catalogue(), base_urls={})
    choice = Choice(provider=name, model=wishes.get("model"))
    ((complete, dropped),) = builder.build(query(**wishes), (choice,), current_settings(**settings))
    assert dropped == ()
    return complete


def test_without_a_wish_everybody_usable_is_ranked_by_priority() -> None:
    assert asked(selector()) == list(REAL_PROVIDERS)
    assert asked(selector(), {"priority_order": (GOOGLE, OPENAI), "default_provider": GOOGLE}) == [GOOGLE, OPENAI]


def test_the_default_provider_comes_first_and_nobody_twice() -> None:
    order = {"priority_order": (ANTHROPIC, OPENAI), "default_provider": OPENAI}
    assert asked(selector(), order) == [OPENAI, ANTHROPIC]


def test_the_usable_providers_alone_take_turns() -> None:
    chosen = selector(configured=(OPENAI, GOOGLE))
    settings = {"selection_strategy": SelectionStrategy.ROUND_ROBIN}
    firsts = Counter(asked(chosen, settings, essay_a=f"Essay {number}.")[0] for number in range(10))
    assert firsts == {OPENAI: 5, GOOGLE: 5}


def test_a_pinned_provider_is_the_only_candidate() -> None:
    assert asked(selector(), provider=GOOGLE) == [GOOGLE]


def test_a_pinned_provider_that_may_be_replaced_comes_first() -> None:
    order = {"priority_order": (ANTHROPIC, OPENAI, GOOGLE)}
    assert asked(selector(), order, provider=GOOGLE, allow_fallback=True) == [GOOGLE, ANTHROPIC, OPENAI]


def test_a_pinned_provider_out_of_order_may_still_be_asked() -> None:
    assert asked(selector(), {"priority_order": (ANTHROPIC,)}, provider=GOOGLE) == [GOOGLE]


@pytest.mark.parametrize(
    ("chosen", "settings", "reason"),
    [
        (selector(), {"enabled_providers": frozenset({OPENAI})}, "disabled"),
        (selector(configured=(OPENAI,)), {}, "not configured"),
    ],
    ids=["disabled", "not configured"],
)
def test_who_cannot_be_asked_is_skipped_and_fails_when_pinned(
    chosen: ProviderSelectorImpl, settings: dict[str, Any], reason: str
) -> None:
    assert asked(chosen, settings) == [OPENAI]
    with pytest.raises(NoUsableProviderError) as nobody:
        asked(chosen, settings, provider=ANTHROPIC)
    assert nobody.value.details == f"anthropic: {reason}"
    assert nobody.value.provider is ANTHROPIC
    assert asked(chosen, settings, provider=ANTHROPIC, allow_fallback=True) == [OPENAI]


def test_when_nobody_is_usable_every_reason_is_named() -> None:
    settings = {"priority_order": (ANTHROPIC, OPENAI), "enabled_providers": frozenset({OPENAI})}
    with pytest.raises(NoUsableProviderError) as nobody:
        asked(selector(configured=()), settings)
    assert nobody.value.details == "anthropic: disabled; openai: not configured"
    assert nobody.value.provider is None


def test_the_mock_judges_only_when_the_operator_asks_for_it() -> None:
    with pytest.raises(NoUsableProviderError) as nobody:
        asked(selector(), provider=MOCK)
    assert nobody.value.details == "mock: the mock judges only when the operator asks for it"


@pytest.mark.parametrize("wish", [None, ANTHROPIC, MOCK])
def test_in_mock_mode_the_mock_stands_in_the_place_of_everybody(wish: ProviderName | None) -> None:
    found = selector(configured=()).candidates(query(provider=wish, model="any"), current_settings(mock=KNOBS))
    assert [(one.request.provider, one.request.model) for one in found] == [(MOCK, MOCK_MODEL)]


def test_a_candidate_brings_the_policies_of_its_provider() -> None:
    judges = {ANTHROPIC: judge()}
    chosen = selector(judges=judges, configured={ANTHROPIC})
    (candidate,) = chosen.candidates(query(), current_settings())
    assert candidate.provider is judges[ANTHROPIC].provider


def test_the_statuses_follow_the_priority_order_with_a_reason_each() -> None:
    order = (GOOGLE, OPENAI, ANTHROPIC, ProviderName.INTERNAL)
    settings = current_settings(priority_order=order, enabled_providers=frozenset(order) - {OPENAI})
    statuses = selector(configured=(GOOGLE, ProviderName.INTERNAL)).statuses(settings)
    assert [status.name for status in statuses] == list(order)
    assert [(status.enabled, status.configured, status.available, status.reason) for status in statuses] == [
        (True, True, True, None),
        (False, False, False, "disabled"),
        (True, False, False, "not configured"),
        (True, True, True, None),
    ]
    assert [status.default_model for status in statuses] == [f"model-of-{name}" for name in order]


def test_who_can_be_asked_has_a_status_outside_of_the_order_as_well() -> None:
    settings = current_settings(priority_order=(ANTHROPIC,), default_provider=OPENAI)
    statuses = selector(configured=(OPENAI, GOOGLE)).statuses(settings)
    assert [(status.name, status.is_usable) for status in statuses] == [
        (ANTHROPIC, False),
        (OPENAI, True),
        (GOOGLE, True),
    ]


def test_in_mock_mode_the_only_status_is_that_of_the_mock() -> None:
    (status,) = selector(configured=()).statuses(current_settings(mock=KNOBS))
    assert (status.name, status.enabled, status.configured, status.available) == (MOCK, True, True, True)
    assert status.default_model == MOCK_MODEL


def test_the_mock_is_only_there_in_mock_mode_and_makes_no_other_provider_usable() -> None:
    chosen = selector(configured=())
    mock = chosen.status(MOCK, current_settings())
    assert (mock.enabled, mock.configured, mock.is_usable) == (False, False, False)
    disabled = current_settings(mock=KNOBS, enabled_providers=frozenset())
    other = chosen.status(ANTHROPIC, disabled)
    assert (other.enabled, other.configured, other.is_usable) == (False, False, False)


def test_what_keeps_a_provider_from_ever_being_asked_is_told_before_what_keeps_it_for_now() -> None:
    known = guards(new_metrics(), Clock())
    known[ANTHROPIC].circuit.force(CircuitState.OPEN, reason="maintenance", actor="somebody")
    chosen = selector(configured=(), known_guards=known)
    assert chosen.status(ANTHROPIC, current_settings()).reason == "not configured"


def test_a_provider_that_is_left_alone_says_why_and_keeps_its_place() -> None:
    clock = Clock()
    known = guards(new_metrics(), clock)
    known[ANTHROPIC].circuit.force(CircuitState.OPEN, reason="maintenance", actor="somebody")
    for _ in range(5):
        known[OPENAI].circuit.acquire().failed()
    known[GOOGLE].gate.pause(9.5)
    tried = known[ProviderName.OPENROUTER].circuit
    tried.force(CircuitState.OPEN, reason="maintenance", actor="somebody", for_s=0.0)
    tried.acquire()
    chosen = selector(known_guards=known)
    reasons = {status.name: status.reason for status in chosen.statuses(current_settings())}
    nobody: dict[ProviderName, str | None] = dict.fromkeys(REAL_PROVIDERS)
    assert reasons == nobody | {
        ANTHROPIC: "circuit held open: maintenance",
        OPENAI: "circuit open",
        GOOGLE: "throttled for 10 s",
        ProviderName.OPENROUTER: "circuit half open, being tried",
    }
    assert all(status.is_usable for status in chosen.statuses(current_settings()))
    assert asked(chosen) == list(REAL_PROVIDERS)


def test_what_a_look_up_found_is_shown() -> None:
    finding = ProbeFinding(at=NOON, success=False, message="The provider refused our key.")
    shown = {
        status.name: status.last_probe for status in selector(findings={OPENAI: finding}).statuses(current_settings())
    }
    assert (shown[OPENAI], shown[GOOGLE]) == (finding, None)


@pytest.mark.parametrize(
    ("success", "success_before", "is_shown"), [(False, NOON, True), (False, None, False), (True, None, True)]
)
def test_only_a_failed_look_up_is_refuted_by_a_later_call_that_succeeded(
    *, success: bool, success_before: datetime | None, is_shown: bool
) -> None:
    accounting = accounting_of(FixedPrices(), metrics=new_metrics(), now=Calendar(NOON))
    accounting.started(request())
    accounting.succeeded(request(), reply(), 1.0)
    finding = ProbeFinding(at=NOON, success=success, message="It answered.", last_success=success_before)
    chosen = selector(findings={ANTHROPIC: finding}, accounting=accounting)
    assert (chosen.status(ANTHROPIC, current_settings()).last_probe == finding) is is_shown


def test_a_rule_of_the_operator_prefers_a_provider_and_a_model_for_who_names_nobody() -> None:
    rules = (
        RoutingRule(metadata={"tier": "gold"}, provider=GOOGLE, model="gemini-of-the-rule"),
        RoutingRule(user_id="teacher-9", provider=OPENAI),
        RoutingRule(min_characters=10_000, provider=ProviderName.OPENROUTER),
    )
    settings = current_settings(routing_rules=rules)
    found = selector().candidates(query(metadata={"tier": "gold"}), settings)
    assert [(one.request.provider, one.request.model) for one in found[:2]] == [
        (GOOGLE, "gemini-of-the-rule"),
        (ANTHROPIC, "model-of-anthropic"),
    ]
    assert len(found) == len(REAL_PROVIDERS)
    assert asked(selector(), {"routing_rules": rules}, user_id="teacher-9")[0] is OPENAI
    assert asked(selector(), {"routing_rules": rules}, essay_a="x" * 10_000)[0] is ProviderName.OPENROUTER
    assert asked(selector(), {"routing_rules": rules})[0] is ANTHROPIC
    assert asked(selector(), {"routing_rules": rules}, provider=OPENAI, metadata={"tier": "gold"}) == [OPENAI]


@pytest.mark.parametrize(("characters", "holds"), [(999, False), (1000, True), (2000, True), (2001, False)])
def test_a_rule_holds_from_its_smallest_size_to_its_largest(*, characters: int, holds: bool) -> None:
    rules = (RoutingRule(min_characters=1000, max_characters=2000, provider=GOOGLE),)
    essay = "x" * (characters - query(essay_a="").characters)
    first, *_ = asked(selector(), {"routing_rules": rules}, essay_a=essay)
    assert (first is GOOGLE) is holds


@pytest.mark.parametrize(
    ("wanted", "told", "holds"),
    [(True, True, True), (True, 1, False), (1, True, False), (0, False, False), (1, 1.0, True)],
)
def test_a_rule_tells_the_truth_values_in_metadata_from_numbers(
    *, wanted: bool | int, told: object, holds: bool
) -> None:
    rules = (RoutingRule(metadata={"is_exam": wanted}, provider=GOOGLE),)
    first, *_ = asked(selector(), {"routing_rules": rules}, metadata={"is_exam": told})
    assert (first is GOOGLE) is holds


def test_what_the_caller_leaves_open_the_settings_decide() -> None:
    complete = built({"default_max_tokens": 99, "default_temperature": 0.5})
    assert (complete.model, complete.max_tokens, complete.temperature) == ("model-of-anthropic", 99, 0.5)
    assert (complete.reasoning, complete.replicate, complete.mock) == (None, 0, None)
    assert complete.verdict_schema == SCHEMA_VERSION


def test_what_the_caller_wishes_is_asked() -> None:
    complete = built(
        {"default_max_tokens": 99, "default_temperature": 0.5},
        provider=ANTHROPIC,
        model="model-of-the-caller",
        max_tokens=7,
        temperature=0.0,
        reasoning_effort=ReasoningEffort.HIGH,
        replicate=4,
        system_prompt="Be brief.",
    )
    assert (complete.model, complete.max_tokens, complete.temperature) == ("model-of-the-caller", 7, 0.0)
    assert (complete.reasoning, complete.replicate) == (ReasoningEffort.HIGH, 4)
    assert complete.prompt.system.startswith("Be brief.")


def test_a_model_that_one_enabled_provider_lists_needs_no_provider_beside_it() -> None:
    chosen = selector(catalogue=ModelCatalogue.load(None))
    (only,) = chosen.candidates(query(model="gpt-6.1-terra"), current_settings())
    assert (only.request.provider, only.request.model, only.is_fallback) == (OPENAI, "gpt-6.1-terra", False)
    with pytest.raises(InvalidQueryError):
        chosen.candidates(query(model="gpt-6.1-terra"), current_settings(enabled_providers=frozenset({GOOGLE})))


@pytest.mark.parametrize(("model", "dropped"), [(None, ()), ("gemini-of-the-caller", ("model_override",))])
def test_a_pinned_provider_that_cannot_be_asked_is_replaced_by_a_fallback_that_says_so(
    model: str | None, dropped: tuple[str, ...]
) -> None:
    chosen = selector(configured=(OPENAI,))
    (only,) = chosen.candidates(query(provider=GOOGLE, model=model, allow_fallback=True), current_settings())
    assert (only.is_fallback, only.dropped_parameters) == (True, dropped)
    assert [one.is_fallback for one in chosen.candidates(query(), current_settings())] == [False]


def test_the_provider_of_a_pinned_model_that_cannot_be_asked_is_replaced_by_a_fallback_that_says_so() -> None:
    chosen = selector(configured=(GOOGLE,), catalogue=ModelCatalogue.load(None))
    (only,) = chosen.candidates(query(model="gpt-6.1-terra", allow_fallback=True), current_settings())
    assert (only.request.provider, only.is_fallback, only.dropped_parameters) == (GOOGLE, True, ("model_override",))


def test_what_an_operator_prefers_and_cannot_be_asked_makes_no_answer_a_fallback() -> None:
    rules = (RoutingRule(user_id="teacher-7", provider=GOOGLE),)
    found = selector(configured=(OPENAI,)).candidates(query(), current_settings(routing_rules=rules))
    assert [(one.request.provider, one.is_fallback) for one in found] == [(OPENAI, False)]


def test_a_candidate_brings_the_window_of_the_model_that_it_is_asked_for() -> None:
    windows = {name: {"*": ModelTraits(context_tokens=100)} for name in ProviderName}
    windows[GOOGLE]["gemini-of-the-caller"] = ModelTraits(context_tokens=200)
    found = selector(catalogue=ModelCatalogue(windows)).candidates(
        query(provider=GOOGLE, model="gemini-of-the-caller", allow_fallback=True), current_settings()
    )
    assert [one.window_tokens for one in found] == [200, *[100] * (len(REAL_PROVIDERS) - 1)]


def test_a_model_that_two_enabled_providers_list_needs_one_of_them_beside_it() -> None:
    both = ModelCatalogue({name: {"a-model": ModelTraits()} for name in (OPENAI, GOOGLE)})
    with pytest.raises(InvalidQueryError):
        asked(selector(catalogue=both), model="a-model")
    assert asked(selector(catalogue=both), {"enabled_providers": frozenset({GOOGLE})}, model="a-model") == [GOOGLE]


def test_a_model_without_its_provider_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidQueryError) as mistake:
        asked(selector(), model="model-of-the-caller")
    assert "model_override" in mistake.value.details
    assert "model-of-the-caller" not in mistake.value.details


def test_a_model_belongs_to_the_pinned_provider_and_not_to_its_replacement() -> None:
    found = selector().candidates(
        query(provider=GOOGLE, model="gemini-of-the-caller", allow_fallback=True), current_settings()
    )
    models = {one.request.provider: one.request.model for one in found}
    assert models.pop(GOOGLE) == "gemini-of-the-caller"
    assert all(model == f"model-of-{name}" for name, model in models.items())


def test_the_mocks_knobs_travel_with_the_question() -> None:
    complete = built({"mock": KNOBS}, name=MOCK, model="any-model")
    assert (complete.mock, complete.model) == (KNOBS, MOCK_MODEL)


def test_the_mock_takes_every_override_and_otherwise_the_settings() -> None:
    usual = {"default_max_tokens": 900, "default_temperature": 0.3, "mock": KNOBS}
    left_open = built(usual, name=MOCK)
    assert (left_open.max_tokens, left_open.temperature, left_open.reasoning) == (900, 0.3, None)
    assert left_open.verdict_schema == SCHEMA_VERSION
    wished = built(
        usual, name=MOCK, max_tokens=5000, temperature=0.0, reasoning_effort=ReasoningEffort.LOW, replicate=2
    )
    assert (wished.max_tokens, wished.max_tokens_limit) == (5000, 5000)
    assert (wished.temperature, wished.reasoning, wished.replicate) == (0.0, "low", 2)
