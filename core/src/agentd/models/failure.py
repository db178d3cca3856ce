"""Errors of a provider's library, told in agentd's words. The library itself is never imported here."""

from __future__ import annotations

from agentd.errors import ModelError, ModelStreamError

__all__ = ["broken_stream", "is_programming_error", "refused"]

_HINTS = {
    400: "the provider refused the request: check the parameters that were passed",
    401: "check the API key (api_key= or OPENAI_API_KEY)",
    403: "this key may not use the model: check the key and the model's name",
    404: "check the model's name and the address (base_url= or OPENAI_BASE_URL)",
    408: "the provider took too long: try again",
    413: "the conversation is too long for the provider: start a new one or use shorter results",
    429: "the provider limits the rate or the quota is used up: wait and try again, or raise the "
    "client's max_retries",
}


def is_programming_error(exc: BaseException) -> bool:
    """Tell whether this is a mistake in the call (an unknown argument, say), which passes as it is."""
    return isinstance(exc, (TypeError, AttributeError, NameError, AssertionError))


def refused(model: str, exc: Exception) -> ModelError:
    """Return the error for a request that failed; raise it from `exc`."""
    status = getattr(exc, "status_code", None)
    if status == 401 and type(exc).__module__.startswith("litellm"):
        hint = "check the API key (api_key= or the environment variable of the model's provider)"
    elif isinstance(status, int):
        hint = _HINTS.get(status) or (
            "the provider failed: try again later" if status >= 500 else "check the request"
        )
    elif "Timeout" in type(exc).__name__:
        hint = "the provider did not answer in time: try again, or raise the client's timeout"
    elif "Connection" in type(exc).__name__ or isinstance(exc, OSError):
        hint = "the provider was not reached: check the network and the address (base_url=)"
    else:
        hint = "see the cause"
    return ModelError(f"model {model!r}: {type(exc).__name__}: {_brief(exc)}; {hint}")


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
    text = str(exc)
    return text if len(text) <= 600 else f"{text[:600]} ..."
