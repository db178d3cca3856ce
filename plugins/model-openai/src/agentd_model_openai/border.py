"""Where a provider's answer comes in: its text is made valid Unicode, and how much of it may wait is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from agentd.errors import ModelStreamError

__all__ = ["MAX_EVENT_BYTES", "bound_events", "text_of"]

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Of one server-sent event; an SDK keeps all of it in memory several times before it shows anything."""
_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


def text_of(content: object) -> str:
    """Return the text of a message or delta: as it is, or that of its parts (Mistral sends such lists).

    :raises ModelStreamError: if it is something else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list | tuple):
        return "".join(map(_part, content))
    raise ModelStreamError(
        f"the server sent {type(content).__name__} where text was due: {str(content)[:80]!r}"
    )


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    get = part.get if isinstance(part, dict) else lambda name, default=None: getattr(part, name, default)
    text = get("text") if get("type") in (None, "text", "output_text") else ""
    return text if isinstance(text, str) else ""


def bound_events(stream: Any) -> None:
    """Have an SDK's stream fail on an event that is longer than `MAX_EVENT_BYTES`, instead of holding it in memory."""
    response = getattr(stream, "response", None)
    for name, bounded in (("iter_bytes", _bounded), ("aiter_bytes", _abounded)):
        read = getattr(response, name, None)
        if read is not None:
            setattr(response, name, lambda *a, _read=read, _bounded=bounded, **k: _bounded(_read(*a, **k)))


class _Meter:
    """Counts the bytes since an event's end."""

    def __init__(self) -> None:
        self._waiting = 0
        self._last = b""

    def see(self, chunk: bytes) -> None:
        seen = self._last + chunk
        end = max(seen.rfind(mark) + len(mark) if mark in seen else -1 for mark in _ENDS)
        self._waiting = len(seen) - end if end >= 0 else self._waiting + len(chunk)
        self._last = seen[-3:]
        if self._waiting > MAX_EVENT_BYTES:
            raise ModelStreamError(
                f"the server sent an event of more than {MAX_EVENT_BYTES >> 20} MiB; ask for less at once"
            )


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    meter = _Meter()
    for chunk in chunks:
        meter.see(chunk)
        yield chunk


async def _abounded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    meter = _Meter()
    async for chunk in chunks:
        meter.see(chunk)
        yield chunk
