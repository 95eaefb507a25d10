"""What can go wrong and how it is handled: one class per decision.

The class answers every question about a failure, by the attributes that `ServiceError` lists. Callers see only
`sentence` and `details`; neither ever contains a prompt, an essay, a key or foreign text.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from api_models import AttemptOutcome, ErrorCode, ProviderName, Purchase, RejectReason, ShedReason

OVERLOADED_RETRY_AFTER_S, STOPPING_RETRY_AFTER_S = 1.0, 5.0


class ServiceError(Exception):
    """A failure with a defined HTTP response.

    details: which field, or what to do; our own words only. provider: the one concerned, if any. retry_after_s:
    seconds until a retry is worthwhile. attempts_in_words: the calls made for the request that ends with this failure;
    cost_usd: what they cost in US dollars, None if a price is unknown.
    """

    # The response.
    code: ClassVar[ErrorCode]
    status: ClassVar[int]
    sentence: ClassVar[str]
    # Is the same provider asked again, and when?
    is_retryable: ClassVar[bool] = False  # unless this one is final
    is_retried_once: ClassVar[bool] = False  # and at once, but not after a second failure of this class
    throttles: ClassVar[bool] = False  # after a longer wait; its Retry-After holds back all calls to it
    trips_circuit: ClassVar[bool] = False  # the failure counts against its circuit
    forces_open: ClassVar[bool] = False  # the failure opens its circuit for minutes
    # Are other providers asked?
    asks_next_provider: ClassVar[bool] = False
    asks_one_other: ClassVar[bool] = False  # but none after a second failure of this class
    # What happened, and how is it counted?
    provider_was_asked: bool = False
    is_billed: ClassVar[bool] = False  # even if the usage cannot be read
    ran_out_of_time: bool = False  # the flight had no time for another attempt; a request that has may join the next
    rejection: ClassVar[RejectReason | None] = None  # the request is refused as the caller's mistake
    shed: ShedReason | None = None  # it is refused for lack of capacity

    def __init__(
        self, details: str, *, provider: ProviderName | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(details)
        self.details = details
        self.provider = provider
        self.retry_after_s = retry_after_s
        self.attempts_in_words: Sequence[str] = ()
        self.cost_usd: float | None = 0.0

    @property
    def in_words(self) -> str:
        """The sentence and the details, for operators."""
        return f"{self.sentence} ({self.details})"

    @property
    def pause_s(self) -> float:
        """Seconds for which the provider wants no calls at all; 0 if it asks for no such pause."""
        return (self.retry_after_s or 0.0) if self.throttles else 0.0

    def repeats(self, earlier: Iterable["ServiceError"]) -> bool:
        """Whether one of the earlier failures is of the same class."""
        return any(type(one) is type(self) for one in earlier)


# --- The caller's request ---------------------------------------------------------------------------------------------


class InvalidQueryError(ServiceError):
    """The request violates the contract."""

    code, status = ErrorCode.VALIDATION_ERROR, 400
    sentence = "The request is not valid."
    rejection = RejectReason.INVALID


class BodyTooLargeError(ServiceError):
    """The body exceeds the size limit."""

    code, status = ErrorCode.VALIDATION_ERROR, 413
    sentence = "The request body is too large."
    rejection = RejectReason.TOO_LARGE


class BodyTooSlowError(ServiceError):
    """The body did not arrive in time."""

    code, status = ErrorCode.TIMEOUT, 408
    sentence = "The request body arrived too slowly."
    rejection = RejectReason.TOO_SLOW


class UnsupportedContentTypeError(ServiceError):
    """The body is declared as something other than UTF-8 JSON."""

    code, status = ErrorCode.VALIDATION_ERROR, 415
    sentence = "The content type is not supported."
    rejection = RejectReason.CONTENT_TYPE


class RouteNotFoundError(ServiceError):
    """No route matches this path."""

    code, status = ErrorCode.RESOURCE_NOT_FOUND, 404
    sentence = "This path does not exist."
    rejection = RejectReason.UNKNOWN_PATH


class MethodNotAllowedError(ServiceError):
    """The path exists but does not support this method."""

    code, status = ErrorCode.INVALID_REQUEST, 405
    sentence = "This path does not support this method."
    rejection = RejectReason.UNKNOWN_METHOD


class NotCachedError(ServiceError):
    """The caller sent `only-if-cached`, and nothing is cached."""

    code, status = ErrorCode.RESOURCE_NOT_FOUND, 504
    sentence = "The answer is not cached."
    asks_next_provider = True


class TestedTooOftenError(ServiceError):
    """A paid test of one provider is allowed once a minute."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "This provider was tested moments ago."
    rejection = RejectReason.TOO_OFTEN


class CallerKeyRefusedError(ServiceError):
    """The caller sent no key, or an unknown one."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 401
    sentence = "A valid caller key is required."
    rejection = RejectReason.UNAUTHORIZED


class AdminAddressRefusedError(ServiceError):
    """The address is not in ADMIN_ALLOWED_IPS; no key is checked."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 403
    sentence = "Administration is not allowed from this address."
    rejection = RejectReason.UNAUTHORIZED


class AdminKeyRefusedError(ServiceError):
    """The request did not carry the administrator's key."""

    code, status = ErrorCode.AUTHENTICATION_ERROR, 401
    sentence = "The administrator's key is required."
    rejection = RejectReason.UNAUTHORIZED


class AdminTriedTooOftenError(ServiceError):
    """Too many wrong keys came from this address; for a while no key from it is checked."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "Too many wrong keys came from this address."
    rejection = RejectReason.TOO_OFTEN


class StaleVersionError(ServiceError):
    """If-Match names a version of the settings other than the one in force."""

    code, status = ErrorCode.INVALID_REQUEST, 412
    sentence = "The settings have changed since this version."
    rejection = RejectReason.STALE_VERSION


# --- The judge --------------------------------------------------------------------------------------------------------


class NoUsableProviderError(ServiceError):
    """The requested provider, or every candidate, is disabled, not configured or unknown."""

    code, status = ErrorCode.CONFIGURATION_ERROR, 503
    sentence = "No usable provider is configured for this request."


class ProviderError(ServiceError):
    """A provider was asked and gave no verdict; unless the class says otherwise, the next one may be asked.

    outcome: the attempt's name in reports. purchase: what was billed nevertheless. is_final: no retry, although the
    class allows one: the provider, the model's token limit or an earlier attempt rules it out. opened_circuit: this
    failure opened the circuit.
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
    def may_be_retried(self) -> bool:
        """Whether the class allows a retry and nothing rules it out."""
        return self.is_retryable and not self.is_final


class ProviderUnavailableError(ProviderError):
    """The provider failed; another attempt may succeed."""

    code, status = ErrorCode.EXTERNAL_SERVICE_ERROR, 503
    sentence = "The provider is not available."
    outcome = AttemptOutcome.UNAVAILABLE
    is_retryable = trips_circuit = True


class ProviderOverloadedError(ProviderError):
    """The provider is overloaded; another attempt may succeed after a longer wait."""

    code, status = ErrorCode.EXTERNAL_SERVICE_ERROR, 503
    sentence = "The provider is overloaded."
    outcome = AttemptOutcome.OVERLOADED
    is_retryable = trips_circuit = throttles = True


class ProviderConnectionError(ProviderError):
    """No connection could be established."""

    code, status = ErrorCode.CONNECTION_ERROR, 503
    sentence = "The provider could not be reached."
    outcome = AttemptOutcome.CONNECTION
    is_retryable = trips_circuit = True


class ConnectionLostError(ProviderConnectionError):
    """The connection broke before the response began; the provider may have done the work, and may bill it."""

    sentence = "The connection to the provider broke before it answered."
    outcome = AttemptOutcome.RESET


class NoConnectionLeftError(ProviderConnectionError):
    """We have no file descriptor, port or memory left for a connection, which says nothing about the provider."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    sentence = "This service is overloaded."
    trips_circuit = provider_was_asked = False


class UntrustedProviderError(ProviderError):
    """TLS verification failed; retrying does not change a certificate."""

    code, status = ErrorCode.CONNECTION_ERROR, 503
    sentence = "The provider's TLS certificate could not be verified."
    outcome = AttemptOutcome.TLS
    trips_circuit = True


class AttemptCutShortError(ProviderError):
    """The request ended the attempt so early that the silence says nothing about the provider, or before it began."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The provider did not answer in the remaining time."
    outcome = AttemptOutcome.CUT_SHORT


class ProviderTimeoutError(ProviderError):
    """One attempt exceeded the attempt timeout."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The provider did not answer in time."
    outcome = AttemptOutcome.TIMEOUT
    is_retryable = trips_circuit = True


class BrokenReplyError(ProviderError):
    """The response broke on the wire: truncated, HTML or otherwise not JSON."""

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's response was malformed."
    outcome = AttemptOutcome.BROKEN
    is_retryable = trips_circuit = True


class UnreadableReplyError(ProviderError):
    """A response that we do not accept, and that a retry would not change.

    A redirect, one over the size limit, a firewall's refusal, or what something else than the provider says to a
    look-up.
    """

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's response cannot be read."
    outcome = AttemptOutcome.UNREADABLE
    trips_circuit = True


class InvalidReplyError(ProviderError):
    """The response is well-formed but not a verdict."""

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's answer is not a valid verdict."
    outcome = AttemptOutcome.MALFORMED
    is_retryable = is_retried_once = is_billed = True


class TruncatedReplyError(ProviderError):
    """The token limit cut the answer off.

    The retry is a request with a larger limit; identity and cache key stay those of the original.
    """

    code, status = ErrorCode.INVALID_RESPONSE, 502
    sentence = "The provider's answer was cut off by the token limit."
    outcome = AttemptOutcome.TRUNCATED
    is_retryable = is_retried_once = True


class ContentRefusedError(ProviderError):
    """The model, or a content filter, declines to judge this text; a second refusal by another provider is final."""

    code, status = ErrorCode.CONTENT_REFUSED, 422
    sentence = "The provider refused to judge these essays."
    outcome = AttemptOutcome.REFUSED
    asks_one_other = True


class RateLimitedError(ProviderError):
    """The provider is rate-limiting us."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "The provider is rate-limiting our requests."
    outcome = AttemptOutcome.RATE_LIMITED
    is_retryable = throttles = True


class ModelRateLimitedError(RateLimitedError):
    """Likewise, but only the requests for this model: calls for others are not held back."""

    throttles = False


class QuotaExceededError(ProviderError):
    """Our quota or credit at the provider is exhausted."""

    code, status = ErrorCode.QUOTA_EXCEEDED, 503
    sentence = "The provider's quota or credit is exhausted."
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
    """The provider rejected our request as invalid; so would the next one."""

    code, status = ErrorCode.INVALID_REQUEST, 422
    sentence = "The provider rejected the request as invalid."
    outcome = AttemptOutcome.INVALID_REQUEST
    asks_next_provider = False


class ContextTooLongError(ProviderError):
    """The essays do not fit into the model's context window; another model's may be larger."""

    code, status = ErrorCode.INVALID_REQUEST, 422
    sentence = "The essays are too long for the model."
    outcome = AttemptOutcome.INVALID_REQUEST


class CircuitOpenError(ServiceError):
    """The circuit is open, after too many failures or held open, so the provider is not asked."""

    code, status = ErrorCode.CIRCUIT_BREAKER_OPEN, 503
    sentence = "The circuit breaker for this provider is open."
    asks_next_provider = True


class ThrottlePausedError(ServiceError):
    """The provider asked for a longer pause than this request can wait."""

    code, status = ErrorCode.RATE_LIMIT, 429
    sentence = "The provider is rate-limiting our requests."
    throttles = asks_next_provider = True


class OverloadPausedError(ThrottlePausedError):
    """Likewise, because it is overloaded."""

    code, status = ErrorCode.EXTERNAL_SERVICE_ERROR, 503
    sentence = "The provider is overloaded."


class DeadlineExceededError(ServiceError):
    """The request's deadline has passed. provider_was_asked: False if it had passed before any call."""

    code, status = ErrorCode.TIMEOUT, 504
    sentence = "The request could not be answered in time."
    asks_next_provider = True

    def __init__(self, *, provider: ProviderName, provider_was_asked: bool) -> None:
        super().__init__("the request's deadline has passed", provider=provider)
        self.provider_was_asked = provider_was_asked


# --- This service -----------------------------------------------------------------------------------------------------


class ServiceOverloadedError(ServiceError):
    """The load exceeds what this service, or its share of a provider, can handle in time.

    shed: what was full; None when administrators' changes got in each other's way, which is no lack of capacity.
    """

    code, status = ErrorCode.SERVICE_UNAVAILABLE, 503
    sentence = "This service is overloaded."
    asks_next_provider = True

    def __init__(self, details: str, *, shed: ShedReason | None) -> None:
        super().__init__(details, retry_after_s=None if shed is None else OVERLOADED_RETRY_AFTER_S)
        self.shed = shed


class CostLimitExceededError(ServiceError):
    """The call could cost more than is left, or its price is unknown; another provider's may cost less, or nothing."""

    code, status = ErrorCode.COST_LIMIT_EXCEEDED, 402
    sentence = "The cost limit of this service is reached."
    asks_next_provider = True


class ServiceStoppingError(ServiceError):
    """This service is stopping: it accepts no new work and may end running work."""

    code, status = ErrorCode.SERVICE_UNAVAILABLE, 503
    sentence = "This service is stopping."
    shed = ShedReason.STOPPING

    def __init__(self) -> None:
        super().__init__("ask another replica, or retry in a moment", retry_after_s=STOPPING_RETRY_AFTER_S)


class DefectError(ServiceError):
    """A defect of ours; the log line with this correlation id has its type and location."""

    code, status = ErrorCode.UNKNOWN_ERROR, 500
    sentence = "An unexpected error occurred in this service."


def failures(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """Every class with a defined HTTP response."""
    for kind in base.__subclasses__():
        if hasattr(kind, "code"):
            yield kind
        yield from failures(kind)
