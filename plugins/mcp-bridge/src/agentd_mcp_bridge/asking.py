"""Asks a server over its connection: what its errors mean, and when the question is put once more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from agentd.errors import ToolError, ToolTimeoutError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentd_mcp_bridge.config import HttpTarget
from agentd_mcp_bridge.connection import ServerConnection
from agentd_mcp_bridge.direct import refuses_new_revision
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.life import Life

__all__ = ["ServerRequests", "open_client", "refusal"]

_SESSION_GONE: Final = "Session terminated"
_CLOSED: Final = "Connection closed"
_OVER_S: Final = 1.0  # in which a connection that has closed is noticed at the latest


class ServerRequests:
    """The requests of one backend.

    :param opened: called with each life before it is asked anything.
    """

    def __init__(self, connection: ServerConnection, opened: Callable[[Life], None]) -> None:
        self._connection = connection
        self._name = connection.config.name
        self._opened = opened

    async def ask(
        self,
        fetch: Callable[[Life], Awaitable[Any]],
        what: str,
        *,
        repeatable: bool = True,
        needs: str = "",
        otherwise: Any = None,
        attempts: int = 2,
    ) -> tuple[Life | None, Any]:
        """Have `fetch` ask the server; once more on a new connection, if it broke and asking twice is safe."""
        from mcp import MCPError

        while True:
            life = await self._connection.open()
            self._opened(life)
            if needs and getattr(open_client(life).server_capabilities, needs) is None:
                return life, otherwise
            attempts -= 1
            try:
                return life, await fetch(life)
            except MCPError as error:
                again = await self._after(error, life, what, repeatable=repeatable)
                if not again or attempts == 0:
                    raise again or _as_tool_error(error, what) from error
            except ToolError:
                raise
            except Exception as error:  # the SDK refuses what the server sent, by several kinds of errors
                raise ToolError(f"{what} of {self._name!r}: {error}") from error

    async def _after(self, error: Any, life: Life, what: str, *, repeatable: bool) -> ToolError | None:
        """Return the error if the connection broke and asking again is allowed; raise it if it is not."""
        from mcp_types import CONNECTION_CLOSED

        if refuses_new_revision(error.message) and self._speak_older(life):
            await life.ended.wait()
            return McpServerError(self._name, f"refused {what}: {error.message}")
        is_http = isinstance(self._connection.config.target, HttpTarget)
        if is_http and error.message == _SESSION_GONE:  # it was refused, so asking again is safe
            life.broke()
            await life.ended.wait()
            return McpServerError(self._name, "has ended the session")
        if error.code != CONNECTION_CLOSED or not await _is_over(life, error):
            return None
        died = self.died(life, what)
        if life.closing or not repeatable:
            raise died from error
        return died

    def _speak_older(self, life: Life) -> bool:
        """Have the next life speak an older revision, if this one speaks the newest."""
        if life.client is None or life.client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return False
        if not self._connection.use_older():
            return False
        life.broke()
        return True

    def died(self, life: Life, what: str) -> McpServerError:
        """Return what a caller is told whose request was under way when a life ended."""
        if life.closing:
            return McpServerError(self._name, f"was closed during {what}")
        return McpServerError(
            self._name,
            f"died during this call, {what}; it is restarted with the next call; whether the call took effect "
            f"is not known: {life.failure or _CLOSED}",
        )


async def _is_over(life: Life, error: Any) -> bool:
    """Tell whether the connection has closed. A server may answer with the SDK's code for that, -32000, which JSON-RPC
    leaves to servers' own errors, and goes on."""
    if error.message != _CLOSED:
        return False
    if isinstance(error.__context__, anyio.BrokenResourceError | anyio.ClosedResourceError):
        life.broke()  # it could not be written to, whether or not its output has ended
    with anyio.move_on_after(_OVER_S):
        await life.over.wait()
    if not life.over.is_set():
        return False
    await life.ended.wait()
    return True


def open_client(life: Life) -> Any:
    """Return the SDK's client of a life. Raises why there is none, if it has ended."""
    if life.client is None:
        raise life.failure or McpServerError(life.config.name, "has ended the connection")
    return life.client


def _as_tool_error(error: Any, what: str) -> ToolError:
    return refusal(error.code, error.message, what)


def refusal(code: int, message: str, what: str) -> ToolError:
    """Return a server's error answer as one of ours."""
    from mcp_types import REQUEST_TIMEOUT

    if code == REQUEST_TIMEOUT:
        return ToolTimeoutError(f"{what} did not answer in time")
    return ToolError(f"{what}: {message}")
