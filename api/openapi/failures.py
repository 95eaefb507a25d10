"""An example of every failure; status, code and sentence come from its class."""

from collections.abc import Mapping

from api.error_rendering import BY_STATUS
from api.openapi.bodies import ANTHROPIC
from api_models import Door, ProviderName, ShedReason
from exceptions import (
    AdminAddressRefusedError,
    AdminKeyRefusedError,
    AdminTriedTooOftenError,
    AttemptCutShortError,
    BodyTooLargeError,
    BodyTooSlowError,
    BrokenReplyError,
    CallerKeyRefusedError,
    CircuitOpenError,
    ConnectionLostError,
    ContentRefusedError,
    ContextTooLongError,
    CostLimitExceededError,
    DeadlineExceededError,
    DefectError,
    InvalidQueryError,
    InvalidReplyError,
    MethodNotAllowedError,
    ModelRateLimitedError,
    NoConnectionLeftError,
    NotCachedError,
    NoUsableProviderError,
    OverloadPausedError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RequestRejectedError,
    RouteNotFoundError,
    ServiceError,
    ServiceOverloadedError,
    ServiceStoppingError,
    StaleVersionError,
    TestedTooOftenError,
    ThrottlePausedError,
    TruncatedReplyError,
    UnknownModelError,
    UnreadableReplyError,
    UnsupportedContentTypeError,
    UntrustedProviderError,
    failures,
)

ANYWHERE: tuple[type[ServiceError], ...] = (RouteNotFoundError, MethodNotAllowedError, DefectError)
BODY: tuple[type[ServiceError], ...] = (
    InvalidQueryError,
    BodyTooSlowError,
    BodyTooLargeError,
    UnsupportedContentTypeError,
)
AT_THE_DOOR: Mapping[Door, tuple[type[ServiceError], ...]] = {
    Door.CALLER: (CallerKeyRefusedError,),
    Door.ADMIN: (AdminKeyRefusedError, AdminAddressRefusedError, AdminTriedTooOftenError),
}
STEERING: tuple[type[ServiceError], ...] = (InvalidQueryError, ServiceOverloadedError)
JUDGING: tuple[type[ServiceError], ...] = (
    NotCachedError,
    NoUsableProviderError,
    *failures(ProviderError),
    CircuitOpenError,
    ThrottlePausedError,
    OverloadPausedError,
    DeadlineExceededError,
    ServiceOverloadedError,
    CostLimitExceededError,
    ServiceStoppingError,
)

EXAMPLES: dict[type[ServiceError], ServiceError] = {
    type(failure): failure
    for failure in (
        InvalidQueryError("essay_a: must not be blank"),
        *(failure(details) for failure, details in BY_STATUS.values()),
        UnsupportedContentTypeError("send application/json in UTF-8"),
        NotCachedError("ask again without only-if-cached"),
        TestedTooOftenError("a paid test is allowed once a minute", provider=ANTHROPIC, retry_after_s=42),
        CallerKeyRefusedError("send it as Authorization: Bearer, or as X-API-Key"),
        AdminAddressRefusedError("ADMIN_ALLOWED_IPS says from where"),
        StaleVersionError("read the settings again; If-Match names another version"),
        AdminKeyRefusedError("send it as Authorization: Bearer, or as X-API-Key"),
        AdminTriedTooOftenError("wait before the next try", retry_after_s=60),
        NoUsableProviderError("anthropic: not configured", provider=ANTHROPIC),
        ProviderUnavailableError("it answered 500", provider=ANTHROPIC),
        ProviderOverloadedError("it answered 529", provider=ANTHROPIC),
        ProviderConnectionError("connecting took too long", provider=ANTHROPIC),
        ConnectionLostError("the connection broke", provider=ANTHROPIC),
        NoConnectionLeftError("this process has no file descriptor left for a connection", provider=ANTHROPIC),
        UntrustedProviderError("its certificate is not valid", provider=ANTHROPIC),
        AttemptCutShortError("no answer in the short time that the request had left", provider=ANTHROPIC),
        ProviderTimeoutError("no answer within the attempt timeout", provider=ANTHROPIC),
        BrokenReplyError("the answer is not JSON", provider=ANTHROPIC),
        UnreadableReplyError("it answered 302", provider=ANTHROPIC),
        InvalidReplyError("its text is not the JSON of a verdict", provider=ANTHROPIC),
        TruncatedReplyError("4096 tokens were not enough", provider=ANTHROPIC),
        ContentRefusedError("the model or a filter declined to judge what the essays contain", provider=ANTHROPIC),
        RateLimitedError("it answered 429", provider=ANTHROPIC, retry_after_s=30),
        ModelRateLimitedError(
            "it answered 429, openrouter_free_tier_per_minute", provider=ProviderName.OPENROUTER, retry_after_s=30
        ),
        QuotaExceededError("it answered 402", provider=ANTHROPIC),
        ProviderAuthenticationError("it answered 401", provider=ANTHROPIC),
        UnknownModelError("it answered 404", provider=ANTHROPIC),
        RequestRejectedError("it answered 400", provider=ANTHROPIC),
        ContextTooLongError("it answered 400, context_length_exceeded", provider=ANTHROPIC),
        CircuitOpenError("it has failed too often recently", provider=ANTHROPIC, retry_after_s=12),
        ThrottlePausedError("calls to the provider are paused at its request", provider=ANTHROPIC, retry_after_s=30),
        OverloadPausedError("calls to the provider are paused at its request", provider=ANTHROPIC, retry_after_s=30),
        DeadlineExceededError(provider=ANTHROPIC, provider_was_asked=True),
        ServiceOverloadedError("the wait queue is full", shed=ShedReason.QUEUE_FULL),
        CostLimitExceededError("what is left for this day (UTC) may not be enough for this call", provider=ANTHROPIC),
        ServiceStoppingError(),
        DefectError("search the log for the correlation id"),
    )
}
