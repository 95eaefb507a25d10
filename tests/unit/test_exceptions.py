"""Every failure has one answer, and the classes agree with each other."""

from collections.abc import Iterator

import pytest

import exceptions
from api_models import AttemptOutcome, ErrorCode


def concrete(base: type[exceptions.ServiceError] = exceptions.ServiceError) -> Iterator[type[exceptions.ServiceError]]:
    for kind in base.__subclasses__():
        if hasattr(kind, "code"):
            yield kind
        yield from concrete(kind)


@pytest.mark.parametrize("kind", list(concrete()), ids=lambda kind: kind.__name__)
def test_every_failure_has_a_code_a_status_and_one_sentence(kind: type[exceptions.ServiceError]) -> None:
    assert isinstance(kind.code, ErrorCode)
    assert 400 <= kind.status <= 599
    assert kind.sentence[0].isupper()
    assert kind.sentence.endswith(".")
    if issubclass(kind, exceptions.ProviderError):
        assert isinstance(kind.outcome, AttemptOutcome)


@pytest.mark.parametrize("kind", list(concrete()), ids=lambda kind: kind.__name__)
def test_what_may_be_repeated_may_be_asked_of_the_next_provider(kind: type[exceptions.ServiceError]) -> None:
    assert kind.asks_next_provider or not kind.is_retryable
