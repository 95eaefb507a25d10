"""A self-hosted, OpenAI-compatible server (vLLM, Ollama): oldest parameter names, usage if it reports any.

Ollama cuts a prompt that exceeds its context, and answers all the same; only its token count shows it.
"""

import re
from dataclasses import replace

from api_models import JsonObject, Usage
from config import InternalModelSettings
from implementations.judging.verdict import VERDICT_SCHEMA, read_reply
from implementations.wire import chat_completions as chat
from implementations.wire.endpoint import Endpoint, bearer
from implementations.wire.transport import Transport
from protocols import FinishReason, PromptProtocol, ProviderReply, ProviderRequest

LEAST_CUT_TOKENS = 512  # half of the smallest context in use, which is what Ollama cuts a prompt to
# In scripts that put no spaces between words, letters that are surely one token: more than any tokenizer takes for one
# on average. Four of Chinese or Japanese; six of Thai, Lao, Tibetan, Burmese or Khmer.
FEWEST_LETTERS = 4
_UNSPACED = re.compile(
    f"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]{{{FEWEST_LETTERS}}}"
    "|[\u0e00-\u109f\u1780-\u17ff]{6}"
)


class InternalProviderImpl:
    """Speaks chat completions as self-hosted servers do: `system` instructions, `max_tokens`."""

    def __init__(self, transport: Transport, settings: InternalModelSettings) -> None:
        self._endpoint = Endpoint(transport, settings.base_url or "", bearer(settings.api_key))

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair."""
        completion = chat.completion(await self._endpoint.post(chat.PATH, payload(request)))
        if _was_cut(request.prompt, completion.usage):
            completion = replace(completion, finish_reason=FinishReason.PROMPT_CUT)
        return read_reply(request, completion)

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


def _was_cut(prompt: PromptProtocol, usage: Usage) -> bool:
    """Whether fewer tokens were read than the prompt has at the least. Small cuts go unnoticed.

    Every word is at least one token, and so are so many letters without a space. A still smaller count is none of the
    prompt: some servers leave out what they had cached.
    """
    if usage.prompt < LEAST_CUT_TOKENS:
        return False
    texts = prompt.system, prompt.user_text
    beyond_words = usage.prompt - sum(len(text.split()) for text in texts)
    # Letters are counted only where there may be enough of them: each has two bytes more than one of ASCII.
    most_letters = (prompt.size_bytes - sum(map(len, texts))) // 2
    if beyond_words >= most_letters // FEWEST_LETTERS:
        return False
    return beyond_words < sum(len(_UNSPACED.findall(text)) for text in texts)
