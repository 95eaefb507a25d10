"""What a caller does about a failure, by the status and code that the failure answers with."""

from collections.abc import Mapping

from api_models import ErrorCode

ADVICE: Mapping[tuple[int, ErrorCode], str] = {
    (400, ErrorCode.VALIDATION_ERROR): "Correct what details names. The same request fails again.",
    (401, ErrorCode.AUTHENTICATION_ERROR): "Send a valid key.",
    (403, ErrorCode.AUTHENTICATION_ERROR): "Administer the service from where it is allowed.",
    (402, ErrorCode.COST_LIMIT_EXCEEDED): "Wait for the next day or month (UTC), or have the operator raise the limit.",
    (404, ErrorCode.RESOURCE_NOT_FOUND): "Correct the path.",
    (405, ErrorCode.INVALID_REQUEST): "Use a method that the header Allow names.",
    (408, ErrorCode.TIMEOUT): "Send the body faster, or again over a better connection.",
    (412, ErrorCode.INVALID_REQUEST): "Read the settings again, and decide anew.",
    (413, ErrorCode.VALIDATION_ERROR): "Send a smaller body.",
    (415, ErrorCode.VALIDATION_ERROR): "Send JSON in UTF-8 as application/json, without a Content-Encoding.",
    (
        422,
        ErrorCode.CONTENT_REFUSED,
    ): "Ask another provider, or leave this pair to people. The same request fails again.",
    (422, ErrorCode.INVALID_REQUEST): "Shorten the essays or change the overrides. The same request fails again.",
    (429, ErrorCode.RATE_LIMIT): "Wait for retry_after, then ask again; send less at the same time.",
    (500, ErrorCode.UNKNOWN_ERROR): "Ask once more at most, and report the correlation id.",
    (
        502,
        ErrorCode.AUTHENTICATION_ERROR,
    ): "Tell the operator, who must renew the provider's key; or ask another provider.",
    (502, ErrorCode.INVALID_RESPONSE): "Ask again, or another provider; when cut off, raise max_tokens_override.",
    (503, ErrorCode.CIRCUIT_BREAKER_OPEN): "Wait for retry_after, or ask another provider.",
    (503, ErrorCode.CONFIGURATION_ERROR): "Ask another provider or model, or tell the operator. Waiting is of no use.",
    (503, ErrorCode.CONNECTION_ERROR): "Ask again in a while, or another provider.",
    (503, ErrorCode.EXTERNAL_SERVICE_ERROR): "Ask again in a while, or another provider.",
    (503, ErrorCode.QUOTA_EXCEEDED): "Tell the operator, who must pay or raise the quota; or ask another provider.",
    (503, ErrorCode.SERVICE_UNAVAILABLE): "Wait for retry_after, then ask again: another replica may answer at once.",
    (504, ErrorCode.RESOURCE_NOT_FOUND): "Ask again without only-if-cached.",
    (
        504,
        ErrorCode.TIMEOUT,
    ): "Ask again: a verdict bought meanwhile is cached. Give it more time if you gave it little.",
}
