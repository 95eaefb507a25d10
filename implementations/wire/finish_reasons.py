"""Why a model stopped, in the words of each API, as data. Any other word is unexpected.

OpenRouter passes on the vendor's word beside its own, other gateways in its place.
"""

from collections.abc import Mapping

from protocols import FinishReason

ANTHROPIC: Mapping[str, FinishReason] = {
    "end_turn": FinishReason.COMPLETE,
    "stop_sequence": FinishReason.COMPLETE,
    "max_tokens": FinishReason.TRUNCATED,
    "refusal": FinishReason.REFUSED,
    "model_context_window_exceeded": FinishReason.WINDOW_FULL,
}

GEMINI: Mapping[str, FinishReason] = {
    "STOP": FinishReason.COMPLETE,
    "MAX_TOKENS": FinishReason.TRUNCATED,
    "CONTINUATION": FinishReason.TRUNCATED,
    "PUP_LIMITED_DISABLED": FinishReason.ACCOUNT_REFUSED,
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "LANGUAGE",
            "ESCALATION",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
        ),
        FinishReason.REFUSED,
    ),
}

CHAT_COMPLETIONS: Mapping[str, FinishReason] = {
    **ANTHROPIC,
    **GEMINI,
    "PUP_LIMITED_DISABLED": FinishReason.UNEXPECTED,  # the account is the gateway's, not ours
    "guardrail_intervened": FinishReason.REFUSED,  # of Amazon Bedrock
    "content_filtered": FinishReason.REFUSED,  # of Amazon Bedrock
    "stop": FinishReason.COMPLETE,
    "length": FinishReason.TRUNCATED,
    "content_filter": FinishReason.REFUSED,
    "abort": FinishReason.INTERRUPTED,  # of vLLM and SGLang
    "error": FinishReason.INTERRUPTED,  # of Mistral
    "insufficient_system_resource": FinishReason.INTERRUPTED,  # of DeepSeek
    "model_length": FinishReason.WINDOW_FULL,  # of Mistral
    "eos": FinishReason.COMPLETE,  # of Together
    "eos_token": FinishReason.COMPLETE,  # of TGI and watsonx
    "sensitive": FinishReason.REFUSED,  # of Z.ai
    "network_error": FinishReason.INTERRUPTED,  # of Z.ai
}


def unless_calling(finish_reason: FinishReason, *, calls: bool) -> FinishReason:
    """The reason; unexpected for an answer that is finished and yet calls a tool, and so contradicts itself."""
    is_contradicted = calls and finish_reason is FinishReason.COMPLETE
    return FinishReason.UNEXPECTED if is_contradicted else finish_reason
