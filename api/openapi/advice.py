"""What a caller can do about a failure, by status and error code."""

from collections.abc import Mapping

from api_models import ErrorCode

ADVICE: Mapping[tuple[int, ErrorCode], str] = {
    (400, ErrorCode.VALIDATION_ERROR): "Correct the field named in details. The same request fails again.",
    (401, ErrorCode.AUTHENTICATION_ERROR): "Send a valid key.",
    (403, ErrorCode.AUTHENTICATION_ERROR): "Connect from an address in ADMIN_ALLOWED_IPS.",
    (402, ErrorCode.COST_LIMIT_EXCEEDED): "Wait for the next day or month (UTC), or have the operator raise the limit.",
    (404, ErrorCode.RESOURCE_NOT_FOUND): "Correct the path.",
    (405, ErrorCode.INVALID_REQUEST): "Use a method from the Allow header.",
    (408, ErrorCode.TIMEOUT): "Send the body faster, or retry over a better connection.",
    (412, ErrorCode.INVALID_REQUEST): "Read the settings again, then repeat the change with the new ETag.",
    (413, ErrorCode.VALIDATION_ERROR): "Send a smaller body.",
    (415, ErrorCode.VALIDATION_ERROR): "Send JSON in UTF-8 as application/json, without a Content-Encoding.",
    (
        422,
        ErrorCode.CONTENT_REFUSED,
    ): "Ask another provider, or have a person judge this pair. The same request fails again.",
    (422, ErrorCode.INVALID_REQUEST): "Shorten the essays or change the overrides. The same request fails again.",
    (429, ErrorCode.RATE_LIMIT): "Wait for retry_after, then retry with fewer concurrent requests.",
    (500, ErrorCode.UNKNOWN_ERROR): "Tell the operator the correlation id. The same request will probably fail again.",
    (
        502,
        ErrorCode.AUTHENTICATION_ERROR,
    ): "Have the operator renew the provider's key, or ask another provider.",
    (
        502,
        ErrorCode.INVALID_RESPONSE,
    ): "Retry, or ask another provider; if the answer was cut off, raise max_tokens_override.",
    (503, ErrorCode.CIRCUIT_BREAKER_OPEN): "Wait for retry_after, or ask another provider.",
    (
        503,
        ErrorCode.CONFIGURATION_ERROR,
    ): "Ask another provider or model, or inform the operator. Waiting does not help.",
    (503, ErrorCode.CONNECTION_ERROR): "Retry later, or ask another provider.",
    (503, ErrorCode.EXTERNAL_SERVICE_ERROR): "Retry later, or ask another provider.",
    (503, ErrorCode.QUOTA_EXCEEDED): "Have the operator pay or raise the quota, or ask another provider.",
    (503, ErrorCode.SERVICE_UNAVAILABLE): "Wait for retry_after, then retry: another replica may answer at once.",
    (504, ErrorCode.RESOURCE_NOT_FOUND): "Retry without only-if-cached.",
    (
        504,
        ErrorCode.TIMEOUT,
    ): "Retry: a verdict bought meanwhile is cached. Allow more time if X-Request-Timeout-Ms was short.",
}
