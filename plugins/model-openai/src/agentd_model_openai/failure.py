"""Errors of a provider's library, told in agentd's words. The library itself is never imported here."""

from __future__ import annotations

import re

from agentd.errors import ContextLengthError, ModelError, ModelStreamError

from agentd_model_openai.retry import asked_wait, status_of

__all__ = ["broken_stream", "is_programming_error", "refused"]

_HINTS = {
    400: "the provider refused the request: check the parameters that were passed",
    401: "check the API key ({variable})",
    402: "the account has no credit left: check the provider's billing page",
    403: "this key may not use the model: check the key and the model's name",
    404: "check the model's name and the address (OPENAI_BASE_URL)",
    408: "the provider took too long: try again",
    413: "the conversation is too long for the provider: start a new one or use shorter results",
    429: "the provider limits the rate or the quota is used up: wait and try again, or raise max_retries",
}
_TOO_LONG = (
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "ContextWindowExceeded",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "exceed_context_size_error",  # llama.cpp, whose numbers stand in the error's body
    "exceeds the available context size",
)
_TOO_LONG_HINT = (
    "the conversation is too long for this model: start a new one, use shorter results or a model with a larger "
    "context"
)
_BY_TEXT = (
    (
        (
            "insufficient_quota",
            "exceeded your current quota",
            "credit balance is too low",
            "billing_hard_limit",
        ),
        "the quota or the credit of this key is used up: check the provider's billing page",
    ),
    (_TOO_LONG, _TOO_LONG_HINT),
    (
        (
            "invalid_api_key",
            "API key not valid",
            "Incorrect API key",
            "API_KEY_INVALID",
            "Missing Anthropic API Key",
        ),
        _HINTS[401],
    ),
    (
        ("model_not_found", "LLM Provider NOT provided", "is not found for API version"),
        "check the model's name; one of another provider than the client's needs its prefix "
        "(`anthropic/...`, `gemini/...`)",
    ),
)
"""What providers and LiteLLM write, for what has no status code of its own."""
_UNREACHED = ("Connection refused", "disconnected without", "peer closed", "Name or service not known")
"""LiteLLM takes some of these for an error within the provider."""
_VARIABLES = {
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_API_KEY",
    "cohere": "COHERE_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "xai": "XAI_API_KEY",
}


_KEY_IN_ADDRESS = re.compile(r"([?&]key=)[^&\s'\"]+")
"""Gemini's key is part of the address, which HTTP libraries quote."""


def is_programming_error(exc: BaseException) -> bool:
    """Tell whether this is a mistake in the call (an unknown argument, say), which passes as it is."""
    return isinstance(exc, (TypeError, AttributeError, NameError, AssertionError))


def refused(model: str, exc: Exception) -> ModelError:
    """Return the error for a request that failed; raise it from `exc`."""
    told = f"model {model!r}: {type(exc).__name__}: {_brief(exc)}"
    if not _is_too_long(exc):
        error = ModelError(f"{told}; {_next_step(exc)}")
    else:
        tokens, limit = _number(exc, "n_prompt_tokens"), _number(exc, "n_ctx")
        numbers = f" ({tokens:,} tokens of {limit:,})" if tokens and limit else ""
        error = long = ContextLengthError(f"{told}{numbers}; {_next_step(exc)}")
        long.tokens, long.limit = tokens, limit
    error.retry_after_s, error.status = asked_wait(exc), status_of(exc)
    return error


def _said(exc: BaseException) -> str:
    """Return all that an error says of itself: newer SDKs leave the kind and further fields to its body."""
    return f"{getattr(exc, 'code', '')} {type(exc).__name__} {exc} {getattr(exc, 'body', '')}"


def _is_too_long(exc: Exception) -> bool:
    return status_of(exc) == 413 or any(mark in _said(exc) for mark in _TOO_LONG)


def _number(exc: Exception, name: str) -> int | None:
    """Return a number from the body of an error, which LiteLLM passes on as text."""
    found = re.search(rf"""{name}["']?\s*[:=]\s*(\d+)""", _said(exc))
    return int(found[1]) if found else None


def _next_step(exc: Exception) -> str:
    told = _said(exc)
    for marks, hint in _BY_TEXT:
        if any(mark in told for mark in marks):
            return hint.format(variable=_variable(exc))
    status = status_of(exc)
    if "Timeout" in type(exc).__name__:
        return "the provider did not answer in time: try again, or raise the client's timeout"
    named = "Connection" in type(exc).__name__ and status in (None, 500)
    if named or isinstance(exc, OSError) or any(m in told for m in _UNREACHED):
        return "the provider was not reached or hung up: check the network and the address (OPENAI_BASE_URL)"
    if status is None:
        return "see the cause"
    asked = asked_wait(exc)
    if status == 429 and asked is not None:
        wait = f"asks to wait {max(asked, 1):.0f} s"
        return f"the provider limits the rate and {wait}: try again then, or raise max_retries"
    hint = _HINTS.get(status) or (
        "the provider failed: try again later" if status >= 500 else "check the request"
    )
    return hint.format(variable=_variable(exc))


def _variable(exc: Exception) -> str:
    """Return the environment variable of the key, as far as it is known which provider this is."""
    if not type(exc).__module__.startswith("litellm"):
        return "OPENAI_API_KEY"
    provider = str(getattr(exc, "llm_provider", ""))
    return _VARIABLES.get(provider, "the environment variable of the model's provider")


def broken_stream(model: str, exc: Exception) -> ModelStreamError:
    """Return the error for a stream that broke; raise it from `exc`."""
    return ModelStreamError(
        f"model {model!r}: the stream broke: {type(exc).__name__}: {_brief(exc)}; "
        "what came before is in the transcript, ask again for the rest"
    )


def unfinished(model: str, marker: str, *, empty: bool) -> ModelStreamError:
    """Return the error for a stream that just ended, without its finish marker."""
    what = "was empty" if empty else f"ended without its finish marker ({marker})"
    return ModelStreamError(
        f"model {model!r}: the stream {what}, so the answer is at most a part; "
        "what came is in the transcript, ask again for the rest"
    )


def _brief(exc: Exception) -> str:
    text = str(exc).partition("\nTraceback (most recent call last)")[0]  # LiteLLM adds its own
    text = _KEY_IN_ADDRESS.sub(r"\1***", text)
    # it ends a sentence of the provider's, and ours goes on
    return text.rstrip(". \n") if len(text) <= 600 else f"{text[:600]} ..."
