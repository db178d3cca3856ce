"""Answers the calls of an agent's code: its tools, in worker threads, and the outcome of a piece of code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, Final

from agentd.protocols import ToolReply
from smolagents.serialization import SafeSerializer

__all__ = ["OUTCOME", "AgentCalls"]

OUTCOME: Final = "=outcome"  # no tool's name: those are identifiers


class AgentCalls:
    """A dispatcher (`agentd.protocols.ToolDispatcher`) for the tools of one agent."""

    def __init__(self) -> None:
        self.tools: Mapping[str, Callable[..., Any]] = {}
        self._outcome: dict[str, Any] | None = None
        self._context = copy_context()
        self._threads = ThreadPoolExecutor(thread_name_prefix="agentd-smolagents")

    def begin(self) -> None:
        """Another piece of code is about to run. Its calls see the context variables of this moment."""
        self._outcome = None
        self._context = copy_context()

    def outcome(self) -> dict[str, Any] | None:
        """Return what the code has reported; None if it did not come to that."""
        return self._outcome

    def submit(
        self,
        name: str,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        *,
        may_hand_back: bool = False,
    ) -> None:
        """Carry out a call in a thread."""
        if name == OUTCOME:
            self._outcome = json.loads(arguments)
            reply(ToolReply(ok=True, payload=b"null"))
            return
        self._threads.submit(self._carry_out, self._context.copy(), name, arguments, reply)

    def catalog(self) -> bytes:
        """There is none to read: the agent's prompt describes its tools."""
        return b"[]"

    def close(self) -> None:
        """Let the threads go once their calls have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _carry_out(
        self, context: Context, name: str, arguments: bytes, reply: Callable[[ToolReply], None]
    ) -> None:
        try:
            tool = self.tools[name]
            args, kwargs = SafeSerializer.loads(json.loads(arguments)["given"])
            value = context.run(tool, *args, **kwargs)
            payload = json.dumps(SafeSerializer.dumps(value)).encode()
        except BaseException as error:  # whatever a tool raises is for the code to read
            failure = {"type": "ToolError", "message": f"{type(error).__name__}: {error}"}
            reply(ToolReply(ok=False, payload=json.dumps(failure).encode()))
        else:
            reply(ToolReply(ok=True, payload=payload))
