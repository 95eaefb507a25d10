"""Whatever goes wrong between us and a provider becomes exactly one class, which answers every question about it."""

import errno
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import aiohttp
import orjson
import pytest
from aiohttp import client_exceptions
from multidict import CIMultiDict

from api_models import ErrorCode, JsonObject, ProviderName
from config import OpenRouterSettings
from exceptions import (
    BrokenReplyError,
    ConnectionLostError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidReplyError,
    ModelRateLimitedError,
    NoConnectionLeftError,
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
from implementations.openrouter_provider_impl import OpenRouterProviderImpl
from implementations.wire.endpoint import QUICK_BYTES, Endpoint
from implementations.wire.failure_tables import WORDS
from implementations.wire.failures import failure_in_success, failure_of_answer, failure_of_exchange, without_frames
from implementations.wire.json_reading import read_object
from implementations.wire.transport import Transport, WireReply
from implementations.wire.vendor_error import LONGEST_QUOTED
from tests.fakes import NOON, request

Kind = type[ProviderError]

# By name, so that a class that is no longer there fails the test as a new one does.
OF_AIOHTTP: Mapping[Kind, str] = {
    ConnectionLostError: "ClientConnectionError ClientConnectionResetError ClientOSError ServerConnectionError "
    "ServerDisconnectedError",
    ProviderConnectionError: "ClientError ClientConnectorError ClientConnectorDNSError ClientProxyConnectionError "
    "ClientSSLError ClientConnectorSSLError UnixClientConnectorError ConnectionTimeoutError ClientHttpProxyError "
    "UploadAbortedError",
    ProviderTimeoutError: "ServerTimeoutError SocketTimeoutError",
    UntrustedProviderError: "ClientConnectorCertificateError ServerFingerprintMismatch",
    BrokenReplyError: "ClientPayloadError ClientResponseError ContentTypeError TooManyRedirects WSServerHandshakeError",
    UnreadableReplyError: "RedirectClientError InvalidUrlRedirectClientError NonHttpUrlRedirectClientError",
    UnknownModelError: "InvalidURL InvalidUrlClientError NonHttpUrlClientError",
}
EXCHANGES = [(vars(client_exceptions)[name], kind) for kind, names in OF_AIOHTTP.items() for name in names.split()]
OF_THE_SYSTEM: list[tuple[type[OSError], Kind]] = [
    (TimeoutError, ProviderTimeoutError),
    *((kind, ProviderConnectionError) for kind in (OSError, ConnectionError, ConnectionRefusedError, BrokenPipeError)),
    *((kind, ProviderConnectionError) for kind in (ConnectionResetError, PermissionError, socket.gaierror)),
    *((kind, ProviderConnectionError) for kind in (ssl.SSLError, ssl.SSLEOFError, ssl.SSLZeroReturnError)),
]
# Whether to repeat, whether it counts against the circuit, whether the next provider may be asked.
DECISIONS: Mapping[Kind, tuple[bool, bool, bool]] = {
    ProviderUnavailableError: (True, True, True),
    ProviderOverloadedError: (True, True, True),
    ProviderConnectionError: (True, True, True),
    ConnectionLostError: (True, True, True),
    ProviderTimeoutError: (True, True, True),
    BrokenReplyError: (True, True, True),
    UntrustedProviderError: (False, True, True),
    UnreadableReplyError: (False, True, True),
    RateLimitedError: (True, False, True),
    ModelRateLimitedError: (True, False, True),
    QuotaExceededError: (False, False, True),
    ProviderAuthenticationError: (False, False, True),
    UnknownModelError: (False, False, True),
    ContentRefusedError: (False, False, True),
    ContextTooLongError: (False, False, True),
    RequestRejectedError: (False, False, False),
}


def tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def raised(kind: type[BaseException]) -> BaseException:
    """An instance of whatever class, with a text that must never leave; the status is that of a proxy's refusal."""
    error = kind.__new__(kind)
    vars(error)["status"] = 403
    error.args = ("https://provider.example/?key=secret",)
    return error


def failed(status: int, body: object = None, headers: Mapping[str, str] | None = None) -> ProviderError:
    return failure_of_answer(status, CIMultiDict(headers or {}), body, now_s=0.0)


def test_every_exception_of_aiohttp_was_decided_upon() -> None:
    assert set(tree(client_exceptions.ClientError)) == {kind for kind, _ in EXCHANGES}


@pytest.mark.parametrize(("kind", "expected"), [*EXCHANGES, *OF_THE_SYSTEM])
def test_what_the_http_library_raises_becomes_one_class_without_its_text(
    kind: type[BaseException], expected: Kind
) -> None:
    failure = failure_of_exchange(raised(kind))
    assert type(failure) is expected
    assert "secret" not in f"{failure} {failure.details}"
    assert (failure.purchase, failure.retry_after_s, failure.is_final) == (None, None, False)


@pytest.mark.parametrize(
    ("name", "details"),
    [
        ("ClientConnectorSSLError", "the TLS handshake failed"),
        ("ConnectionTimeoutError", "connecting took too long"),
        ("ClientConnectorDNSError", "its name could not be resolved"),
        ("ClientProxyConnectionError", "the proxy could not be reached"),
        ("ClientHttpProxyError", "the proxy answered 403"),
        ("ClientConnectorError", "the connection was refused"),
        ("UploadAbortedError", "the connection broke while we sent"),
        ("ClientError", "the exchange failed"),
    ],
)
def test_the_operator_reads_which_step_of_connecting_failed(name: str, details: str) -> None:
    assert failure_of_exchange(raised(vars(client_exceptions)[name])).details == details


def test_no_error_of_the_system_is_left_without_a_class() -> None:
    for kind in tree(OSError):
        assert isinstance(failure_of_exchange(raised(kind)), ProviderError)


def test_what_the_http_library_raises_loses_its_frames_and_every_exception_behind_it() -> None:
    behind, between, error = ValueError("essay"), OSError("essay"), aiohttp.ClientError("essay")
    cause = OSError("essay")
    with pytest.raises(ValueError, match="essay"):
        raise behind
    cause.__traceback__ = between.__traceback__ = error.__traceback__ = behind.__traceback__
    error.__cause__, error.__context__, between.__context__ = cause, between, behind
    behind.__context__ = error  # a cycle
    assert without_frames(error) is error
    for one in (behind, between, cause, error):
        assert (one.__traceback__, one.__cause__, one.__context__) == (None, None, None)


SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


@pytest.mark.parametrize("number", SHORTAGES)
def test_that_we_have_nothing_left_for_a_connection_is_nobody_else_s_failure(number: int) -> None:
    key = SimpleNamespace(host="judge", port=443, ssl=True)
    for error in (OSError(number, "secret"), aiohttp.ClientConnectorError(key, OSError(number, "secret"))):  # type: ignore[arg-type]
        failure = failure_of_exchange(error)
        assert type(failure) is NoConnectionLeftError
        assert (failure.trips_circuit, failure.provider_was_asked, failure.may_be_retried) == (False, False, True)
        assert failure.retry_after_s == 1.0, "callers are told when to come back"
        assert "secret" not in f"{failure} {failure.details}"


@pytest.mark.parametrize("number", SHORTAGES)
def test_a_shortage_that_breaks_a_connection_may_leave_a_bill(number: int) -> None:
    assert type(failure_of_exchange(aiohttp.ClientOSError(number, "secret"))) is ConnectionLostError


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.EMFILE, NoConnectionLeftError), (errno.ENOENT, ProviderConnectionError)]
)
def test_that_we_have_no_file_left_for_a_look_up_is_nobody_else_s_failure_either(
    number: int, expected: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SimpleNamespace(host="judge", port=443, ssl=True)
    error = aiohttp.ClientConnectorDNSError(key, OSError(errno.EBUSY, "secret"))  # type: ignore[arg-type]  # glibc's word for it
    assert type(failure_of_exchange(error)) is ProviderConnectionError, "there are files"
    monkeypatch.setattr(os, "open", Mock(side_effect=OSError(number, "secret")))
    assert type(failure_of_exchange(error)) is expected
    assert type(failure_of_exchange(aiohttp.ServerDisconnectedError())) is ConnectionLostError, "it may leave a bill"


@pytest.mark.parametrize(("kind", "decisions"), DECISIONS.items())
def test_a_class_says_whether_to_repeat_to_count_and_to_ask_the_next(
    kind: Kind, decisions: tuple[bool, bool, bool]
) -> None:
    assert (kind.is_retryable, kind.trips_circuit, kind.asks_next_provider) == decisions


BY_STATUS: Mapping[int, Kind] = {
    **dict.fromkeys(range(300, 400), UnreadableReplyError),
    **dict.fromkeys(range(400, 500), UnknownModelError),
    **dict.fromkeys((400, 413, 422), RequestRejectedError),
    **dict.fromkeys(range(500, 600), ProviderUnavailableError),
    **dict.fromkeys((401, 403), ProviderAuthenticationError),
    402: QuotaExceededError,
    407: ProviderConnectionError,
    **dict.fromkeys((408, 409, 425, 499), ProviderUnavailableError),
    429: RateLimitedError,
    **dict.fromkeys((503, 529), ProviderOverloadedError),
}


@pytest.mark.parametrize("body", [None, {}, [], {"error": None}, {"error": {}}, "<html>", {"detail": "Not Found"}])
def test_every_status_has_a_class_whether_or_not_there_is_a_body_that_we_know(body: object) -> None:
    of_no_provider = {403: UnreadableReplyError} if body is None else {}
    assert {status: type(failed(status, body)) for status in range(300, 600)} == {**BY_STATUS, **of_no_provider}
    assert {type(failed(status, body)) for status in (101, 600, 999)} == {BrokenReplyError}


def test_a_proxy_that_asks_for_a_login_is_named() -> None:
    assert failed(407, "<html>").details == "the proxy answered 407"


def anthropic(kind: str, message: str = "…", code: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    if code:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": "req_1"}


def openai(code: str | int | None, kind: str = "invalid_request_error", message: str = "…") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def gemini(code: int, status: str, *details: dict[str, Any], message: str = "…") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def openrouter(code: int, kind: str, **metadata: Any) -> dict[str, Any]:
    told = {"error_type": kind, "provider_name": "Google", "raw": "…", **metadata}
    return {"error": {"code": code, "message": "Provider returned error", "metadata": told}, "user_id": "user_1"}


def quoting(raw: object, code: int = 400) -> dict[str, Any]:
    """OpenRouter names no type, but quotes what the vendor answered: as JSON in a text, or as a sentence."""
    told = {"provider_name": "Nvidia", "is_byok": False, "raw": raw if isinstance(raw, str) else json.dumps(raw)}
    return {"error": {"code": code, "message": "Provider returned error", "metadata": told}, "user_id": "user_1"}


def of_litellm(kind: str, message: str) -> dict[str, Any]:
    return openai("400", "None", f"litellm.BadRequestError: litellm.{kind}: {message}. Received Model Group=judge")


def reason(word: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": word, "domain": "googleapis.com"}


def violated(quota: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}


PER_DAY = violated("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
PER_MINUTE = violated("GenerateRequestsPerMinutePerProjectPerModel")
REACHED = "You have reached your specified API usage limits."
REACHED_HERE = "You have reached your specified workspace API usage limits."
TOO_LONG = "prompt is too long: 210000 tokens > 200000 maximum"
TOO_LONG_WITH_THE_ANSWER = (
    "input length and `max_tokens` exceed context limit: 184915 + 20000 > 204648, decrease input length or "
    "`max_tokens` and try again"
)
TOO_LONG_FOR_GEMINI = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
TOO_LONG_FOR_VLLM = "This model's maximum context length is 8192 tokens. However, you requested 9000."
TOO_LONG_FOR_VLLM_V1 = "The decoder prompt (length 21535) is longer than the maximum model length of 16384."
TOO_LONG_FOR_VLLM_NOW = (
    "You passed 27905 input tokens and requested 4096 output tokens. However, the model's context length is only 32000 "
    "tokens, resulting in a maximum input length of 27904 tokens."
)
TOO_LONG_FOR_SGLANG = "The input (85050 tokens) is longer than the model's context length (32768 tokens)."
TOO_LONG_FOR_SGLANG_MEMORY = (
    "Input length (9000 tokens) exceeds the maximum allowed length (8000 tokens). Use a shorter input or enable "
    "--allow-auto-truncate."
)
TOO_LONG_FOR_LLAMA_CPP = "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it"
TOO_LONG_FOR_OLLAMA = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)
TOO_LONG_FOR_LM_STUDIO = (
    "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: "
    "4096). Try to load the model with a larger context length, or provide a shorter input."
)
TOO_LONG_FOR_OLDER_LM_STUDIO = (
    "Trying to keep the first 14538 tokens when context the overflows. However, the model is loaded with context "
    "length of only 2048 tokens, which is not enough. Try to load the model with a larger context length, or provide "
    "a shorter input"
)
TOO_LONG_FOR_TGI = "Input validation error: `inputs` must have less than 4095 tokens. Given: 9000"
TOO_LONG_FOR_TGI_WITH_THE_ANSWER = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 400 "
    "`max_new_tokens`"
)
OLDER_VLLM = {"object": "error", "message": TOO_LONG_FOR_VLLM, "type": "BadRequestError", "param": None, "code": 400}
TOO_LONG_FOR_CEREBRAS = {
    "message": "Please reduce the length of the messages or completion. Current length is 31901 while limit is 8192",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}
TOO_LONG_FOR_BEDROCK = (
    "An error occurred (ValidationException) when calling the Converse operation: The model returned the following "
    "errors: Input is too long for requested model."
)
TOO_LONG_FOR_GITHUB = "Request body too large for gpt-4o model. Max size: 8000 tokens."
TOO_LONG_FOR_TENSORRT = "The sum of prompt length (50857.0), query length (0) should not exceed max_num_tokens (32768)"
TOO_LONG_FOR_LOCALAI = f"rpc error: code = Internal desc = {TOO_LONG_FOR_LLAMA_CPP}"
DEGRADED_AT_NVIDIA = "Function id '87ea0ddc-cff1-4bca-bf8b-3bd98a35ddd0': DEGRADED function cannot be invoked"
WRONG_KEY_FOR_XAI = "Incorrect API key provided: xa***ey. You can obtain an API key from https://console.x.ai."
OUT_OF_CREDIT_AT_XAI = (
    "Your team t has either used all available credits or reached its monthly spending limit. To continue making API "
    "requests, please purchase more credits or raise your spending limit."
)
SUSPENDED_BY_FIREWORKS = (
    "Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices."
)
REFUSED_BY_XAI = "Content violates usage guidelines. Team: t, Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO"
TOO_LARGE_FOR_GROQ = (
    "Request too large for model `llama-3.1-8b-instant` in organization `o` service tier `on_demand` on tokens per "
    "minute (TPM): Limit 6000, Requested 12328, please reduce your message size and try again."
)
TOO_LARGE_FOR_OPENAI = (
    "Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 36278. The input "
    "or output tokens must be reduced in order to run successfully."
)
NO_ROOM_AT_OPENAI = (
    "Could not finish the message because max_tokens or model output limit was reached. Please try again with higher "
    "max_tokens."
)
TOO_LONG_FOR_DASHSCOPE = "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 983616]"
TOO_LONG_FOR_MOONSHOT = "Invalid request: Your request exceeded model token limit: 262144 (requested: 291351)"
TOO_LONG_FOR_OPENAI = "Your input exceeds the context window of this model. Please adjust your input and try again."
OUT_OF_CREDIT_AT_MOONSHOT = "Your account o is suspended due to insufficient balance, please recharge your account"
OUT_OF_BUDGET_BEHIND_LITELLM = (
    "litellm.BadRequestError: OpenAIException - Budget has been exceeded! Current cost: 14.3, Max budget: 10."
)
NO_DEPLOYMENT_OF_AZURE = "The chatCompletion operation does not work with the specified model, gpt-5-codex."
NOT_FOR_THIS_KEY_OF_LITELLM = (
    "key not allowed to access model. This key can only access models=['a']. Tried to access b"
)
NOT_FOR_THIS_TEAM_OF_LITELLM = "Team not allowed to access model. Tried to access b"
USED_UP_AT_OLLAMA = (
    "you (u) have reached your weekly usage limit, upgrade for higher limits: https://ollama.com/upgrade"
)
REFUSED_BY_CLOUDFLARE = {
    "type": "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/error-1010/",
    "title": "Error 1010: Access denied",
    "status": 403,
    "error_code": 1010,
    "error_name": "browser_signature_banned",
    "cloudflare_error": True,
    "retryable": False,
}
NO_MODEL_IN_LM_STUDIO = {
    "error": {"message": "No models loaded.", "type": "invalid_request_error", "param": "model", "code": None}
}
UNKNOWN_TO_LITELLM = openai("400", "None", "/chat/completions: Invalid model name passed in model=x.")

ANSWERS: list[tuple[int, object, Kind]] = [
    # Anthropic.
    (400, anthropic("invalid_request_error", "temperature: Extra inputs are not permitted"), RequestRejectedError),
    (400, anthropic("invalid_request_error", TOO_LONG), ContextTooLongError),
    (400, anthropic("invalid_request_error", TOO_LONG_WITH_THE_ANSWER), ContextTooLongError),
    (400, anthropic("invalid_request_error", REACHED), QuotaExceededError),
    (400, anthropic("invalid_request_error", REACHED_HERE), QuotaExceededError),
    (400, anthropic("invalid_request_error", "Your credit balance is too low to access the API."), QuotaExceededError),
    (400, anthropic("invalid_request_error", "This organization has been disabled."), ProviderAuthenticationError),
    (400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), ContentRefusedError),
    (401, anthropic("authentication_error", "invalid x-api-key"), ProviderAuthenticationError),
    (402, anthropic("billing_error", code="linked_organization_billing_unavailable"), QuotaExceededError),
    (402, anthropic("billing_error", code="linked_organization_spend_limit_reached"), QuotaExceededError),
    (403, anthropic("permission_error", code="organization_on_hold"), ProviderAuthenticationError),
    (404, anthropic("not_found_error", "model: claude-does-not-exist"), UnknownModelError),
    (409, anthropic("conflict_error"), ProviderUnavailableError),
    (413, anthropic("request_too_large"), RequestRejectedError),
    (429, anthropic("rate_limit_error"), RateLimitedError),
    (429, anthropic("rate_limit_error", code="ramp_limit_exceeded"), RateLimitedError),
    (429, anthropic("rate_limit_error", code="enforced_spend_limit_reached"), QuotaExceededError),
    (429, anthropic("rate_limit_error", code="contract_spend_limit_reached"), QuotaExceededError),
    (500, anthropic("api_error"), ProviderUnavailableError),
    (504, anthropic("timeout_error"), ProviderUnavailableError),
    (529, anthropic("overloaded_error", "Overloaded"), ProviderOverloadedError),
    # OpenAI.
    (400, openai("unsupported_value"), RequestRejectedError),
    (400, openai("unsupported_parameter"), RequestRejectedError),
    (400, openai("decimal_below_min_value"), RequestRejectedError),
    (400, openai("invalid_json_schema"), RequestRejectedError),
    (400, openai(None), RequestRejectedError),
    (400, openai("context_length_exceeded"), ContextTooLongError),
    (400, openai("invalid_prompt"), ContentRefusedError),
    (400, openai("content_policy_violation"), ContentRefusedError),
    (400, openai("cyber_policy", "invalid_request"), ContentRefusedError),
    (400, openai("bio_policy", "invalid_request"), ContentRefusedError),
    (401, openai("invalid_api_key"), ProviderAuthenticationError),
    (403, openai("unsupported_country_region_territory"), ProviderAuthenticationError),
    (404, openai("model_not_found"), UnknownModelError),
    (408, openai(None, "timeout"), ProviderUnavailableError),
    (409, openai(None, "conflict"), ProviderUnavailableError),
    (413, openai(None), RequestRejectedError),
    (422, openai(None), RequestRejectedError),
    (429, openai("rate_limit_exceeded", "tokens"), RateLimitedError),
    (429, openai("rate_limit_exceeded", "requests"), RateLimitedError),
    (429, openai("slow_down", "rate_limit_error"), RateLimitedError),
    (429, openai("resource_unavailable", "invalid_request_error"), RateLimitedError),
    *(
        (429, openai(code, kind), QuotaExceededError)
        for code, kind in (
            ("insufficient_quota", "insufficient_quota"),
            (None, "insufficient_quota"),
            ("billing_hard_limit_reached", "invalid_request_error"),
            ("billing_not_active", "billing_not_active"),
            ("credit_balance_exhausted", "rate_limit_error"),
            ("organization_spend_limit_exceeded", "rate_limit_error"),
            ("project_spend_limit_exceeded", "requests"),
            ("organization_usage_limit_exceeded", "tokens"),
        )
    ),
    (500, openai(None, "server_error"), ProviderUnavailableError),
    (503, openai("server_is_overloaded", "service_unavailable_error"), ProviderOverloadedError),
    (503, openai(None, "service_unavailable_error"), ProviderOverloadedError),
    (429, openai("rate_limit_exceeded", "tokens", TOO_LARGE_FOR_OPENAI), UnknownModelError),
    (400, openai(None, message=NO_ROOM_AT_OPENAI), TruncatedReplyError),
    (400, openai(None, message="invalid model ID"), UnknownModelError),
    # Azure.
    (400, {"error": {"code": "OperationNotSupported", "message": NO_DEPLOYMENT_OF_AZURE}}, UnknownModelError),
    # Gemini.
    (400, gemini(400, "INVALID_ARGUMENT"), RequestRejectedError),
    (400, gemini(400, "INVALID_ARGUMENT", message=TOO_LONG_FOR_GEMINI), ContextTooLongError),
    (400, gemini(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID")), ProviderAuthenticationError),
    (400, gemini(400, "INVALID_ARGUMENT", message="API key not valid. Pass one."), ProviderAuthenticationError),
    (400, gemini(400, "INVALID_ARGUMENT", message="API key expired. Renew it."), ProviderAuthenticationError),
    (400, gemini(400, "FAILED_PRECONDITION"), ProviderAuthenticationError),
    (402, gemini(402, "RESOURCE_EXHAUSTED"), QuotaExceededError),
    (403, gemini(403, "PERMISSION_DENIED", reason("SERVICE_DISABLED")), ProviderAuthenticationError),
    (404, gemini(404, "NOT_FOUND"), UnknownModelError),
    (413, None, RequestRejectedError),
    (429, gemini(429, "RESOURCE_EXHAUSTED"), RateLimitedError),
    (429, gemini(429, "RESOURCE_EXHAUSTED", message="Your prepayment credits are depleted."), QuotaExceededError),
    (429, gemini(429, "RESOURCE_EXHAUSTED", message="It exceeded its monthly spending cap"), QuotaExceededError),
    (429, gemini(429, "RESOURCE_EXHAUSTED", PER_MINUTE), RateLimitedError),
    (429, gemini(429, "RESOURCE_EXHAUSTED", PER_DAY), QuotaExceededError),
    (429, gemini(429, "RESOURCE_EXHAUSTED", PER_MINUTE, PER_DAY), QuotaExceededError),
    (429, [gemini(429, "RESOURCE_EXHAUSTED", PER_DAY)], QuotaExceededError),
    (429, gemini(429, "RESOURCE_EXHAUSTED", {**PER_DAY, "violations": [{}]}), RateLimitedError),
    (400, [gemini(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID"))], ProviderAuthenticationError),
    (499, gemini(499, "CANCELLED"), ProviderUnavailableError),
    (500, gemini(500, "INTERNAL"), ProviderUnavailableError),
    (503, gemini(503, "UNAVAILABLE"), ProviderOverloadedError),
    (504, gemini(504, "DEADLINE_EXCEEDED"), ProviderUnavailableError),
    # Servers of our own.
    (400, openai(400, "BadRequestError", TOO_LONG_FOR_VLLM), ContextTooLongError),
    (400, openai(400, "BadRequestError", TOO_LONG_FOR_VLLM_V1), ContextTooLongError),
    (400, openai(400, "BadRequestError", TOO_LONG_FOR_VLLM_NOW), ContextTooLongError),
    (400, OLDER_VLLM, ContextTooLongError),
    (400, {"object": "error", "error": OLDER_VLLM}, ContextTooLongError),  # a gateway in front of it
    (400, {**OLDER_VLLM, "message": TOO_LONG_FOR_SGLANG}, ContextTooLongError),
    (400, {**OLDER_VLLM, "message": TOO_LONG_FOR_SGLANG_MEMORY}, ContextTooLongError),
    (400, openai(None, "invalid_request_error", TOO_LONG_FOR_OLLAMA), ContextTooLongError),
    (400, {"error": TOO_LONG_FOR_LM_STUDIO}, ContextTooLongError),
    (400, {"error": TOO_LONG_FOR_OLDER_LM_STUDIO}, ContextTooLongError),
    (422, {"error": TOO_LONG_FOR_TGI, "error_type": "validation"}, ContextTooLongError),
    (422, {"error": TOO_LONG_FOR_TGI_WITH_THE_ANSWER, "error_type": "validation"}, ContextTooLongError),
    (400, {"error": "Context size has been exceeded."}, ContextTooLongError),
    (400, TOO_LONG_FOR_CEREBRAS, ContextTooLongError),
    (400, {"detail": TOO_LONG_FOR_BEDROCK}, ContextTooLongError),
    (400, {"detail": "ValidationException: The provided model identifier is invalid."}, UnknownModelError),
    (422, {"detail": [{"loc": ["body", "store"], "msg": "Extra inputs are not permitted"}]}, RequestRejectedError),
    (400, {"error": "The model has crashed without additional information."}, ProviderUnavailableError),
    (400, {"error": "Model unloaded by user or API request."}, ProviderUnavailableError),
    (400, {"error": "Model is unloaded."}, ProviderUnavailableError),
    (400, {"error": "Model reloaded."}, ProviderUnavailableError),
    (400, {"error": "Error: Channel Error"}, ProviderUnavailableError),
    (400, NO_MODEL_IN_LM_STUDIO, UnknownModelError),
    (400, openai(400, message="model 'x' not found"), UnknownModelError),
    (400, openai(400, message="model is not loaded"), UnknownModelError),
    (400, {"error": "could not find real modelID for x"}, UnknownModelError),
    (400, UNKNOWN_TO_LITELLM, UnknownModelError),
    (
        400,
        of_litellm("ContextWindowExceededError", "Hosted_vllmException - Input length 9 exceeds"),
        ContextTooLongError,
    ),
    (400, of_litellm("ContentPolicyViolationError", "AzureException - It was filtered."), ContentRefusedError),
    (400, of_litellm("UnsupportedParamsError", "openai does not support it."), RequestRejectedError),
    (429, openai("429", "budget_exceeded"), QuotaExceededError),
    (400, openai("400", "None", OUT_OF_BUDGET_BEHIND_LITELLM), QuotaExceededError),
    (401, openai("401", "key_model_access_denied", NOT_FOR_THIS_KEY_OF_LITELLM), UnknownModelError),
    (403, openai("403", "team_model_access_denied", NOT_FOR_THIS_TEAM_OF_LITELLM), UnknownModelError),
    (400, openai(None, message=TOO_LONG_FOR_OPENAI), ContextTooLongError),  # a gateway drops its code
    (429, openai(None, "api_error", USED_UP_AT_OLLAMA), QuotaExceededError),
    (403, {"error": "this model requires a subscription, upgrade for access"}, UnknownModelError),
    (424, {"error": "Request failed during generation: …", "error_type": "generation"}, ProviderUnavailableError),
    (400, openai(400, "exceed_context_size_error"), ContextTooLongError),
    (500, openai(500, "exceed_context_size_error"), ContextTooLongError),
    # llama.cpp with this status: the questions of all its slots, not this one alone.
    (500, openai(500, "server_error", "Context size has been exceeded."), ProviderUnavailableError),
    (400, {"error": f'{{"error": {{"code": 400, "message": "{TOO_LONG_FOR_LLAMA_CPP}"}}}}'}, ContextTooLongError),
    (400, openai(400, "BadRequestError"), RequestRejectedError),
    (404, openai(404, "NotFoundError"), UnknownModelError),
    # Other vendors that speak chat completions.
    (403, {"code": "The caller does not have permission", "error": REFUSED_BY_XAI}, ContentRefusedError),
    (403, {"code": "The caller does not have permission", "error": "Team blocked."}, ProviderAuthenticationError),
    (400, openai("invalid_request_error", message="Content Exists Risk"), ContentRefusedError),
    (400, openai("data_inspection_failed", "data_inspection_failed"), ContentRefusedError),
    (400, openai("invalid_request_error", message="Model Not Exist"), UnknownModelError),
    (400, {"code": 20012, "message": "Model does not exist. Please check it.", "data": None}, UnknownModelError),
    (400, openai("model_not_available", message="Unable to access non-serverless model x."), UnknownModelError),
    (400, {"status": 400, "title": "Bad Request", "detail": DEGRADED_AT_NVIDIA}, ProviderUnavailableError),
    (400, openai("Arrearage", "Arrearage"), QuotaExceededError),
    (403, {"code": "The caller does not have permission", "error": OUT_OF_CREDIT_AT_XAI}, QuotaExceededError),
    (429, {"code": "Some resource has been exhausted", "error": OUT_OF_CREDIT_AT_XAI}, QuotaExceededError),
    (400, {"code": "Client specified an invalid argument", "error": WRONG_KEY_FOR_XAI}, ProviderAuthenticationError),
    (
        400,
        {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
        UnknownModelError,
    ),
    (400, openai("model_decommissioned", message="The model `x` has been decommissioned."), UnknownModelError),
    (400, openai("json_validate_failed", message="Failed to generate JSON."), InvalidReplyError),
    (400, openai("tool_use_failed", message="Tool choice is none, but model called a tool"), InvalidReplyError),
    (413, openai("rate_limit_exceeded", "tokens", TOO_LARGE_FOR_GROQ), UnknownModelError),
    (400, openai("organization_restricted", message="Organization has been restricted."), ProviderAuthenticationError),
    (
        403,
        openai(
            "model_permission_blocked_org", "permissions_error", "The model `x` is blocked at the organization level."
        ),
        UnknownModelError,
    ),
    (429, openai(None, "exceeded_current_quota_error", OUT_OF_CREDIT_AT_MOONSHOT), QuotaExceededError),
    (400, openai(None, message=TOO_LONG_FOR_MOONSHOT), ContextTooLongError),
    (400, openai("invalid_parameter_error", message=TOO_LONG_FOR_DASHSCOPE), ContextTooLongError),
    (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}}, QuotaExceededError),
    (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, ContextTooLongError),
    (400, {"error": {"code": "1211", "message": "Unknown Model, please check the model code."}}, UnknownModelError),
    (400, {"error": {"code": "unavailable_model", "message": "Unavailable model: o4-mini"}}, UnknownModelError),
    (403, {"error": {"code": "no_access", "message": "No access to model: openai/o1"}}, UnknownModelError),
    (412, openai("PRECONDITION_FAILED", "error", SUSPENDED_BY_FIREWORKS), QuotaExceededError),
    (412, openai("PRECONDITION_FAILED", "error", "The adapter failed to load."), UnknownModelError),
    (413, {"error": {"code": "tokens_limit_reached", "message": TOO_LONG_FOR_GITHUB}}, ContextTooLongError),
    (400, {**OLDER_VLLM, "message": TOO_LONG_FOR_TENSORRT}, ContextTooLongError),
    (500, {"error": {"code": 500, "message": TOO_LONG_FOR_LOCALAI, "type": ""}}, ContextTooLongError),
    (401, {"error": "Unauthorized"}, ProviderAuthenticationError),
    (401, openai(None, "api_error"), ProviderAuthenticationError),
    (429, openai(None, "api_error"), RateLimitedError),
    (503, openai(None, "api_error", "server busy, please try again."), ProviderOverloadedError),
    (500, {"error": "the model failed to generate a response"}, ProviderUnavailableError),
    (404, openai(None, "not_found_error", "model 'x' not found"), UnknownModelError),
    # Cloudflare, in front of any of them, answers in JSON as we ask for it.
    (403, REFUSED_BY_CLOUDFLARE, UnreadableReplyError),
    (520, {**REFUSED_BY_CLOUDFLARE, "status": 520, "retryable": True}, ProviderUnavailableError),
]


@pytest.mark.parametrize(
    ("padding", "kind"), [(LONGEST_QUOTED - 100, ContentRefusedError), (LONGEST_QUOTED, RequestRejectedError)]
)
def test_a_long_quotation_is_not_parsed_on_the_event_loop(padding: int, kind: type[ProviderError]) -> None:
    quoted = {"error": {"code": "content_filter", "message": "x" * padding}}
    assert type(failure_of_answer(400, {}, quoting(quoted), now_s=0.0)) is kind


def test_a_long_quotation_is_read_as_a_sentence() -> None:
    quoted = {"error": {"message": "The prompt is too long: " + "x" * LONGEST_QUOTED}}
    assert type(failure_of_answer(400, {}, quoting(quoted), now_s=0.0)) is ContextTooLongError


OWN = {"provider_name": None, "raw": None}  # of OpenRouter's own account with it, not of one with a vendor

# The same body comes with a status of its own, or inside a 200.
ROUTED: list[tuple[dict[str, Any], Kind]] = [
    (openrouter(400, "invalid_request"), RequestRejectedError),
    (openrouter(400, "invalid_prompt"), ContentRefusedError),
    (openrouter(400, "context_length_exceeded"), ContextTooLongError),
    (openrouter(400, "token_limit_exceeded"), ContextTooLongError),
    (openrouter(400, "string_too_long"), ContextTooLongError),
    (openrouter(400, "max_tokens_exceeded"), RequestRejectedError),
    (openrouter(401, "authentication", **OWN), ProviderAuthenticationError),
    (openrouter(401, "authentication"), UnknownModelError),
    ({"error": {"code": 400, "message": "no/such is not a valid model ID"}}, UnknownModelError),
    ({"error": {"code": 400, "message": "No models provided"}}, ProviderUnavailableError),
    ({"error": {"code": 401, "message": "User not found."}}, ProviderAuthenticationError),
    (openrouter(402, "payment_required", **OWN), QuotaExceededError),
    (openrouter(402, "payment_required"), UnknownModelError),
    (openrouter(402, "payment_required", raw=None), UnknownModelError),
    (openrouter(402, "payment_required", provider_name=None), UnknownModelError),
    ({"error": {"code": 402, "message": "…", "availability": {"retryable": "no"}}}, QuotaExceededError),
    (openrouter(402, "payment_required", reason="in_flight_budget_exhausted"), RateLimitedError),
    (openrouter(402, "payment_required", limit_source="openrouter_in_flight_budget"), RateLimitedError),
    (openrouter(403, "permission_denied"), UnknownModelError),
    (openrouter(403, "permission_denied", **OWN), ProviderAuthenticationError),
    (openrouter(403, "content_policy_violation"), ContentRefusedError),
    (openrouter(403, "refusal"), ContentRefusedError),
    (openrouter(403, "unmapped", reasons=["violence"]), ContentRefusedError),
    (openrouter(403, "unmapped", flagged_input="…"), ContentRefusedError),
    (openrouter(403, "unmapped", patterns=["x"]), ContentRefusedError),
    (openrouter(403, "permission_denied", reasons=["violence"]), ContentRefusedError),
    (openrouter(403, "permission_denied", limit_source="openrouter_guardrail_budget"), QuotaExceededError),
    (openrouter(403, "permission_denied", provider_name=None, limit_source="openrouter_key_limit"), QuotaExceededError),
    ({"error": {"code": 403, "message": "Key limit exceeded (total limit). Manage it."}}, QuotaExceededError),
    (openrouter(404, "not_found"), UnknownModelError),
    (openrouter(404, "model_not_found"), UnknownModelError),
    (openrouter(404, "no_endpoints"), UnknownModelError),
    (openrouter(404, "constraint_filtered"), UnknownModelError),
    (openrouter(404, "privacy_restricted"), UnknownModelError),
    (openrouter(404, "model_deprecated"), UnknownModelError),
    (openrouter(408, "timeout"), ProviderUnavailableError),
    (openrouter(413, "payload_too_large"), RequestRejectedError),
    (openrouter(422, "unprocessable"), RequestRejectedError),
    (openrouter(429, "rate_limit_exceeded"), RateLimitedError),
    (openrouter(500, "server"), ProviderUnavailableError),
    (openrouter(500, "unmapped"), ProviderUnavailableError),
    (openrouter(502, "provider_unavailable"), ProviderUnavailableError),
    (openrouter(503, "provider_overloaded"), ProviderOverloadedError),
    (openrouter(504, "timeout"), ProviderUnavailableError),
    (openrouter(524, "timeout"), ProviderUnavailableError),
    (openrouter(529, "provider_overloaded"), ProviderOverloadedError),
    (quoting(openai(400, "Bad Request", "This model's maximum context length is 8 tokens.")), ContextTooLongError),
    (quoting(anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")), ContextTooLongError),
    (quoting([gemini(400, "INVALID_ARGUMENT", message="The input token count (9) exceeds 8.")]), ContextTooLongError),
    (quoting({"message": "Input is too long for requested model."}), ContextTooLongError),
    (quoting("This model's maximum prompt length is 8 but the request contains 9 tokens."), ContextTooLongError),
    (quoting(anthropic("bad_request_error", "invalid params, context window exceeds limit")), ContextTooLongError),
    ({"error": {"code": 403, "message": "This model is not available in your region."}}, UnknownModelError),
    (
        {
            "error": {
                "code": 403,
                "message": "The request is prohibited due to a violation of provider Terms Of Service.",
                "metadata": {"provider_name": None},
            }
        },
        UnknownModelError,
    ),
    (quoting(openai("content_filter")), ContentRefusedError),
    (quoting({"code": "The caller does not have permission", "error": REFUSED_BY_XAI}, 403), ContentRefusedError),
    (quoting(openai("invalid_request_error", message="Content Exists Risk")), ContentRefusedError),
    (quoting(openai("invalid_request_error", message="It supports at most 1 image.")), RequestRejectedError),
    (quoting(openai("insufficient_quota")), UnknownModelError),
    (quoting(anthropic("authentication_error")), UnknownModelError),
    (quoting(anthropic("authentication_error"), 401), UnknownModelError),
    (quoting(gemini(400, "FAILED_PRECONDITION", message="User location is not supported.")), UnknownModelError),
    (quoting({"error": "API key USD spend limit exceeded."}, 402), UnknownModelError),
    (openrouter(402, "payment_required", limit_source="upstream_provider_shared_pool"), UnknownModelError),
    (quoting(openai("json_validate_failed")), InvalidReplyError),
    (quoting({"error": {"code": 400, "metadata": {"raw": '{"error": "prompt is too long"}'}}}), ContextTooLongError),
    (quoting('{"error": "a", "error": "b"}'), RequestRejectedError),
    (quoting("\ud800"), RequestRejectedError),
    (quoting("it is temporarily rate-limited upstream.", 429), RateLimitedError),
    (quoting(openai("insufficient_quota"), 429), RateLimitedError),
    (quoting(openai("model_not_found"), 502), ProviderUnavailableError),
    (quoting(openai("context_length_exceeded"), 502), ContextTooLongError),
]


def name_of(body: object) -> str | None:
    return None if isinstance(body, int | type) else str(body)[:60]


@pytest.mark.parametrize(("status", "body", "expected"), ANSWERS, ids=name_of)
def test_every_documented_error_becomes_its_class(status: int, body: object, expected: Kind) -> None:
    failure = failed(status, body)
    assert type(failure) is expected
    assert str(status) in failure.details
    assert "…" not in failure.details


@pytest.mark.parametrize(("body", "expected"), ROUTED, ids=name_of)
def test_an_error_of_openrouter_means_the_same_with_its_status_and_inside_a_200(
    body: dict[str, Any], expected: Kind
) -> None:
    assert type(failed(body["error"]["code"], body)) is expected
    assert type(failure_in_success(body, now_s=0.0)) is expected
    assert type(failure_in_success({"choices": [{"finish_reason": "error"}], **body}, now_s=0.0)) is expected


BY_WORD: Mapping[Kind, str] = {
    QuotaExceededError: "insufficient_quota billing_hard_limit_reached credit_balance_exhausted "
    "openrouter_key_limit openrouter_guardrail_budget openrouter_workspace_budget "
    "organization_spend_limit_exceeded project_spend_limit_exceeded organization_usage_limit_exceeded "
    "enforced_spend_limit_reached contract_spend_limit_reached linked_organization_billing_unavailable "
    "linked_organization_spend_limit_reached billing_error billing_not_active payment_required budget_exceeded PerDay "
    "Arrearage",
    ContentRefusedError: "invalid_prompt content_policy_violation content_filter refusal cyber_policy bio_policy "
    "misalignment_policy_violation data_inspection_failed",
    ContextTooLongError: "context_length_exceeded token_limit_exceeded string_too_long exceed_context_size_error "
    "tokens_limit_reached",
    InvalidReplyError: "json_validate_failed tool_use_failed",
    UnknownModelError: "model_not_found model_decommissioned model_not_available invalid_model no_endpoints "
    "constraint_filtered privacy_restricted model_deprecated not_found not_found_error openrouter_free_tier_daily "
    "unavailable_model OperationNotSupported key_model_access_denied team_model_access_denied",
    ProviderAuthenticationError: "API_KEY_INVALID FAILED_PRECONDITION invalid_api_key authentication "
    "authentication_error permission_denied permission_error organization_restricted",
    ModelRateLimitedError: "openrouter_free_tier_per_minute",
    RateLimitedError: "in_flight_budget_exhausted openrouter_in_flight_budget rate_limit_exceeded rate_limit_error",
    ProviderOverloadedError: "overloaded_error server_is_overloaded provider_overloaded",
    ProviderUnavailableError: "provider_unavailable timeout_error server_error server timeout",
    RequestRejectedError: "request_too_large payload_too_large max_tokens_exceeded unprocessable",
}
MEANT = [(word, kind) for kind, words in BY_WORD.items() for word in words.split()]


@pytest.mark.parametrize(("word", "expected"), MEANT)
def test_a_word_says_more_than_any_status(word: str, expected: Kind) -> None:
    for status in (400, 404, 500, *(() if expected is ProviderUnavailableError else (429, 503))):
        assert type(failed(status, openai(word))) is expected
    assert type(failure_in_success(openai(word), now_s=0.0)) is expected


@pytest.mark.parametrize("word", BY_WORD[ProviderUnavailableError].split())
def test_a_status_that_asks_us_to_slow_down_says_more_than_that_a_server_failed(word: str) -> None:
    assert type(failed(429, openai(word))) is RateLimitedError
    assert type(failed(503, openai(word))) is ProviderOverloadedError


def test_no_word_is_without_its_test() -> None:
    assert {word for word, _ in MEANT} == set(WORDS), "BY_WORD here, or WORDS in wire/failure_tables.py"


def test_a_word_classifies_an_error_in_a_200_that_has_no_status() -> None:
    for word in ("invalid_request", "unprocessable"):
        assert (
            type(failure_in_success({"error": {"metadata": {"error_type": word}}}, now_s=0.0)) is RequestRejectedError
        )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("This endpoint's maximum context length is 32768 tokens.", ContextTooLongError),
        ("You have reached your specified API usage limits.", QuotaExceededError),
        ("API key expired.", ProviderAuthenticationError),
    ],
)
def test_a_phrase_says_more_than_that_the_request_is_invalid(message: str, expected: Kind) -> None:
    body = openrouter(400, "invalid_request", **OWN)
    body["error"]["message"] = message
    assert type(failed(400, body)) is type(failure_in_success(body, now_s=0.0)) is expected
    del body["error"]["code"]
    assert type(failure_in_success(body, now_s=0.0)) is expected


@pytest.mark.parametrize(
    "body",
    [
        *({"error": error} for error in (None, {}, "", {"message": "", "type": "", "param": "", "code": None})),
        {},
        {"choices": []},
    ],
)
def test_a_200_without_an_error_is_no_failure(body: dict[str, Any]) -> None:
    assert failure_in_success(body, now_s=0.0) is None


@pytest.mark.parametrize("error", [True, 500, [{"code": 500}]])
def test_an_error_of_no_known_shape_in_a_200_is_a_failure_of_the_provider(error: object) -> None:
    assert (
        type(failure_in_success({"error": error, "choices": [{"finish_reason": "stop"}]}, now_s=0.0))
        is ProviderUnavailableError
    )


@pytest.mark.parametrize("code", [None, "4290", "9" * 5000, "42x", "²²²", 200, 399, 600, True, [], 4.29e2])
def test_an_error_in_a_200_without_a_status_that_we_know_is_a_failure_of_the_provider(code: object) -> None:
    assert type(failure_in_success({"error": {"code": code, "message": "?"}}, now_s=0.0)) is ProviderUnavailableError


@pytest.mark.parametrize(("code", "expected"), [("400", RequestRejectedError), ("429", RateLimitedError)])
def test_the_status_of_an_error_in_a_200_may_be_a_text(code: str, expected: Kind) -> None:
    assert type(failure_in_success({"error": {"code": code, "message": "?"}}, now_s=0.0)) is expected


def test_the_code_of_an_availability_classifies_the_error() -> None:
    body = {"error": {"code": 402, "message": "?", "availability": {"code": "in_flight_budget_exhausted"}}}
    assert type(failed(402, body)) is type(failure_in_success(body, now_s=0.0)) is RateLimitedError


def test_a_payment_status_for_a_budget_in_flight_passes_by_itself() -> None:
    body = openrouter(402, "payment_required")
    body["error"]["availability"] = {"code": "in_flight_budget_exhausted", "retryable": True, "retry_after": 3}
    failure = failed(402, body)
    assert (type(failure), failure.retry_after_s, failure.may_be_retried) == (RateLimitedError, 3.0, True)


def test_the_daily_limit_of_free_models_holds_back_no_other_model() -> None:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "36000000"}
    body = openrouter(429, "rate_limit_exceeded", limit_source="openrouter_free_tier_daily", headers=headers, **OWN)
    for failure in (failed(429, body, headers), failed(429, body)):
        assert (type(failure), failure.pause_s, failure.may_be_retried) == (UnknownModelError, 0.0, False)


def test_a_wait_is_told_only_where_a_retry_is_of_use() -> None:
    later = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s"}
    for quota, waits_s in ((PER_DAY, None), (PER_MINUTE, 38.0)):
        body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "", "details": [quota, later]}}
        assert failed(429, body).retry_after_s == waits_s
    assert failed(400, {}, {"Retry-After": "50"}).retry_after_s is None


def test_the_limit_of_free_models_per_minute_is_waited_for_by_their_requests_alone() -> None:
    headers = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "45s"}
    body = openrouter(
        429, "rate_limit_exceeded", limit_source="openrouter_free_tier_per_minute", headers=headers, **OWN
    )
    failure = failed(429, body)
    assert (failure.code, failure.retry_after_s, failure.may_be_retried) == (ErrorCode.RATE_LIMIT, 45.0, True)
    assert failure.pause_s == 0.0


def test_openrouter_may_say_that_repeating_is_of_no_use() -> None:
    body = openrouter(503, "provider_overloaded")
    body["error"]["availability"] = {"code": "provider_overloaded", "retryable": False}
    assert not failed(503, body).may_be_retried
    inside = failure_in_success(body, now_s=0.0)
    assert inside
    assert (type(inside), inside.may_be_retried) == (ProviderOverloadedError, False)


@pytest.mark.parametrize(("word", "expected"), [("false", False), ("False", False), ("true", True), ("", True)])
def test_x_should_retry_false_wins_over_the_status(word: str, *, expected: bool) -> None:
    assert failed(503, None, {"X-Should-Retry": word}).may_be_retried is expected


@pytest.mark.parametrize("body", [openai("insufficient_quota"), anthropic("authentication_error"), openai(None)])
def test_x_should_retry_true_makes_nothing_repeatable(body: dict[str, Any]) -> None:
    assert not failed(400, body, {"x-should-retry": "true"}).may_be_retried


@pytest.mark.parametrize("phrase", [REACHED, TOO_LONG, "API key not valid"])
def test_a_sentence_counts_only_where_the_status_blames_the_request(phrase: str) -> None:
    assert type(failed(429, {"error": phrase})) is RateLimitedError
    assert type(failed(500, {"error": phrase})) is ProviderUnavailableError


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_sentence_counts_with_every_status_that_blames_the_request(status: int) -> None:
    assert type(failed(status, {"error": TOO_LONG})) is ContextTooLongError
    assert type(failed(status, {"error": REACHED})) is QuotaExceededError


class Canned(Transport):
    """Answers every exchange with the same bytes."""

    def __init__(self, status: int, body: bytes, received_at_s: float = 0.0) -> None:
        super().__init__(trusts_environment=False, now=lambda: NOON)
        self._reply = WireReply(status=status, headers=CIMultiDict(), body=body, received_at_s=received_at_s)

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> WireReply:
        return self._reply


async def test_an_error_in_a_200_is_dated_by_its_arrival() -> None:
    body = {"choices": [{"error": {"code": 429, "metadata": {"headers": {"X-RateLimit-Reset": "1764000009000"}}}}]}
    provider = OpenRouterProviderImpl(Canned(200, orjson.dumps(body), 1_764_000_000.0), OpenRouterSettings())
    with pytest.raises(RateLimitedError) as failure:
        await provider.generate_comparison(request(provider=ProviderName.OPENROUTER))
    assert failure.value.retry_after_s == 9.0


HTML = b"<!doctype html><title>Bad gateway</title>"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        *((200, body, BrokenReplyError) for body in (HTML, b"", b"{", b"\xff{}", b"{} {}")),
        *((200, body, InvalidReplyError) for body in (b"[1, 2]", b"null", b'"x"', b"7", b'{"a": 1, "a": 1}')),
        (302, HTML, UnreadableReplyError),
        (401, HTML, ProviderAuthenticationError),
        (403, HTML, UnreadableReplyError),
        (403, b"", UnreadableReplyError),
        (413, HTML, RequestRejectedError),
        (429, HTML, RateLimitedError),
        (500, HTML, ProviderUnavailableError),
        (502, HTML, ProviderUnavailableError),
        (503, HTML, ProviderOverloadedError),
        (429, b'{"error": {"code": "insufficient_quota"}}' + b" " * QUICK_BYTES, QuotaExceededError),
        (429, b'{"error": {"code": "insufficient_quota", "code": "x"}}', RateLimitedError),
        (200, b'{"choices": [{"error": {"code": 429, "message": "busy"}}]}', RateLimitedError),
        (200, b'{"choices": null}', BrokenReplyError),
        (200, b'{"choices": []}', BrokenReplyError),
        (200, b'{"choices": ["error"]}', InvalidReplyError),
        (200, b'{"choices": [{"finish_reason": null, "message": {}}]}', InvalidReplyError),
    ],
    ids=str,
)
async def test_what_is_not_the_json_of_an_answer_has_a_class_as_well(status: int, body: bytes, expected: Kind) -> None:
    provider = OpenRouterProviderImpl(Canned(status, body), OpenRouterSettings())
    with pytest.raises(expected) as failure:
        await provider.generate_comparison(request(provider=ProviderName.OPENROUTER))
    assert type(failure.value) is expected


async def test_a_large_answer_is_parsed_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_loop: list[bool] = []

    def noting(body: bytes) -> JsonObject:
        on_the_loop.append(threading.current_thread() is threading.main_thread())
        return read_object(body)

    monkeypatch.setattr("implementations.wire.endpoint.read_object", noting)
    for length in (QUICK_BYTES, QUICK_BYTES + 1):
        endpoint = Endpoint(Canned(200, b'{"a": 1}'.ljust(length)), "http://provider.example", {})
        assert await endpoint.get("/") == {"a": 1}
    assert on_the_loop == [True, False]


async def test_a_large_answer_is_parsed_on_the_loop_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = Endpoint(Canned(200, b'{"a": 1}'.ljust(QUICK_BYTES + 1)), "http://provider.example", {})
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        assert await endpoint.get("/") == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            {"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "gone"}}]},
            ProviderUnavailableError,
        ),
        ({"choices": [{"finish_reason": "error", "message": {"content": "{"}}]}, ProviderUnavailableError),
        ({"error": {"code": 502, "message": "gone"}}, ProviderUnavailableError),
        ({"choices": None}, BrokenReplyError),
        ({"choices": [{}]}, BrokenReplyError),
        ({"error": {"code": 429, "message": "busy"}, "choices": [{"finish_reason": "error"}]}, RateLimitedError),
    ],
)
@pytest.mark.parametrize(
    ("usage", "expected_purchase"),
    [
        ({"prompt_tokens": 900, "completion_tokens": 3, "cost": 0.0011}, (900, 0.0011)),
        ({"prompt_tokens": 900, "completion_tokens": 3}, (900, None)),
        ({"prompt_tokens": 900, "completion_tokens": 3, "cost": 0.02, "is_byok": True}, (900, None)),
        ({"prompt_tokens": 900, "completion_tokens": 3, "cost": 0}, (900, 0.0)),
        ({"cost": 0}, (0, 0.0)),
        ({}, None),
        (None, None),
    ],
)
async def test_what_a_failed_route_charged_is_not_lost(
    answer: JsonObject, expected: Kind, usage: object, expected_purchase: tuple[int, float | None] | None
) -> None:
    provider = OpenRouterProviderImpl(Canned(200, orjson.dumps({**answer, "usage": usage})), OpenRouterSettings())
    with pytest.raises(expected) as failure:
        await provider.generate_comparison(request(provider=ProviderName.OPENROUTER))
    purchase = failure.value.purchase
    assert (purchase and (purchase.usage.prompt, purchase.cost_usd)) == expected_purchase
