"""What each failure of an exchange, code, phrase and status of the providers means, as data.

Codes are listed by priority, because one body may hold several (a throttled request and the exhausted quota behind
it). Sources: the providers' error references, as of November 2026.
"""

import ssl
from collections.abc import Mapping
from typing import TypeAlias

import aiohttp

from exceptions import (
    BrokenReplyError,
    ConnectionLostError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidReplyError,
    ModelRateLimitedError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RequestRejectedError,
    TruncatedReplyError,
    UnknownModelError,
    UnreadableReplyError,
    UntrustedProviderError,
)

Kind: TypeAlias = type[ProviderError]

# The first match wins: aiohttp's classes have several parents.
EXCHANGES: tuple[tuple[type[BaseException], Kind, str], ...] = (
    (ssl.SSLCertVerificationError, UntrustedProviderError, "its certificate is not valid"),
    (aiohttp.ServerFingerprintMismatch, UntrustedProviderError, "its certificate is not the expected one"),
    (aiohttp.ClientSSLError, ProviderConnectionError, "the TLS handshake failed"),
    (aiohttp.ConnectionTimeoutError, ProviderConnectionError, "connecting took too long"),
    (aiohttp.ClientConnectorDNSError, ProviderConnectionError, "its name could not be resolved"),
    (aiohttp.ClientProxyConnectionError, ProviderConnectionError, "the proxy could not be reached"),
    (aiohttp.ClientHttpProxyError, ProviderConnectionError, "the proxy answered {0.status}"),
    (aiohttp.ClientConnectorError, ProviderConnectionError, "the connection was refused"),
    (TimeoutError, ProviderTimeoutError, "no complete answer within the attempt timeout"),
    (aiohttp.ClientConnectionError, ConnectionLostError, "the connection broke"),
    (aiohttp.UploadAbortedError, ProviderConnectionError, "the connection broke while we sent"),
    (aiohttp.ClientPayloadError, BrokenReplyError, "the answer was cut off"),
    (aiohttp.ClientResponseError, BrokenReplyError, "the answer is not HTTP"),
    (aiohttp.RedirectClientError, UnreadableReplyError, "the answer is a redirect"),
    (aiohttp.InvalidURL, UnknownModelError, "its address is not valid"),
    (aiohttp.NonHttpUrlClientError, UnknownModelError, "its address is not valid"),
    (aiohttp.ClientError, ProviderConnectionError, "the exchange failed"),
    (OSError, ProviderConnectionError, "the connection could not be opened"),
)

WORDS: Mapping[str, Kind] = {
    # A temporary shortage, sent with a payment status.
    "in_flight_budget_exhausted": RateLimitedError,
    "openrouter_in_flight_budget": RateLimitedError,
    # For free models only, until tomorrow or for a minute.
    "openrouter_free_tier_daily": UnknownModelError,
    "openrouter_free_tier_per_minute": ModelRateLimitedError,
    # Money and quota.
    "insufficient_quota": QuotaExceededError,
    "billing_hard_limit_reached": QuotaExceededError,
    "credit_balance_exhausted": QuotaExceededError,
    "organization_spend_limit_exceeded": QuotaExceededError,
    "project_spend_limit_exceeded": QuotaExceededError,
    "organization_usage_limit_exceeded": QuotaExceededError,
    "enforced_spend_limit_reached": QuotaExceededError,
    "contract_spend_limit_reached": QuotaExceededError,
    "linked_organization_billing_unavailable": QuotaExceededError,
    "linked_organization_spend_limit_reached": QuotaExceededError,
    "billing_error": QuotaExceededError,
    "billing_not_active": QuotaExceededError,
    "payment_required": QuotaExceededError,
    "openrouter_key_limit": QuotaExceededError,
    "openrouter_guardrail_budget": QuotaExceededError,
    "openrouter_workspace_budget": QuotaExceededError,
    "budget_exceeded": QuotaExceededError,
    "Arrearage": QuotaExceededError,
    "PerDay": QuotaExceededError,
    # The text itself is refused.
    "invalid_prompt": ContentRefusedError,
    "content_policy_violation": ContentRefusedError,
    "cyber_policy": ContentRefusedError,
    "bio_policy": ContentRefusedError,
    "misalignment_policy_violation": ContentRefusedError,
    "content_filter": ContentRefusedError,
    "data_inspection_failed": ContentRefusedError,
    "refusal": ContentRefusedError,
    # The text does not fit.
    "context_length_exceeded": ContextTooLongError,
    "tokens_limit_reached": ContextTooLongError,
    "token_limit_exceeded": ContextTooLongError,
    "string_too_long": ContextTooLongError,
    "exceed_context_size_error": ContextTooLongError,
    # The model wrote no verdict: Groq checks that itself.
    "json_validate_failed": InvalidReplyError,
    "tool_use_failed": InvalidReplyError,
    # The model.
    "model_not_found": UnknownModelError,
    "model_decommissioned": UnknownModelError,
    "model_not_available": UnknownModelError,
    "invalid_model": UnknownModelError,
    "no_endpoints": UnknownModelError,
    "constraint_filtered": UnknownModelError,
    "privacy_restricted": UnknownModelError,
    "model_deprecated": UnknownModelError,
    "unavailable_model": UnknownModelError,
    "OperationNotSupported": UnknownModelError,
    "key_model_access_denied": UnknownModelError,
    "team_model_access_denied": UnknownModelError,
    "not_found": UnknownModelError,
    "not_found_error": UnknownModelError,
    # The key and the account.
    "API_KEY_INVALID": ProviderAuthenticationError,
    "FAILED_PRECONDITION": ProviderAuthenticationError,
    "invalid_api_key": ProviderAuthenticationError,
    "authentication": ProviderAuthenticationError,
    "authentication_error": ProviderAuthenticationError,
    "permission_denied": ProviderAuthenticationError,
    "permission_error": ProviderAuthenticationError,
    "organization_restricted": ProviderAuthenticationError,
    # Throttling and overload.
    "rate_limit_exceeded": RateLimitedError,
    "rate_limit_error": RateLimitedError,
    "overloaded_error": ProviderOverloadedError,
    "server_is_overloaded": ProviderOverloadedError,
    "provider_overloaded": ProviderOverloadedError,
    # Provider failures.
    "provider_unavailable": ProviderUnavailableError,
    "timeout_error": ProviderUnavailableError,
    "server_error": ProviderUnavailableError,
    "server": ProviderUnavailableError,
    "timeout": ProviderUnavailableError,
    # Our request.
    "request_too_large": RequestRejectedError,
    "payload_too_large": RequestRejectedError,
    "max_tokens_exceeded": RequestRejectedError,
    "unprocessable": RequestRejectedError,
}

# In these cases the providers send no code with the status, or one that says less. LM Studio blames us for all.
REJECTION_PHRASES: Mapping[str, Kind] = {
    "api usage limits": QuotaExceededError,
    "credit balance is too low": QuotaExceededError,
    "budget has been exceeded": QuotaExceededError,
    "organization has been disabled": ProviderAuthenticationError,
    "api key not valid": ProviderAuthenticationError,
    "api key expired": ProviderAuthenticationError,
    "incorrect api key provided": ProviderAuthenticationError,
    "prompt is too long": ContextTooLongError,
    "maximum context length": ContextTooLongError,
    "longer than the maximum model length": ContextTooLongError,
    "model's context length": ContextTooLongError,
    "exceeds the available context size": ContextTooLongError,
    "exceeds the maximum allowed length": ContextTooLongError,
    "longer than the context length": ContextTooLongError,
    "with a larger context length": ContextTooLongError,
    "context size has been exceeded": ContextTooLongError,
    "tokens + `max_new_tokens` must be": ContextTooLongError,
    "`inputs` must have less than": ContextTooLongError,
    "input token count": ContextTooLongError,
    "input is too long for requested model": ContextTooLongError,
    "maximum prompt length is": ContextTooLongError,
    "exceed context limit": ContextTooLongError,
    "should not exceed max_num_tokens": ContextTooLongError,
    "contextwindowexceedederror": ContextTooLongError,
    "context window": ContextTooLongError,
    "exceeded model token limit": ContextTooLongError,
    "range of input length": ContextTooLongError,
    "prompt exceeds max length": ContextTooLongError,
    # OpenAI, where the limit leaves no token beside the reasoning.
    "model output limit was reached": TruncatedReplyError,
    # For the account's tokens per minute, which say nothing about other models.
    "request too large for": UnknownModelError,
    "is not a valid model id": UnknownModelError,
    "model not exist": UnknownModelError,
    "model does not exist": UnknownModelError,
    "model identifier is invalid": UnknownModelError,
    "invalid model name": UnknownModelError,
    "invalid model id": UnknownModelError,
    "unknown model": UnknownModelError,
    "' not found": UnknownModelError,
    "model is not loaded": UnknownModelError,
    "could not find real modelid": UnknownModelError,
    "blocked by content filtering": ContentRefusedError,
    "contentpolicyviolationerror": ContentRefusedError,
    "content exists risk": ContentRefusedError,
    "model has crashed": ProviderUnavailableError,
    "model unloaded": ProviderUnavailableError,
    "model is unloaded": ProviderUnavailableError,
    "model reloaded": ProviderUnavailableError,
    "channel error": ProviderUnavailableError,
    "degraded function cannot be invoked": ProviderUnavailableError,
    "no models provided": ProviderUnavailableError,
}
PHRASES: Mapping[int, Mapping[str, Kind]] = {
    400: REJECTION_PHRASES,
    403: {
        "key limit exceeded": QuotaExceededError,
        "used all available credits": QuotaExceededError,
        "content violates usage guidelines": ContentRefusedError,
        "access to model": UnknownModelError,
        "model is not available": UnknownModelError,
        "is blocked at the": UnknownModelError,
        "violation of provider terms of service": UnknownModelError,
        "requires a subscription": UnknownModelError,
    },
    412: {"monthly spending limit": QuotaExceededError},
    413: REJECTION_PHRASES,
    422: REJECTION_PHRASES,
    424: {"failed during generation": ProviderUnavailableError},
    429: {
        "prepayment credits": QuotaExceededError,
        "spending cap": QuotaExceededError,
        "used all available credits": QuotaExceededError,
        "insufficient balance": QuotaExceededError,
        "usage limit, upgrade": QuotaExceededError,
        "request too large for": UnknownModelError,
    },
    500: {"exceeds the available context size": ContextTooLongError},
}

STATUSES: Mapping[int, Kind] = {
    400: RequestRejectedError,
    401: ProviderAuthenticationError,
    402: QuotaExceededError,
    403: ProviderAuthenticationError,
    408: ProviderUnavailableError,
    409: ProviderUnavailableError,
    413: RequestRejectedError,
    422: RequestRejectedError,
    425: ProviderUnavailableError,
    429: RateLimitedError,
    499: ProviderUnavailableError,
    503: ProviderOverloadedError,
    529: ProviderOverloadedError,
}
# The other 4xx are of the address and the account, the same for every question.
STATUS_CLASSES: Mapping[int, Kind] = {3: UnreadableReplyError, 4: UnknownModelError, 5: ProviderUnavailableError}

# They would last, if the provider did not say otherwise.
LASTING = frozenset({QuotaExceededError, UnknownModelError, ProviderAuthenticationError, RequestRejectedError})

# Of these the vendor behind OpenRouter speaks to us; of keys, credit and limits to OpenRouter.
ABOUT_THE_ESSAYS = frozenset({ContentRefusedError, ContextTooLongError})
