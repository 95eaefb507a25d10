"""OpenAI's chat completions, with `store` off: the vendor does not keep pupils' essays as stored completions."""

from api_models import JsonObject
from config import OpenAISettings
from implementations.judging.verdict import VERDICT_SCHEMA, read_reply
from implementations.wire import chat_completions as chat
from implementations.wire.endpoint import Endpoint, bearer
from implementations.wire.transport import Transport
from protocols import ProviderReply, ProviderRequest


class OpenAIProviderImpl:
    """Speaks chat completions as OpenAI does: `developer` instructions, a cap that includes reasoning."""

    def __init__(self, transport: Transport, settings: OpenAISettings) -> None:
        organization = {"OpenAI-Organization": settings.org_id} if settings.org_id else {}
        self._endpoint = Endpoint(transport, settings.base_url, {**bearer(settings.api_key), **organization})

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair."""
        answer = await self._endpoint.post(chat.PATH, payload(request))
        return read_reply(request, chat.completion(answer))

    async def probe(self) -> str:
        """List the models, which is free and requires the key."""
        return chat.listed_models(await self._endpoint.get("/models"))


def payload(request: ProviderRequest) -> JsonObject:
    """The request body; `prompt_cache_key` routes questions with the same prefix to the same machine.

    `service_tier`: the project may be set to one with other prices than those that we know.
    """
    body = chat.payload(request, role="developer", schema=VERDICT_SCHEMA)
    body |= {
        "max_completion_tokens": request.max_tokens,
        "store": False,
        "service_tier": "default",
        "prompt_cache_key": chat.prefix_group(request.prompt),
    }
    if request.reasoning:
        body["reasoning_effort"] = request.reasoning
    return body
