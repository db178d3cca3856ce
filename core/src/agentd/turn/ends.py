"""Why an answer ended: the words of the providers, and what they mean for a run."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["end_of"]

End = Literal["answer", "refused", "cut", "provider_error", "paused"]

_WORDS: Final[dict[End, str]] = {
    "refused": "refusal content_filter content_filtered safety recitation blocklist prohibited_content spii "
    "image_safety sensitive guardrail_intervened blocked",
    "cut": "length max_tokens max_output_tokens model_length model_context_window_exceeded",
    "provider_error": "error network_error insufficient_system_resource malformed_function_call unexpected_tool_call",
    "paused": "pause_turn",
}
_ENDS: Final[dict[str, End]] = {word: end for end, words in _WORDS.items() for word in words.split()}


def end_of(word: str) -> End:
    """Return what a provider's finish reason means; one that is not known is an ordinary end."""
    return _ENDS.get(word.lower(), "answer")
