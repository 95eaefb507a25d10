"""A self-hosted, OpenAI-compatible server (vLLM, Ollama): oldest parameter names, usage if it reports any."""

from api_models import JsonObject
from config import InternalModelSettings
from implementations.judging.verdict import VERDICT_SCHEMA, read_reply
from implementations.wire import chat_completions as chat
from implementations.wire.endpoint import Endpoint, bearer
from implementations.wire.transport import Transport
from protocols import ProviderReply, ProviderRequest


class InternalProviderImpl:
    """Speaks chat completions as self-hosted servers do: `system` instructions, `max_tokens`."""

    def __init__(self, transport: Transport, settings: InternalModelSettings) -> None:
        self._endpoint = Endpoint(transport, settings.base_url or "", bearer(settings.api_key))

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair."""
        answer = await self._endpoint.post(chat.PATH, payload(request))
        return read_reply(request, chat.completion(answer))

    async def probe(self) -> str:
        """List the models."""
        return chat.listed_models(await self._endpoint.get("/models"))


def payload(request: ProviderRequest) -> JsonObject:
    """The request body."""
    body = chat.payload(request, role="system", schema=VERDICT_SCHEMA)
    body["max_tokens"] = request.max_tokens
    if request.reasoning:
        body["reasoning_effort"] = request.reasoning
    return body
