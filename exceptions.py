"""What can go wrong and what it means: one class per decision.

The class answers every question about a failure: its code and status, whether to repeat it (and then once at most,
or after a longer wait), whether it counts against the provider's circuit, whether the next provider may be asked, and
how it is counted when it turns a caller away: as a mistake of his (rejection) or for want of room (shed).
`sentence` is all that a caller is told besides `details`; neither ever holds a prompt, an essay, a key or foreign text.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from api_models import AttemptOutcome, ErrorCode, ProviderName, Purchase, RejectReason, ShedReason

STOPPING_RETRY_AFTER_S = 5.0


class ServiceError(Exception):
    """A failure that has an answer in the contract.

    details: which field, or what to do; our own words only.
    provider: who was asked. retry_after_s: seconds until it is worth trying again. attempts: what was tried for the
    request that ends with this.
    """

    code: ClassVar[ErrorCode]
    status: ClassVar[int]
    sentence: ClassVar[str]
    is_retryable: ClassVar[bool] = False
    repeats_once: ClassVar[bool] = False
    throttles: ClassVar[bool] = False
    trips_circuit: ClassVar[bool] = False
    forces_open: ClassVar[bool] = False
    is_billed: ClassVar[bool] = False
    asks_next_provider: ClassVar[bool] = False
    provider_was_asked: ClassVar[bool] = False
    rejection: ClassVar[RejectReason | None] = None
    shed: ShedReason | None = None

    def __init__(
        self, details: str, *, provider: ProviderName | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(details)
        self.details = details
        self.provider = provider
        self.retry_after_s = retry_after_s
        self.attempts: Sequence[str] = ()


# --- The caller's request ---------------------------------------------------------------------------------------------


class InvalidQueryError(ServiceError):
    """The request does not say what the contract asks for."""

    code, status = ErrorCode.VALIDATION_ERROR, 400
    sentence = "The request is not valid."
    rejection = RejectReason.INVALID


class BodyTooLargeError(ServiceError):
    """The body is larger than we read."""

    code, status = ErrorCode.VALIDATION_ERROR, 413
    sentence = "The request body is too large."
    rejection = RejectReason.TOO_LARGE


class BodyTooSlowError(ServiceError):
    """The body did not arrive in time."""

    code, status = ErrorCode.TIMEOUT, 408
    sentence = "The request body arrived too slowly."
    rejection = RejectReason.TOO_SLOW


class UnsupportedContentTypeError(ServiceError):
    """The body is declared to be something else than JSON in UTF-8."""

    code, status = ErrorCode.VALIDATION_ERROR, 415
    sentence = "The content type is not supported."
    rejection = RejectReason.CONTENT_TYPE


class RouteNotFoundError(ServiceError):
    """There is nothing at this path."""

    code, status = ErrorCode.RESOURCE_NOT_FOUND, 404
    sentence = "There is nothing at this path."
    rejection = RejectReason.UNKNOWN_PATH


class MethodNotAllowedError(ServiceError):
    """The path exists, the method does not."""

    code, status = ErrorCode.INVALID_REQUEST, 405
    sentence = "The method is not allowed here."
    rejection = RejectReason.UNKNOWN_METHOD


class NotCachedError(ServiceError):
    """The caller wanted a known answer or none."""

    code, status = ErrorCode.RESOURCE_NOT_FOUND, 504
    sentence = "The answer is not cached."


class TestedTooOftenError(ServiceError):
    """A paid test of one provider is allowed once a minute."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "This provider was tested moments ago."
    rejection = RejectReason.TOO_OFTEN


class CallerKeyRefusedError(ServiceError):
    """The caller showed no key, or none that we know."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 401
    sentence = "This needs a caller's key."
    rejection = RejectReason.UNAUTHORIZED


class AdminAddressRefusedError(ServiceError):
    """Administrators are somewhere else; no key is looked at."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 403
    sentence = "The service is not administered from this address."
    rejection = RejectReason.UNAUTHORIZED


class AdminKeyRefusedError(ServiceError):
    """The caller did not show the administrator's key."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 401
    sentence = "This needs the administrator's key."
    rejection = RejectReason.UNAUTHORIZED


class AdminTriedTooOftenError(ServiceError):
    """Somebody at this address tried wrong keys; for a while no key is looked at."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "There were too many wrong keys from this address."
    rejection = RejectReason.TOO_OFTEN


class StaleVersionError(ServiceError):
    """The administrator meant another version of the settings than the one in force."""

    code, status = ErrorCode.INVALID_REQUEST, 412
    sentence = "The settings were changed by somebody else."
    rejection = RejectReason.STALE_VERSION


# --- The judge --------------------------------------------------------------------------------------------------------


class NoUsableProviderError(ServiceError):
    """The wanted provider, or every one, is disabled, without a key or not part of this service."""

    code, status = ErrorCode.CONFIGURATION_ERROR, 503
    sentence = "No usable provider is configured for this request."


class ProviderError(ServiceError):
    """A provider was asked and gave no verdict; unless the class says otherwise another provider may be.

    outcome: how the attempt is called in reports. purchase: what was billed all the same.
    is_final: the provider itself said that repeating is of no use. opened_circuit: this failure was one too many.
    """

    outcome: ClassVar[AttemptOutcome]
    asks_next_provider = provider_was_asked = True

    def __init__(
        self,
        details: str,
        *,
        provider: ProviderName | None = None,
        retry_after_s: float | None = None,
        purchase: Purchase | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(details, provider=provider, retry_after_s=retry_after_s)
        self.purchase = purchase
        self.is_final = is_final
        self.opened_circuit = False

    @property
    def may_be_repeated(self) -> bool:
        """The class allows it and the provider did not forbid it."""
        return self.is_retryable and not self.is_final


class ProviderUnavailableError(ProviderError):
    """The provider failed; another attempt may succeed."""

    code, status = ErrorCode.EXTERNAL_SERVICE_ERROR, 503
    sentence = "The provider is not available."
    outcome = AttemptOutcome.UNAVAILABLE
    is_retryable = trips_circuit = True


class ProviderOverloadedError(ProviderError):
    """The provider has too much to do; another attempt may succeed after a longer wait."""

    code, status = ErrorCode.EXTERNAL_SERVICE_ERROR, 503
    sentence = "The provider is overloaded."
    outcome = AttemptOutcome.OVERLOADED
    is_retryable = trips_circuit = throttles = True


class ProviderConnectionError(ProviderError):
    """No connection came about."""

    code, status = ErrorCode.CONNECTION_ERROR, 503
    sentence = "The provider could not be reached."
    outcome = AttemptOutcome.CONNECTION
    is_retryable = trips_circuit = True


class ConnectionLostError(ProviderConnectionError):
    """It broke before the answer began; the provider may have been at work, and may bill."""

    sentence = "The connection to the provider broke before it answered."
    outcome = AttemptOutcome.RESET


class NoFileLeftError(ProviderConnectionError):
    """Connections are files, and this process has none left: that says nothing of the provider."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    sentence = "This service has too much to do."
    trips_circuit = provider_was_asked = False


class UntrustedProviderError(ProviderError):
    """Whoever answered could not prove to be the provider; repeating does not change a certificate."""

    code, status = ErrorCode.CONNECTION_ERROR, 503
    sentence = "The provider could not prove who it is."
    outcome = AttemptOutcome.TLS
    trips_circuit = True


class AttemptCutShortError(ProviderError):
    """The request's own time ended the attempt so early that its silence says nothing about the provider."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The provider did not answer in the time that was left."
    outcome = AttemptOutcome.CUT_SHORT


class ProviderTimeoutError(ProviderError):
    """One attempt took longer than an attempt may."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The provider did not answer in time."
    outcome = AttemptOutcome.TIMEOUT
    is_retryable = trips_circuit = True


class BrokenReplyError(ProviderError):
    """The answer broke on the wire: cut off, HTML or otherwise not JSON."""

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's answer was broken."
    outcome = AttemptOutcome.BROKEN
    is_retryable = trips_circuit = True


class UnreadableReplyError(ProviderError):
    """The answer is one that we do not read, and the next would be as well: a redirect, or more than we take."""

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's answer cannot be read."
    outcome = AttemptOutcome.UNREADABLE
    trips_circuit = True


class InvalidReplyError(ProviderError):
    """The provider answered well-formed, but it is not a verdict."""

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's answer is not a valid verdict."
    outcome = AttemptOutcome.MALFORMED
    is_retryable = repeats_once = is_billed = True


class TruncatedReplyError(ProviderError):
    """The answer was cut off by the token limit. larger_max_tokens: the limit to repeat it with, None if there is none.

    The request with that limit is the amended one; identity and cache key stay those of the original.
    """

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's answer was cut off by the token limit."
    outcome = AttemptOutcome.TRUNCATED
    is_retryable = repeats_once = True

    def __init__(self, details: str, *, purchase: Purchase, larger_max_tokens: int | None) -> None:
        super().__init__(details, purchase=purchase, is_final=larger_max_tokens is None)
        self.larger_max_tokens = larger_max_tokens


class ContentRefusedError(ProviderError):
    """The model, or a filter around it, declines to judge this text."""

    code, status = ErrorCode.CONTENT_REFUSED, 422
    sentence = "The provider refused to judge these essays."
    outcome = AttemptOutcome.REFUSED


class RateLimitedError(ProviderError):
    """The provider throttles us."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "The provider throttles our requests."
    outcome = AttemptOutcome.RATE_LIMITED
    is_retryable = throttles = True


class QuotaExceededError(ProviderError):
    """Our money or quota at the provider is used up."""

    code, status = ErrorCode.QUOTA_EXCEEDED, 503
    sentence = "The quota or credit at the provider is used up."
    outcome = AttemptOutcome.QUOTA
    forces_open = True


class ProviderAuthenticationError(ProviderError):
    """The provider refuses our key or our account."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 502
    sentence = "The provider refused our key."
    outcome = AttemptOutcome.AUTHENTICATION
    forces_open = True


class UnknownModelError(ProviderError):
    """The provider does not offer this model, or not to us."""

    code, status = ErrorCode.CONFIGURATION_ERROR, 503
    sentence = "The provider does not offer this model."
    outcome = AttemptOutcome.UNKNOWN_MODEL


class RequestRejectedError(ProviderError):
    """The provider calls our request invalid; so would the next one."""

    code, status = ErrorCode.INVALID_REQUEST, 422
    sentence = "The provider calls the request invalid."
    outcome = AttemptOutcome.INVALID_REQUEST
    asks_next_provider = False


class ContextTooLongError(ProviderError):
    """The essays do not fit into the model's window; another model's may be larger."""

    code, status = ErrorCode.INVALID_REQUEST, 422
    sentence = "The essays are too long for the model."
    outcome = AttemptOutcome.INVALID_REQUEST


class CircuitOpenError(ServiceError):
    """The provider failed so often, or an operator decided, that it is not asked now."""

    code, status = ErrorCode.CIRCUIT_BREAKER_OPEN, 503
    sentence = "The provider is not asked at the moment."
    asks_next_provider = True


class ThrottlePausedError(ServiceError):
    """The provider asked for a pause that is longer than this request can wait."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "The provider throttles our requests."
    asks_next_provider = True


class DeadlineExceededError(ServiceError):
    """The time for the whole request is used up."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The request could not be answered in time."
    asks_next_provider = provider_was_asked = True


# --- This service -----------------------------------------------------------------------------------------------------


class ServiceOverloadedError(ServiceError):
    """More is asked than this service, or its share of a provider, can do in time."""

    code, status = ErrorCode.SERVICE_UNAVAILABLE, 503
    sentence = "This service has too much to do."
    asks_next_provider = True

    def __init__(
        self, details: str, *, shed: ShedReason = ShedReason.QUEUE_FULL, retry_after_s: float | None = None
    ) -> None:
        super().__init__(details, retry_after_s=retry_after_s)
        self.shed = shed


class CostLimitExceededError(ServiceError):
    """The call could cost more than is left to spend, or nobody knows what; another one's may cost less, or nothing."""

    code, status = ErrorCode.COST_LIMIT_EXCEEDED, 402
    sentence = "The cost limit of this service is reached."
    asks_next_provider = True


class ServiceStoppingError(ServiceError):
    """This service is stopping: it takes no new work and may end running work."""

    code, status = ErrorCode.SERVICE_UNAVAILABLE, 503
    sentence = "This service is stopping."
    shed = ShedReason.STOPPING

    def __init__(self) -> None:
        super().__init__("ask another replica, or again in a moment", retry_after_s=STOPPING_RETRY_AFTER_S)


class DefectError(ServiceError):
    """A defect of ours; the log line with this correlation id has its type and place."""

    code, status = ErrorCode.UNKNOWN_ERROR, 500
    sentence = "The service met an unexpected error."


def failures(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """Every class that has an answer."""
    for kind in base.__subclasses__():
        if hasattr(kind, "code"):
            yield kind
        yield from failures(kind)
