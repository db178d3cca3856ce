"""A second conversation over the client of a first: for what a run asks beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentd_model_openai.addresses import is_openais
from agentd_model_openai.source import Source

__all__ = ["options_apart"]

_OF_THE_CONVERSATION: Final = frozenset(
    {
        *("conversation", "functions", "function_call", "include", "instructions", "max_completion_tokens"),
        *("max_output_tokens", "max_tokens", "n", "parallel_tool_calls", "previous_response_id", "prompt"),
        *("response_format", "stop", "stream_options", "text", "tool_choice", "tools", "truncation"),
    }
)
"""Arguments that belong to what is asked there; all others (`temperature`, `timeout`, ...) are asked with here, too."""


def options_apart(
    options: Mapping[str, Any], source: Source, *, api: str, max_tokens: int | None
) -> dict[str, Any]:
    """Return the arguments of requests apart.

    :param max_tokens: how long an answer may be; each API has its own word for it, and OpenAI itself a newer one.
    """
    kept = {name: value for name, value in options.items() if name not in _OF_THE_CONVERSATION}
    if "include" in options and kept.get("store") is False:  # ours: what is not stored comes back encrypted
        kept["include"] = options["include"]
    if max_tokens is not None:
        word = "max_completion_tokens" if is_openais(source.base_url) else "max_tokens"
        kept["max_output_tokens" if api == "responses" else word] = max_tokens
    return kept
