"""A call of a tool from code, on its way from the runner's line to the session's tools."""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING

from agentd.protocols import ToolReply

from agentd_runner.host.hub import shared_hub
from agentd_runner.inside import frames

if TYPE_CHECKING:
    from agentd.protocols import ToolDispatcher

    from agentd_runner.host.call_queue import OnCall, Reply

__all__ = ["call_through", "dispatch"]


def dispatch(
    tools: ToolDispatcher | None, name: str, arguments: bytes, action_id: str, answer: Reply
) -> None:
    """Have the session's tools answer a call. In the I/O thread: nothing here raises or waits."""

    def reply(result: ToolReply) -> None:
        if len(result.payload) > frames.MAX_CALL:
            answer(False, _tool_error(f"{name}() gave {len(result.payload)} bytes"))
        else:
            answer(result.ok, result.payload)

    if tools is None:
        reply(ToolReply(False, _tool_error(f"no tool {name!r}: this session has no tools")))
        return
    try:
        job = tools.submit(name, arguments, action_id, reply, may_hand_back=True)
        if job is not None:
            shared_hub().run(job)
    except Exception as error:  # a dispatcher's bug must answer the call, not stop the I/O thread
        reply(ToolReply(False, _tool_error(f"{name}(): {type(error).__name__}: {error}")))


def call_through(method: OnCall) -> OnCall:
    """Return the method of an executor as a function that does not keep a forgotten executor alive."""
    weak = weakref.WeakMethod(method)

    def on_call(action: int, name: str, arguments: bytes, reply: Reply) -> None:
        alive = weak()
        if alive is not None:
            alive(action, name, arguments, reply)

    return on_call


def _tool_error(message: str) -> bytes:
    return json.dumps({"type": "ToolError", "message": message}).encode()
