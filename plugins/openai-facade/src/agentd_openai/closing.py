"""`close()` of a patched client, and the end of `with`: what it ran ends with its connections.

A client and its resources refer to each other (the SDK has it so), and so one that is only dropped lives until Python
collects such circles, which may take minutes. Who closes a client need not wait for that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentd_openai.state import Holder

__all__ = ["close_with", "close_without"]

OURS = "_agentd_close"


def close_with(client: Any, holder: Holder) -> None:
    """Have the client's `close` end the runs, the code and the executor too, unless a copy of it with another HTTP
    client still shares them."""
    import openai

    holder.clients.add(client)
    made = _async_close if isinstance(client, openai.AsyncOpenAI) else _sync_close
    client.close = made(client.close, holder)
    setattr(client.close, OURS, holder)


def close_without(client: Any) -> None:
    """Give a client back the `close` that it had, unless somebody has put another one in its place since."""
    ours = client.__dict__.get("close")
    holder: Holder | None = getattr(ours, OURS, None)
    if ours is None or holder is None:
        return
    holder.clients.discard(client)
    del client.close
    if getattr(ours.__wrapped__, "__func__", None) is not type(client).close:
        client.close = ours.__wrapped__  # somebody else's


def _sync_close(original: Callable[[], None], holder: Holder) -> Callable[[], None]:
    @wraps(original)
    def close() -> None:
        try:
            original()
        finally:
            if holder.is_unused():
                holder.state.close()

    return close


def _async_close(original: Callable[[], Awaitable[None]], holder: Holder) -> Callable[[], Awaitable[None]]:
    @wraps(original)
    async def close() -> None:
        from agentd._concurrency.pool import call_in_thread
        from anyio import CancelScope

        try:
            await original()
        finally:
            if holder.is_unused():
                # In a thread: its runs may be tasks of this loop, which has to go on meanwhile.
                with CancelScope(shield=True):
                    await call_in_thread(holder.state.close, unbounded=True)

    return close
