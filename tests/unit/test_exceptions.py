"""Every failure has one answer, and the classes agree with each other."""

import pytest

import exceptions
from api.openapi.advice import ADVICE
from api.openapi.failures import EXAMPLES
from api_models import AttemptOutcome, ErrorCode, RejectReason


@pytest.mark.parametrize("kind", list(exceptions.failures()), ids=lambda kind: kind.__name__)
def test_every_failure_has_a_code_a_status_and_one_sentence(kind: type[exceptions.ServiceError]) -> None:
    assert isinstance(kind.code, ErrorCode)
    assert 400 <= kind.status <= 599
    assert kind.sentence[0].isupper()
    assert kind.sentence.endswith(".")
    if issubclass(kind, exceptions.ProviderError):
        assert isinstance(kind.outcome, AttemptOutcome)


@pytest.mark.parametrize("kind", list(exceptions.failures()), ids=lambda kind: kind.__name__)
def test_what_may_be_retried_may_be_asked_of_the_next_provider(kind: type[exceptions.ServiceError]) -> None:
    assert kind.asks_next_provider or not kind.is_retryable


# As published to callers; a class that is missing here fails the test below.
PUBLISHED = {
    exceptions.InvalidQueryError: (400, "VALIDATION_ERROR"),
    exceptions.BodyTooLargeError: (413, "VALIDATION_ERROR"),
    exceptions.BodyTooSlowError: (408, "TIMEOUT"),
    exceptions.UnsupportedContentTypeError: (415, "VALIDATION_ERROR"),
    exceptions.RouteNotFoundError: (404, "RESOURCE_NOT_FOUND"),
    exceptions.MethodNotAllowedError: (405, "INVALID_REQUEST"),
    exceptions.NotCachedError: (504, "RESOURCE_NOT_FOUND"),
    exceptions.TestedTooOftenError: (429, "RATE_LIMIT"),
    exceptions.CallerKeyRefusedError: (401, "AUTHENTICATION_ERROR"),
    exceptions.AdminAddressRefusedError: (403, "AUTHENTICATION_ERROR"),
    exceptions.AdminKeyRefusedError: (401, "AUTHENTICATION_ERROR"),
    exceptions.AdminTriedTooOftenError: (429, "RATE_LIMIT"),
    exceptions.StaleVersionError: (412, "INVALID_REQUEST"),
    exceptions.NoUsableProviderError: (503, "CONFIGURATION_ERROR"),
    exceptions.ProviderUnavailableError: (503, "EXTERNAL_SERVICE_ERROR"),
    exceptions.ProviderOverloadedError: (503, "EXTERNAL_SERVICE_ERROR"),
    exceptions.ProviderConnectionError: (503, "CONNECTION_ERROR"),
    exceptions.ConnectionLostError: (503, "CONNECTION_ERROR"),
    exceptions.NoConnectionLeftError: (503, "SERVICE_UNAVAILABLE"),
    exceptions.UntrustedProviderError: (503, "CONNECTION_ERROR"),
    exceptions.ProviderTimeoutError: (504, "TIMEOUT"),
    exceptions.AttemptCutShortError: (504, "TIMEOUT"),
    exceptions.CircuitOpenError: (503, "CIRCUIT_BREAKER_OPEN"),
    exceptions.ThrottlePausedError: (429, "RATE_LIMIT"),
    exceptions.OverloadPausedError: (503, "EXTERNAL_SERVICE_ERROR"),
    exceptions.ServiceOverloadedError: (503, "SERVICE_UNAVAILABLE"),
    exceptions.BrokenReplyError: (502, "INVALID_RESPONSE"),
    exceptions.UnreadableReplyError: (502, "INVALID_RESPONSE"),
    exceptions.InvalidReplyError: (502, "INVALID_RESPONSE"),
    exceptions.TruncatedReplyError: (502, "INVALID_RESPONSE"),
    exceptions.ContentRefusedError: (422, "CONTENT_REFUSED"),
    exceptions.RateLimitedError: (429, "RATE_LIMIT"),
    exceptions.ModelRateLimitedError: (429, "RATE_LIMIT"),
    exceptions.QuotaExceededError: (503, "QUOTA_EXCEEDED"),
    exceptions.ProviderAuthenticationError: (502, "AUTHENTICATION_ERROR"),
    exceptions.UnknownModelError: (503, "CONFIGURATION_ERROR"),
    exceptions.RequestRejectedError: (422, "INVALID_REQUEST"),
    exceptions.ContextTooLongError: (422, "INVALID_REQUEST"),
    exceptions.DeadlineExceededError: (504, "TIMEOUT"),
    exceptions.CostLimitExceededError: (402, "COST_LIMIT_EXCEEDED"),
    exceptions.ServiceStoppingError: (503, "SERVICE_UNAVAILABLE"),
    exceptions.DefectError: (500, "UNKNOWN_ERROR"),
}


def test_every_failure_answers_as_published() -> None:
    assert {kind: (kind.status, kind.code) for kind in exceptions.failures()} == PUBLISHED


def test_every_failure_has_an_example_and_advice() -> None:
    kinds = set(exceptions.failures())
    assert set(EXAMPLES) == kinds, "EXAMPLES in api/openapi/failures.py"
    assert set(ADVICE) == {(kind.status, kind.code) for kind in kinds}, "ADVICE in api/openapi/advice.py"


def test_whoever_is_turned_away_before_any_judge_is_asked_is_counted_under_a_reason() -> None:
    own = {
        kind for kind in exceptions.failures() if kind.status < 500 and not issubclass(kind, exceptions.ProviderError)
    }
    counted = {kind for kind in exceptions.failures() if kind.rejection is not None}

    assert own - counted == {exceptions.ThrottlePausedError, exceptions.CostLimitExceededError}, (
        "the caller's mistake has a `rejection`; what is none stands here"
    )
    assert {kind.rejection for kind in counted} == set(RejectReason)
