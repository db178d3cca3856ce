"""Objects of the SDK as an OpenAI server sends them: JSON, and server-sent events (the HTML standard's format)."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["LAST_OF_CHAT", "as_event", "as_json"]

LAST_OF_CHAT: Final = b"data: [DONE]\n\n"
"""What ends a stream of chat completions."""


def as_json(thing: Any) -> bytes:
    """Return an object of the SDK's as JSON: what was set of it. Those that we make hold parts that its types do not
    expect."""
    # Not through `to_dict` and `json`: that takes three times as long, for each piece of each stream.
    text: str = thing.model_dump_json(by_alias=True, exclude_unset=True, warnings=False)
    return text.encode()


def as_event(api: str, item: Any) -> bytes:
    """Return an item of a stream as a server-sent event.

    :param api: `chat` or `responses`, whose events have names.
    """
    data = b"data: %b\n\n" % as_json(item)
    return data if api == "chat" else b"event: %b\n%b" % (item.type.encode(), data)
