"""The attributes of OpenTelemetry's semantic conventions for generative AI; their status is "Development".

The names are spelled out here because the Python semantic conventions package has dropped them. Attributes that hold
content are left out on purpose: gen_ai.input.messages, gen_ai.output.messages, gen_ai.system_instructions.
"""

from api_models import ProviderName, Purchase
from exceptions import ContentRefusedError, ProviderError, TruncatedReplyError
from protocols import Attributes, ProviderRequest

NAMES = {ProviderName.GOOGLE: "gcp.gemini"}
OPERATIONS = {ProviderName.GOOGLE: "generate_content"}
CHAT = "chat"


def span_name(request: ProviderRequest) -> str:
    """The span name of the conventions: operation and model."""
    return f"{_operation(request)} {request.model}"


def request_attributes(request: ProviderRequest) -> Attributes:
    """The request attributes. Parameters that are not sent are omitted."""
    wished = {
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.reasoning.level": request.reasoning or None,
    }
    return {
        "gen_ai.operation.name": _operation(request),
        "gen_ai.provider.name": NAMES.get(request.provider, request.provider.value),
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.output.type": "json",
        **{name: value for name, value in wished.items() if value is not None},
    }


def outcome_attributes(failure: ProviderError | None) -> Attributes:
    """The finish reason in OpenAI's vocabulary, if known."""
    if failure is None:
        return {"gen_ai.response.finish_reasons": ("stop",)}
    if isinstance(failure, TruncatedReplyError):
        return {"gen_ai.response.finish_reasons": ("length",)}
    return {"gen_ai.response.finish_reasons": ("content_filter",)} if isinstance(failure, ContentRefusedError) else {}


def usage_attributes(purchase: Purchase | None) -> Attributes:
    """The response model and token counts, if known; input_tokens include the cached ones."""
    if purchase is None:
        return {}
    usage, model = purchase.usage, {"gen_ai.response.model": purchase.model}
    if usage.prompt == 0:
        return model
    return {
        **model,
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.cache_creation.input_tokens": usage.written,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }


def _operation(request: ProviderRequest) -> str:
    return OPERATIONS.get(request.provider, CHAT)
