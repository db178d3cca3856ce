"""Whether a server up to 2025-11-25 is heard over streamable HTTP: what it says by itself has a stream of its own.

The SDK keeps that stream and tells nobody when it breaks, when it is there again and when it is given up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import anyio
import httpx2

__all__ = ["Hearing", "ListeningClient"]

_OPENED_S: Final = 5.0  # who sends no response head before there is something to say is taken to listen
_SESSION: Final = "mcp-session-id"
_EVENTS: Final = "text/event-stream"


class Hearing:
    """What is known of the stream. `unknown` until it was first opened, or `refused`; `lost` while the SDK opens it
    again; `gone` if that has failed."""

    def __init__(self) -> None:
        self.state: Literal["unknown", "open", "refused", "lost", "gone"] = "unknown"
        self.openings = 0
        self.in_session = False
        """Without a session there is no such stream."""
        self.changed = anyio.Event()
        """Set, and replaced, with every change."""

    async def settled(self) -> bool:
        """Wait until it is known whether the server can be heard, and tell."""
        if not self.in_session:
            return False
        with anyio.move_on_after(_OPENED_S):
            while self.state == "unknown":
                await self.changed.wait()
        while self.state in ("lost", "gone"):
            await self.changed.wait()
        return self.state != "refused"

    def opened(self, stream: Any) -> httpx2.AsyncByteStream:
        """Note that it is open; returns what to read instead of `stream`, which notes its end."""
        self.openings += 1
        self._become("open")
        return _Noted(stream, self)

    def broke(self) -> None:
        """Note its end."""
        self._become("lost")

    def failed(self, *, answered: bool) -> None:
        """Note that it could not be opened; `answered`: the server said no."""
        if self.state == "lost":
            self._become("gone")
        elif answered and self.state == "unknown":
            self._become("refused")

    def _become(self, state: Literal["open", "refused", "lost", "gone"]) -> None:
        self.state = state
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


class ListeningClient(httpx2.AsyncClient):
    """An HTTP client that tells `hearing` of the streams that it opens with GET."""

    def __init__(self, *, hearing: Hearing | None, **options: Any) -> None:
        super().__init__(**options)
        self._hearing = hearing

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        hearing = self._hearing
        if hearing is None:
            return await super().send(request, **options)
        if request.method != "GET":
            response = await super().send(request, **options)
            hearing.in_session = hearing.in_session or _SESSION in response.headers
            return response
        try:
            response = await super().send(request, **options)
        except Exception:
            hearing.failed(answered=False)
            raise
        if response.is_error:
            hearing.failed(answered=True)
        elif response.headers.get("content-type", "").lower().startswith(_EVENTS):
            response.stream = hearing.opened(response.stream)
        return response


class _Noted(httpx2.AsyncByteStream):
    """A response's body whose end is noted.

    A break looks like the end to the SDK, which then asks again and again; after two breaks it would not.
    """

    def __init__(self, stream: Any, hearing: Hearing) -> None:
        self._stream = stream
        self._hearing = hearing

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except httpx2.TransportError:
            pass
        finally:
            self._hearing.broke()

    async def aclose(self) -> None:
        await self._stream.aclose()
