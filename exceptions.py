"""What can go wrong and what it means: one class per decision.

The class answers every question about a failure: its code and status, whether to repeat it, whether it
counts against the provider's circuit, whether the next provider may be asked. `sentence` is all that a
caller is told besides `details`; neither ever holds a prompt, an essay, a key or foreign text.
"""

from typing import ClassVar

from api_models import AttemptOutcome, ErrorCode, ProviderName

STOPPING_RETRY_AFTER_S = 5.0


class ServiceError(Exception):
    """A failure that has an answer in the contract.

    details: which field, or what to do; our own words only.
    provider: who was asked. retry_after_s: seconds until it is worth trying again.
    """

    code: ClassVar[ErrorCode]
    status: ClassVar[int]
    sentence: ClassVar[str]
    is_retryable: ClassVar[bool] = False
    trips_circuit: ClassVar[bool] = False
    asks_next_provider: ClassVar[bool] = False

    def __init__(
        self, details: str, *, provider: ProviderName | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(details)
        self.details = details
        self.provider = provider
        self.retry_after_s = retry_after_s


# --- The caller's request ---------------------------------------------------------------------------------------------


class InvalidQueryError(ServiceError):
    """The request does not say what the contract asks for."""

    code, status = ErrorCode.VALIDATION_ERROR, 400
    sentence = "The request is not valid."


class BodyTooLargeError(ServiceError):
    """The body is larger than we read."""

    code, status = ErrorCode.VALIDATION_ERROR, 413
    sentence = "The request body is too large."


class BodyTooSlowError(ServiceError):
    """The body did not arrive in time."""

    code, status = ErrorCode.TIMEOUT, 408
    sentence = "The request body arrived too slowly."


class UnsupportedContentTypeError(ServiceError):
    """The body is declared to be something else than JSON in UTF-8."""

    code, status = ErrorCode.VALIDATION_ERROR, 415
    sentence = "The content type is not supported."


class RouteNotFoundError(ServiceError):
    """There is nothing at this path."""

    code, status = ErrorCode.RESOURCE_NOT_FOUND, 404
    sentence = "There is nothing at this path."


class MethodNotAllowedError(ServiceError):
    """The path exists, the method does not."""

    code, status = ErrorCode.INVALID_REQUEST, 405
    sentence = "The method is not allowed here."


class NotCachedError(ServiceError):
    """The caller wanted a known answer or none."""

    code, status = ErrorCode.RESOURCE_NOT_FOUND, 504
    sentence = "The answer is not cached."


class TestedTooOftenError(ServiceError):
    """A paid test of one provider is allowed once a minute."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "This provider was tested moments ago."


# --- The judge --------------------------------------------------------------------------------------------------------


class ProviderError(ServiceError):
    """A provider was asked, or would have been. outcome: how the attempt is called in reports."""

    outcome: ClassVar[AttemptOutcome]


class NoUsableProviderError(ServiceError):
    """The wanted provider, or every one, is disabled, without a key or not part of this service."""

    code, status = ErrorCode.CONFIGURATION_ERROR, 503
    sentence = "No usable provider is configured for this request."


class ProviderUnavailableError(ProviderError):
    """The provider failed or is overloaded; another attempt may succeed."""

    code, status = ErrorCode.EXTERNAL_SERVICE_ERROR, 503
    sentence = "The provider is not available."
    outcome = AttemptOutcome.UNAVAILABLE
    is_retryable = trips_circuit = asks_next_provider = True


class ProviderTimeoutError(ProviderError):
    """One attempt took longer than an attempt may."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The provider did not answer in time."
    outcome = AttemptOutcome.TIMEOUT
    is_retryable = trips_circuit = asks_next_provider = True


class DeadlineExceededError(ServiceError):
    """The time for the whole request is used up."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The request could not be answered in time."


# --- This service -----------------------------------------------------------------------------------------------------


class ServiceStoppingError(ServiceError):
    """This service is stopping: it takes no new work and may end running work."""

    code, status = ErrorCode.SERVICE_UNAVAILABLE, 503
    sentence = "This service is stopping."

    def __init__(self) -> None:
        super().__init__("ask another replica, or again in a moment", retry_after_s=STOPPING_RETRY_AFTER_S)


class DefectError(ServiceError):
    """A defect of ours; the log line with this correlation id has its type and place."""

    code, status = ErrorCode.UNKNOWN_ERROR, 500
    sentence = "The service met an unexpected error."
