"""Why a model stopped, in its vendor's words, as data. OpenRouter passes them on. Any other word is unexpected."""

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
