"""What a call reports beside the SDK's own answer, and the errors that it raises."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import attrs
from agentd.errors import ModelError, ModelStreamError
from agentd.turn.transcript import Transcript

__all__ = ["both", "ended_early", "http_library", "make_record", "out_of_time"]


def make_record(transcript: Transcript, messages: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Return the extra field `agentd` of an answer: what was run, and the messages that the run has added.

    `messages` are in the API's own form. A caller who goes on with the conversation by hand appends them to
    the messages that it sent; then the model sees its code and the results again.
    """
    return {
        "executions": [attrs.asdict(e) for e in transcript.executions],
        "messages": list(messages),
        **more,
    }


@cache
def _both(ours: type[ModelError], theirs: type[Exception]) -> type[ModelError]:
    members = {
        "__module__": theirs.__module__,
        "__doc__": theirs.__doc__,
        "__str__": Exception.__str__,  # LiteLLM's have their own, which would hide our message
        "__repr__": Exception.__repr__,
    }
    return type(theirs.__name__, (ours, theirs), members)


def both(error: Exception) -> Exception:
    """Return an error that is agentd's and the SDK's at once.

    `except openai.RateLimitError` and `except agentd.ModelError` both catch it; it has the attributes of the
    SDK's exception (LiteLLM's inherit them), which is its `__cause__`. Any other error is returned as it is.
    """
    cause = error.__cause__
    if (
        not isinstance(error, ModelError)
        or not isinstance(cause, Exception)
        or isinstance(error, type(cause))
    ):
        return error
    if type(cause).__module__.partition(".")[0] not in ("openai", "litellm"):
        return error
    try:
        mixed = _both(type(error), type(cause))  # type: ignore[arg-type]
    except TypeError:  # the two have no common layout
        return error
    made = mixed.__new__(mixed)
    made.__dict__.update(cause.__dict__ | error.__dict__)
    made.args = error.args
    made.__cause__ = cause
    return made


def out_of_time(name: str, base_url: str, limit_s: float | None) -> Exception:
    """Return the error of a run whose time was over before the model had said anything: there is no answer that could
    say so."""
    import openai

    error = ModelError(f"model {name!r}: nothing of an answer came within wall_time_s ({limit_s:g} s)")
    error.__cause__ = openai.APITimeoutError(request=_request(base_url))
    return both(error)


def ended_early(name: str, base_url: str) -> Exception:
    """Return the error of a run that somebody else than its reader has ended: what came is not the whole answer."""
    import openai

    error = ModelStreamError(
        f"model {name!r}: the run was ended before its answer was whole: the client was closed (`close()`, "
        "`cleanup_ptc()`), or the task was cancelled"
    )
    error.__cause__ = openai.APIConnectionError(request=_request(base_url))
    return both(error)


def _request(base_url: str) -> Any:
    return http_library().Request("POST", base_url)


def http_library() -> Any:
    """Return the HTTP library that the SDK uses: httpx, or its successor in newer SDKs."""
    import openai

    own = next(c for c in openai.DefaultHttpxClient.__mro__ if c.__module__.partition(".")[0] != "openai")
    return sys.modules[own.__module__.partition(".")[0]]
