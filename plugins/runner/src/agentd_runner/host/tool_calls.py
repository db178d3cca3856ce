"""Calls of tools from code, on their way from the runner's line to the session's tools."""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING

from agentd.protocols import ToolReply

from agentd_runner.host.hub import shared_hub
from agentd_runner.host.open_actions import OpenActions
from agentd_runner.inside import frames

if TYPE_CHECKING:
    from agentd.protocols import ToolDispatcher

    from agentd_runner.host.call_queue import OnCall, Reply

__all__ = ["CodeCalls"]


class CodeCalls:
    """The tools that the code of one executor may call, and its open actions."""

    def __init__(self) -> None:
        self.tools: ToolDispatcher | None = None
        self.actions = OpenActions()

    def dispatch(self, action: int, name: str, arguments: bytes, answer: Reply) -> None:
        """Have the session's tools answer a call. In the I/O thread: nothing here raises or waits."""

        answer = self.actions.timed(action, answer)

        def reply(result: ToolReply) -> None:
            if len(result.payload) > frames.MAX_CALL:
                answer(False, _tool_error(f"{name}() gave {len(result.payload)} bytes"))
            else:
                answer(result.ok, result.payload)

        if self.tools is None:
            reply(ToolReply(False, _tool_error(f"no tool {name!r}: this session has no tools")))
            return
        try:
            context = self.actions.context(action)
            job = context.run(
                self.tools.submit, name, arguments, self.actions.name(action), reply, may_hand_back=True
            )
            if job is not None:
                shared_hub().run(job)
        except Exception as error:  # a dispatcher's bug must answer the call, not stop the I/O thread
            reply(ToolReply(False, _tool_error(f"{name}(): {type(error).__name__}: {error}")))

    def loosely(self) -> OnCall:
        """Return `dispatch` as a function that does not keep a forgotten executor and its tools alive."""
        weak = weakref.ref(self)

        def on_call(action: int, name: str, arguments: bytes, reply: Reply) -> None:
            calls = weak()
            if calls is not None:
                calls.dispatch(action, name, arguments, reply)

        return on_call


def _tool_error(message: str) -> bytes:
    return json.dumps({"type": "ToolError", "message": message}).encode()
