"""The fingerprint is the identity under which answers are kept and shared: all of the question, nothing else."""

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import pytest

from api_models import ProviderName, ReasoningEffort
from implementations.judging.essay import Essay
from implementations.judging.prompt import Prompt
from implementations.request_builder_impl import RequestBuilderImpl
from protocols import Choice, MockKnobs, ProviderRequest
from tests.fakes import KNOBS, TEXTS, current_settings, prompt, query, request, tolerant_catalogue

# For every field one other value; a new field without one fails the first test.
OTHER_REQUEST: dict[str, Any] = {
    "provider": ProviderName.OPENAI,
    "model": "another",
    "prompt": replace(prompt(), system="Another."),
    "base_url": "http://another-server/v1",
    "max_tokens": 513,
    "max_tokens_limit": 1024,
    "temperature": 0.0,
    "reasoning": ReasoningEffort.NONE,
    "marks_prefix": True,
    "verdict_schema": "2",
    "replicate": 1,
    "mock": KNOBS,
}
OTHER_PROMPT: dict[str, Any] = {
    "version": "2",
    "system": "Judge fairly!",
    "task": "Which essay argues worse?",
    "essay_a": Essay("Essay C"),
    "essay_b": Essay("Essay C"),
}
OTHER_KNOBS: dict[str, Any] = {
    "seed": 2,
    "error_rate": 0.1,
    "latency_ms": 1,
    "latency_jitter_ms": 1,
    "position_bias": 0.1,
}


@pytest.mark.parametrize(
    ("noun", "others"), [(ProviderRequest, OTHER_REQUEST), (Prompt, OTHER_PROMPT), (MockKnobs, OTHER_KNOBS)]
)
def test_no_field_is_forgotten_here(noun: type[Any], others: dict[str, Any]) -> None:
    assert {field.name for field in fields(noun) if field.init} == set(others)


@pytest.mark.parametrize("name", OTHER_REQUEST)
def test_every_field_of_the_request_changes_the_fingerprint(name: str) -> None:
    assert request(**{name: OTHER_REQUEST[name]}).fingerprint() != request().fingerprint()


@pytest.mark.parametrize("name", OTHER_PROMPT)
def test_every_field_of_the_prompt_changes_the_fingerprint(name: str) -> None:
    changed = replace(prompt(), **{name: OTHER_PROMPT[name]})
    assert request(prompt=changed).fingerprint() != request().fingerprint()


@pytest.mark.parametrize("name", OTHER_KNOBS)
def test_every_knob_of_the_mock_changes_the_fingerprint(name: str) -> None:
    changed = replace(KNOBS, **{name: OTHER_KNOBS[name]})
    assert request(mock=changed).fingerprint() != request(mock=KNOBS).fingerprint()


def test_equal_questions_have_equal_fingerprints() -> None:
    assert request().fingerprint() == request().fingerprint()
    assert len(bytes.fromhex(request().fingerprint())) == 32


def test_text_that_moves_from_one_part_to_the_next_is_another_question() -> None:
    moved = replace(prompt(), system="Judge fairly.W", task="hich essay argues better?")
    assert moved.system + moved.user_text == prompt().system + prompt().user_text
    assert moved.sha256 != prompt().sha256
    assert request(prompt=moved).fingerprint() != request().fingerprint()


def built(
    provider: ProviderName = ProviderName.OPENAI, *, base_url: str = "http://server/v1", **asked: Any
) -> ProviderRequest:
    builder = RequestBuilderImpl(catalogue=tolerant_catalogue(), base_urls={provider: base_url})
    ((complete, _),) = builder.build(query(**asked), (Choice(provider=provider),), current_settings())
    return complete


def test_essays_that_differ_only_after_two_thousand_characters_are_different_questions() -> None:
    beginning = "The same beginning. " * 150
    one, other = built(essay_a=beginning + "x"), built(essay_a=beginning + "y")
    assert one.fingerprint() != other.fingerprint()
    assert one.prompt.sha256 != other.prompt.sha256


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_of_a_question_is_part_of_the_prompt(name: str) -> None:
    changes: dict[str, Any] = {name: "Something else."}
    asked = built(**changes)
    assert "Something else." in asked.prompt.system + asked.prompt.user_text, "build_prompt in judging/prompt.py"
    assert asked.fingerprint() != built().fingerprint()


def test_swapped_essays_are_another_question() -> None:
    one, other = built(essay_a="left", essay_b="right"), built(essay_a="right", essay_b="left")
    assert one.fingerprint() != other.fingerprint()


def test_the_same_model_name_at_another_server_is_another_question() -> None:
    one, other = (built(ProviderName.INTERNAL, base_url=f"http://{name}/v1") for name in ("old", "new"))
    assert one.fingerprint() != other.fingerprint()


def test_who_asks_and_about_what_else_is_no_part_of_the_question() -> None:
    by_another = built(
        correlation_id=UUID(int=1), user_id="somebody", caller="another", metadata={"other": 1}, timeout_s=3.0
    )
    assert by_another.fingerprint() == built().fingerprint()


def test_nothing_is_laid_out_for_the_fingerprint() -> None:
    asked = request()
    asked.fingerprint()
    assert not vars(asked.prompt).keys() & {"user_text", "_measures"}
    assert asked.prompt.sha256
    assert vars(asked.prompt).keys() >= {"user_text", "_measures"}
