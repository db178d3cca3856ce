"""The connection to one server: opened on first use, opened anew after a crash; its lives come one after the other.

Everything here runs in the MCP loop (`agentd_mcp_bridge.loop`), so that no lock is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import attrs
from agentd_tools.backoff import Backoff

from agentd_mcp_bridge.config import ServerConfig
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.life import Life, ServerListener
from agentd_mcp_bridge.loop import McpLoop, mcp_loop

__all__ = ["ServerConnection"]


def restart_backoff() -> Backoff:
    """Return the waits before a server is asked again: the first restart is immediate, and who lived for half a minute
    starts with a clean slate."""
    return Backoff(first_s=0.2, longest_s=10.0, spread=0.5, free=1, well_s=30.0)


class ServerConnection:
    """The server's connection as its users see it: `open` gives the client of the current life."""

    def __init__(
        self,
        config: ServerConfig,
        listener: ServerListener,
        *,
        new_life: Callable[[ServerConfig, ServerListener], Life] = Life,
    ) -> None:
        self.config = config
        self._listener = listener
        self._new_life = new_life
        self._closed = False
        self._newest_first = False  # though the served client has a handshake: the server does not want one
        self._start_anew(None)

    def _start_anew(self, loop: McpLoop | None) -> None:
        self._loop = loop
        self._life: Life | None = None
        self._backoff = restart_backoff()
        self._waiting: anyio.Event | None = None

    @property
    def life(self) -> Life | None:
        """The current life, if it can be used, from any thread."""
        life = self._life
        return (
            life if life is not None and life.usable and self._loop is not None and self._loop.alive else None
        )

    def use_older(self) -> bool:
        """Speak a revision with a handshake from the next life on; False if that is so already, or not allowed."""
        if self.config.protocol != "auto":
            return False
        self.config = attrs.evolve(self.config, protocol="legacy")
        return True

    def _another_way(self, refused: ServerConfig) -> bool:
        """Tell whether a server that has refused one way is to be asked in another."""
        if refused.protocol == self.config.protocol:
            return self.use_older()
        self._newest_first = True  # it was the served client's way
        return True

    def _next_config(self) -> ServerConfig:
        """Return how to open the next life: in the way of the client that is served, if nothing speaks against it."""
        served = self._listener.client
        if self._newest_first or self.config.protocol != "auto" or served is None:
            return self.config
        return attrs.evolve(self.config, protocol="legacy") if served.speaks_handshake else self.config

    async def open(self) -> Life:
        """Return a life whose client can be used; open one if there is none.

        However many ask at once, it is opened once; if that fails, all of them get the error. A server that refuses
        the newest revision is opened once more in the older way, as a new process: it may refuse everything else by
        then.

        :raises McpServerError: if it cannot be opened.
        """
        if self._loop is not mcp_loop():  # the first time, or in a forked child
            self._start_anew(mcp_loop())
        while True:
            if self._closed:
                raise McpServerError(self.config.name, "was closed")
            life = self._life
            if life is None or not life.usable:
                life = await self._begin(life)
                if life is None:
                    continue
            await life.ready.wait()
            if life.failure is not None and life.client is None:
                if life.refused and self._another_way(life.config):
                    continue
                raise life.failure
            if life.client is not None:
                return life

    async def _begin(self, previous: Life | None) -> Life | None:
        """Start a new life when the old one is over and it is time; None: look again."""
        if self._waiting is not None:
            await self._waiting.wait()
            return None
        self._waiting = anyio.Event()
        try:
            if previous is not None:
                await previous.ended.wait()
            await anyio.sleep(self._backoff.remaining_s())
            if self._closed:
                return None
            self._life = life = self._new_life(self._next_config(), self._listener)
            mcp_loop().post(lambda: self._own(life), lambda: None)
            return life
        finally:
            self._waiting.set()
            self._waiting = None

    async def _own(self, life: Life) -> None:
        await life.run()
        if not life.closing:
            self._backoff.failed(life.lived_s)

    async def aclose(self) -> None:
        """Close the connection for good; what it waits for is bounded."""
        self._closed = True
        life = self._life
        if life is not None and not life.ended.is_set():
            life.stop()
            await life.ended.wait()

    def close_soon(self) -> None:
        """The same without waiting, from any thread."""
        self._closed = True
        if self._loop is not None and self._loop.alive:  # not in a forked child
            self._loop.call_soon(self._stop)

    def _stop(self) -> None:
        if self._life is not None:
            self._life.stop()
