"""What is known of the models: the shipped data, the operator's corrections, and what both let through in a request."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from api_models import ModelTier, ProviderName, ReasoningEffort, TemperatureUse
from config import KeyedProviderSettings, Settings
from environment import PREFIX, ConfigurationError
from implementations.judging.catalogue import MAX_FILE_BYTES, SHIPPED, ModelCatalogue
from implementations.request_builder_impl import RequestBuilderImpl
from protocols import BYTES_PER_TOKEN, Choice, ModelTraits, ProviderRequest
from tests.fakes import current_settings, query

ANTHROPIC, OPENAI, GOOGLE = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE
OPENROUTER, INTERNAL, MOCK = ProviderName.OPENROUTER, ProviderName.INTERNAL, ProviderName.MOCK
VENDORS = [name for name, group in Settings().provider_groups().items() if isinstance(group, KeyedProviderSettings)]
NONE, LOW, HIGH = ReasoningEffort.NONE, ReasoningEffort.LOW, ReasoningEffort.HIGH
CATALOGUE = ModelCatalogue.load(None)
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
PAGE = Path(__file__).parents[2] / "docs" / "adding-a-provider.md"


def corrected(folder: Path, content: Any) -> ModelCatalogue:
    path = folder / "models.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return ModelCatalogue.load(path)


def built(provider: ProviderName, model: str, **wishes: Any) -> tuple[ProviderRequest, tuple[str, ...]]:
    settings = current_settings(**wishes.pop("settings", {}))
    wished = query(provider=provider, model=model, **wishes)
    (one,) = RequestBuilderImpl(catalogue=CATALOGUE, base_urls={}).build(
        wished, (Choice(provider=provider, model=model),), settings
    )
    return one


# --- The shipped data -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", VENDORS)
def test_each_vendor_has_one_cheap_model_which_is_the_default_and_one_strong_one(provider: ProviderName) -> None:
    by_tier = {
        tier: [model for model, traits in CATALOGUE.models(provider).items() if traits.tier is tier]
        for tier in ModelTier
    }
    assert by_tier[ModelTier.CHEAP] == [Settings().provider_groups()[provider].default_model]
    assert len(by_tier[ModelTier.STRONG]) == 1


def test_the_page_on_a_new_provider_shows_one_model_of_each_tier_too(tmp_path: Path) -> None:
    shown = re.search(r'^"acme": (\{.*?^\})', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert shown is not None
    models = corrected(tmp_path, {"internal": json.loads(shown[1])}).models(INTERNAL)
    assert [traits.tier for traits in models.values()] == [ModelTier.CHEAP, ModelTier.STRONG]


def test_of_a_model_of_our_own_nothing_is_listed_but_everything_is_allowed() -> None:
    assert CATALOGUE.models(INTERNAL) == {}
    traits = CATALOGUE.traits(INTERNAL, "whatever")
    assert (traits.temperature, set(traits.efforts)) == (TemperatureUse.ALWAYS, set(ReasoningEffort))
    assert (traits.tier, traits.max_output_tokens) == (None, None)


@pytest.mark.parametrize("provider", [*VENDORS, MOCK])
def test_a_model_that_nobody_lists_is_conservative(provider: ProviderName) -> None:
    assert CATALOGUE.traits(provider, "model-of-tomorrow") == ModelTraits()
    assert ModelTraits().temperature is TemperatureUse.NEVER
    assert ModelTraits().efforts == {}


@pytest.mark.parametrize("provider", VENDORS)
def test_every_listed_model_tells_its_limits(provider: ProviderName) -> None:
    for traits in CATALOGUE.models(provider).values():
        assert traits.context_tokens
        assert traits.max_output_tokens
        assert 0 < traits.max_output_tokens < traits.context_tokens
        assert NONE in traits.efforts or traits.efforts.keys() == {LOW, ReasoningEffort.MEDIUM, HIGH}


def test_the_shipped_file_names_no_key_twice() -> None:
    def unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    assert json.loads(SHIPPED.read_text(), object_pairs_hook=unambiguous)


LIMITS = {ANTHROPIC: (1_000_000, 128_000), OPENAI: (1_050_000, 128_000), GOOGLE: (1_048_576, 65_536)}
OTHER_LIMITS = {
    "claude-haiku-4-5": (200_000, 64_000),
    "claude-sonnet-4-5": (200_000, 64_000),
    **dict.fromkeys(("gpt-5.4-mini", "gpt-5.4-nano", "gpt-5", "gpt-5-mini"), (400_000, 128_000)),
    **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini"), (1_047_576, 32_768)),
    "gemini-4-argon": (1_048_576, 32_768),
}


@pytest.mark.parametrize("provider", [name for name in VENDORS if name is not OPENROUTER])
def test_a_model_has_the_limits_of_its_family_unless_its_vendor_documents_others(provider: ProviderName) -> None:
    for model, traits in CATALOGUE.models(provider).items():
        documented = OTHER_LIMITS.get(model, LIMITS.get(provider))
        assert (traits.context_tokens, traits.max_output_tokens) == documented, f"LIMITS, or {model} in OTHER_LIMITS"


def test_a_routed_model_has_the_limits_that_its_vendor_documents() -> None:
    for slug, traits in CATALOGUE.models(OPENROUTER).items():
        vendor, _, model = slug.partition("/")
        model = model.replace(".", "-") if vendor == ANTHROPIC else model
        own = CATALOGUE.models(ProviderName(vendor))[model]
        assert (traits.context_tokens, traits.max_output_tokens) == (own.context_tokens, own.max_output_tokens)


WITHOUT_REASONING = {
    ANTHROPIC: {
        **dict.fromkeys((HAIKU, "claude-opus-5", "claude-sonnet-5"), "disabled"),
        SONNET: "between_tools",
        **dict.fromkeys(("claude-haiku-4-5", "claude-sonnet-4-5"), ""),
    },
    OPENAI: {
        **dict.fromkeys(("gpt-6-luna", "gpt-6.1-terra", "gpt-6-sol", "gpt-5.4-mini", "gpt-5.4-nano"), "none"),
        **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini"), ""),
    },
    GOOGLE: {
        **dict.fromkeys(
            ("gemini-3.5-flash-lite", "gemini-3.5-flash", "gemini-3.6-flash", "gemini-3.1-flash-lite"), "MINIMAL"
        ),
    },
    OPENROUTER: dict.fromkeys(("anthropic/claude-haiku-5.5", "openai/gpt-6-luna", "openai/gpt-6.1-terra"), "none"),
}


@pytest.mark.parametrize("provider", VENDORS)
def test_only_these_models_can_be_told_not_to_reason(provider: ProviderName) -> None:
    words = {model: traits.efforts.get(NONE) for model, traits in CATALOGUE.models(provider).items()}
    assert {model: word for model, word in words.items() if word is not None} == WITHOUT_REASONING.get(provider, {})


@pytest.mark.parametrize("provider", VENDORS)
def test_every_other_effort_has_the_same_name_with_the_vendor(provider: ProviderName) -> None:
    for traits in CATALOGUE.models(provider).values():
        words = [word.lower() for effort, word in traits.efforts.items() if effort is not NONE]
        assert words in ([], ["low", "medium", "high"])


SETTABLE = {
    "claude-haiku-4-5": TemperatureUse.ALWAYS,
    "claude-sonnet-4-5": TemperatureUse.ALWAYS,
    "gpt-4.1": TemperatureUse.ALWAYS,
    "gpt-4.1-mini": TemperatureUse.ALWAYS,
    "gemini-3.1-flash-lite": TemperatureUse.ALWAYS,
    "gemini-3.1-pro-preview": TemperatureUse.ALWAYS,
    **dict.fromkeys(
        ("gpt-6-luna", "gpt-6.1-terra", "gpt-6-sol", "gpt-5.4-mini", "gpt-5.4-nano"), TemperatureUse.WITHOUT_REASONING
    ),
}


@pytest.mark.parametrize("provider", VENDORS)
def test_only_these_models_take_a_temperature(provider: ProviderName) -> None:
    for model, traits in CATALOGUE.models(provider).items():
        assert traits.temperature is SETTABLE.get(model, TemperatureUse.NEVER), f"{model} in SETTABLE"


def test_anthropic_takes_no_temperature_above_one() -> None:
    highest = {model: traits.max_temperature for name in VENDORS for model, traits in CATALOGUE.models(name).items()}
    assert {model: limit for model, limit in highest.items() if limit != 2.0} == {
        "claude-haiku-4-5": 1.0,
        "claude-sonnet-4-5": 1.0,
    }


def test_the_shortest_prefix_that_anthropic_keeps_is_known_of_each_model_that_documents_it() -> None:
    assert {model: traits.min_cacheable_tokens for model, traits in CATALOGUE.models(ANTHROPIC).items()} == {
        **dict.fromkeys((HAIKU, SONNET, "claude-opus-5-5", "claude-opus-5"), 512),
        **dict.fromkeys(("claude-sonnet-5", "claude-sonnet-4-5"), 1024),
        "claude-haiku-4-5": 4096,
        **dict.fromkeys(("claude-fable-5-2", "claude-fable-5-1")),
    }


def test_the_end_of_a_model_is_known() -> None:
    ends = {model: traits.deprecated_on for name in VENDORS for model, traits in CATALOGUE.models(name).items()}
    assert {model: end for model, end in ends.items() if end} == {
        "claude-sonnet-4-5": date(2026, 11, 30),
        **dict.fromkeys(("gpt-5", "gpt-5-mini"), date(2026, 12, 11)),
        **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini"), date(2027, 1, 14)),
        "gpt-5.4-nano": date(2027, 4, 1),
        **dict.fromkeys(("gemini-3.7-flash", "gemini-3.5-flash"), date(2026, 10, 8)),  # others answer in their place
        "gemini-3.1-flash-lite": date(2027, 5, 7),
    }


# --- Corrections ------------------------------------------------------------------------------------------------------


def test_a_model_is_added_without_touching_the_others(tmp_path: Path) -> None:
    catalogue = corrected(tmp_path, {"openai": {"gpt-7": {"max_output_tokens": 9, "efforts": {"low": "small"}}}})
    assert catalogue.traits(OPENAI, "gpt-7") == ModelTraits(max_output_tokens=9, efforts={LOW: "small"})
    assert catalogue.models(OPENAI).items() > CATALOGUE.models(OPENAI).items()
    assert catalogue.models(ANTHROPIC) == CATALOGUE.models(ANTHROPIC)


def test_a_model_is_corrected_field_by_field(tmp_path: Path) -> None:
    shipped = CATALOGUE.traits(ANTHROPIC, HAIKU)
    catalogue = corrected(tmp_path, {"anthropic": {HAIKU: {"max_output_tokens": 5, "temperature": "always"}}})
    now = catalogue.traits(ANTHROPIC, HAIKU)
    assert (now.max_output_tokens, now.temperature) == (5, TemperatureUse.ALWAYS)
    assert (now.tier, now.efforts, now.context_tokens) == (shipped.tier, shipped.efforts, shipped.context_tokens)


def test_a_trait_is_taken_back_by_null_and_a_star_stands_for_what_is_not_listed(tmp_path: Path) -> None:
    stars = {"temperature": "always", "max_output_tokens": 100}
    catalogue = corrected(tmp_path, {"google": {"*": stars, "gemini-3.8-flash": {"tier": None}}})
    assert catalogue.traits(GOOGLE, "gemini-3.8-flash").tier is None
    assert catalogue.traits(GOOGLE, "gemini-9").max_output_tokens == 100
    assert "*" not in catalogue.models(GOOGLE)


def test_a_dated_name_is_its_model_unless_it_is_listed_itself(tmp_path: Path) -> None:
    catalogue = corrected(tmp_path, {"openai": {"gpt-6-luna-2026-09-22": {"max_output_tokens": 7}}})
    assert catalogue.traits(OPENAI, "gpt-6-luna-2026-09-22").max_output_tokens == 7
    for other in ("gpt-6-luna-2026-09-23", "gpt-6-luna-20260922"):
        assert catalogue.traits(OPENAI, other) == CATALOGUE.traits(OPENAI, "gpt-6-luna")


@pytest.mark.parametrize("content", [{}, {"openai": {}}, {"openai": {"gpt-7": {}}}])
def test_an_empty_correction_changes_no_model(tmp_path: Path, content: Any) -> None:
    catalogue = corrected(tmp_path, content)
    assert {name: dict(catalogue.models(name)) for name in VENDORS if name is not OPENAI} == {
        name: dict(CATALOGUE.models(name)) for name in VENDORS if name is not OPENAI
    }
    assert catalogue.traits(OPENAI, "gpt-7") == ModelTraits()


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_bytes(b"{}".ljust(MAX_FILE_BYTES))
    assert ModelCatalogue.load(tmp_path / "models.json").models(OPENAI) == CATALOGUE.models(OPENAI)
    (tmp_path / "models.json").write_bytes(b"{}".ljust(MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="MODEL_CATALOG_PATH: the file is larger than 4194304 bytes"):
        ModelCatalogue.load(tmp_path / "models.json")


SECRET = "s3cret"  # noqa: S105  stands for anything that an operator may have put into the wrong file
WRONG: dict[str, Any] = {
    "no JSON": f"{SECRET} {{",
    "an empty file": "",
    "a list": [SECRET],
    "a text": json.dumps(SECRET),
    "an unknown provider": {"azure": {"gpt": {"tier": SECRET}}},
    "an unknown trait": {"openai": {"gpt-7": {"colour": SECRET}}},
    "an unknown tier": {"openai": {"gpt-7": {"tier": SECRET}}},
    "an unknown effort": {"openai": {"gpt-7": {"efforts": {"extreme": SECRET}}}},
    "efforts in a list": {"openai": {"gpt-7": {"efforts": [SECRET]}}},
    "a number in words": {"openai": {"gpt-7": {"max_output_tokens": SECRET}}},
    "more than 64 bits": {"openai": {"gpt-7": {"context_tokens": 2**64}}},
    "one more than signed 64 bits": {"openai": {"gpt-7": {"min_cacheable_tokens": 2**63}}},
    "a truth value as a number": {"openai": {"gpt-7": {"max_output_tokens": True}}},
    "a wrong date": {"openai": {"gpt-7": {"deprecated_on": SECRET}}},
    "a parent segment": {"openai": {"a..b": {"tier": SECRET}}},
    "a path": {"google": {"../v1/models": {"tier": SECRET}}},
    "a blank in an id": {"openai": {"gpt 7": {"tier": SECRET}}},
    "an empty id": {"openai": {"": {"tier": SECRET}}},
    "traits in a list": {"openai": {"gpt-7": [SECRET]}},
    "models in a list": {"openai": [SECRET]},
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_by_the_name_of_its_setting_and_never_shown(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        corrected(tmp_path, content)
    assert str(refusal.value).startswith(f"{PREFIX}MODEL_CATALOG_PATH: ")
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no JSON", "the file is not a JSON object"),
        ("a list", "the file is not a JSON object"),
        ("more than 64 bits", "openai.gpt-7.context_tokens: Input should be less than or equal to 9223372036854775807"),
        ("an unknown trait", "gpt-7: there is no such trait: colour"),
        ("an unknown tier", "openai.gpt-7.tier: Input should be 'cheap' or 'strong'"),
        ("models in a list", "openai: Input should be an object"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        corrected(tmp_path, WRONG[name])
    assert str(refusal.value) == f"{PREFIX}MODEL_CATALOG_PATH: {complaint}."


def test_a_file_that_cannot_be_read_is_refused_without_its_path(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ConfigurationError) as refusal:
            ModelCatalogue.load(path)
        assert str(refusal.value) == f"{PREFIX}MODEL_CATALOG_PATH: the file cannot be read."


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigurationError, match="MODEL_CATALOG_PATH"):
        ModelCatalogue.load(path)


# --- What passes into a request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "effort", "sent"),
    [
        (ANTHROPIC, HAIKU, None, None),
        (ANTHROPIC, "claude-haiku-4-5", None, 0.2),
        (ANTHROPIC, "claude-haiku-4-5", NONE, 0.2),
        (OPENAI, "gpt-6-luna", NONE, 0.2),
        (OPENAI, "gpt-6-luna", LOW, None),
        (OPENAI, "gpt-6-luna", None, None),
        (OPENAI, "gpt-6.2-sol", NONE, None),
        (OPENAI, "gpt-4.1", None, 0.2),
        (GOOGLE, "gemini-3.8-flash", None, None),
        (OPENROUTER, "openai/gpt-6-luna", NONE, None),
        (OPENAI, "model-of-tomorrow", None, None),
        (INTERNAL, "llama", HIGH, 0.2),
    ],
)
def test_a_temperature_goes_only_to_who_takes_it_and_is_named_when_it_does_not(
    provider: ProviderName, model: str, effort: ReasoningEffort | None, sent: float | None
) -> None:
    asked, dropped = built(provider, model, temperature=0.2, reasoning_effort=effort)
    assert asked.temperature == sent
    assert ("temperature_override" in dropped) is (sent is None)
    by_default, dropped = built(provider, model, reasoning_effort=effort, settings={"default_temperature": 0.2})
    assert by_default.temperature == sent
    assert "temperature_override" not in dropped


@pytest.mark.parametrize(
    ("provider", "model", "wished", "sent"),
    [
        (ANTHROPIC, "claude-haiku-4-5", 1.0, 1.0),
        (ANTHROPIC, "claude-haiku-4-5", 1.01, None),
        (OPENAI, "gpt-4.1", 2.0, 2.0),
        (INTERNAL, "llama", 2.0, 2.0),
    ],
)
def test_a_temperature_that_the_model_would_refuse_as_too_high_is_left_out_and_named(
    provider: ProviderName, model: str, wished: float, sent: float | None
) -> None:
    asked, dropped = built(provider, model, temperature=wished)
    assert asked.temperature == sent
    assert dropped == (("temperature_override",) if sent is None else ())
    assert built(provider, model, settings={"default_temperature": wished})[0].temperature == sent


@pytest.mark.parametrize(
    ("provider", "model", "effort", "word", "is_dropped"),
    [
        (ANTHROPIC, HAIKU, NONE, "disabled", False),
        (ANTHROPIC, SONNET, NONE, "between_tools", False),
        (ANTHROPIC, "claude-opus-5-5", NONE, None, True),
        (ANTHROPIC, "claude-haiku-4-5", NONE, None, False),
        (ANTHROPIC, "claude-haiku-4-5", LOW, None, True),
        (OPENAI, "gpt-6-luna", HIGH, "high", False),
        (OPENAI, "gpt-6.1-sol", NONE, None, True),
        (GOOGLE, "gemini-3.8-flash", LOW, "LOW", False),
        (GOOGLE, "gemini-3.8-flash", NONE, None, True),
        (GOOGLE, "gemini-3.5-flash-lite", NONE, "MINIMAL", False),
        (GOOGLE, "gemini-2.5-flash", NONE, None, True),  # its budgets are an error for the model that replaces it
        (OPENROUTER, "anthropic/claude-haiku-5.5", NONE, "none", False),
        (OPENROUTER, "anthropic/claude-sonnet-5.5", NONE, None, True),
        (OPENAI, "model-of-tomorrow", LOW, None, True),
    ],
)
def test_an_effort_becomes_the_models_own_word(
    provider: ProviderName, model: str, effort: ReasoningEffort, word: str | None, *, is_dropped: bool
) -> None:
    asked, dropped = built(provider, model, reasoning_effort=effort)
    assert asked.reasoning == word
    assert dropped == (("reasoning_effort_override",) if is_dropped else ())
    assert built(provider, model)[0].reasoning is None


@pytest.mark.parametrize(
    ("model", "wished", "sent", "limit"),
    [
        ("gpt-6-luna", 128_000, 128_000, 128_000),
        ("gpt-6-luna", 128_001, 128_000, 128_000),
        ("gpt-4.1", 128_000, 32_768, 32_768),
        ("gpt-4.1", None, 4096, 32_768),
        ("model-of-tomorrow", 999_999, 999_999, 1_000_000),
        ("model-of-tomorrow", 2**63, 1_000_000, 1_000_000),
        ("gpt-6-luna-2026-09-22", 200_000, 128_000, 128_000),
    ],
)
def test_more_tokens_than_the_model_writes_are_not_asked_for(
    model: str, wished: int | None, sent: int, limit: int | None
) -> None:
    asked, dropped = built(OPENAI, model, max_tokens=wished)
    assert (asked.max_tokens, asked.max_tokens_limit) == (sent, limit)
    assert dropped == (("max_tokens_override",) if wished not in {None, sent} else ())


@pytest.mark.parametrize(("model", "shortest"), [(HAIKU, 512), ("claude-sonnet-5", 1024), ("claude-haiku-4-5", 4096)])
def test_a_prefix_is_marked_from_the_length_on_that_the_provider_keeps(model: str, shortest: int) -> None:
    shortest_prompt = built(ANTHROPIC, model, system_prompt="j")[0].prompt
    beside = len(shortest_prompt.system) - 1 + len(shortest_prompt.lead)
    for missing, is_marked in ((0, True), (1, False)):
        instructions = "j" * (shortest * BYTES_PER_TOKEN - beside - missing)
        assert built(ANTHROPIC, model, system_prompt=instructions)[0].marks_prefix is is_marked


def test_a_prefix_counts_in_bytes_as_most_scripts_take_more_tokens_for_as_many_letters() -> None:
    plain, thai = (built(ANTHROPIC, HAIKU, user_prompt=letter * 600)[0] for letter in ("g", "\u0e01"))
    assert (plain.marks_prefix, thai.marks_prefix) == (False, True)


def test_no_prefix_is_marked_where_nothing_is_known_or_the_task_begins_with_an_essay() -> None:
    long = "j" * 100_000
    assert not built(ANTHROPIC, "model-of-tomorrow", system_prompt=long)[0].marks_prefix
    for begins_with_an_essay in ("{essay_a} or {essay_b}?", " \n{essay_a} or {essay_b}?"):
        assert not built(ANTHROPIC, HAIKU, system_prompt=long, user_prompt=begins_with_an_essay)[0].marks_prefix
    assert built(ANTHROPIC, HAIKU, system_prompt=long, user_prompt="Is {essay_a} or {essay_b} better?")[0].marks_prefix
