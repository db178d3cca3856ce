"""Tools that can only be called as tasks (2025-11-25): ask for the work, then wait for its result.

2026-07-28 has no such tools any more, and the SDK knows the messages but does not send them; the answer to the
first one passes its checks because `agentd_mcp_bridge.watched` fills in what they miss.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
import mcp_types as types

__all__ = ["call_as_task", "must_be_task"]

_KEPT_MS: Final = 3_600_000  # how long the server is to keep the result
_CANCEL_S: Final = 2.0


def must_be_task(tool: types.Tool) -> bool:
    """Tell whether the server refuses plain calls of this tool."""
    return tool.execution is not None and tool.execution.task_support == "required"


async def call_as_task(client: Any, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    """Call a tool as a task and return its result; cancelling this cancels the task."""
    params = types.CallToolRequestParams(
        name=name, arguments=arguments, task=types.TaskMetadata(ttl=_KEPT_MS)
    )
    session = client.session
    created = await session.send_request(types.CallToolRequest(params=params), types.CreateTaskResult)
    task_id = created.task.task_id
    request = types.GetTaskPayloadRequest(params=types.GetTaskPayloadRequestParams(task_id=task_id))
    try:
        # answered when the task has ended; until then, the server's questions come along with it
        result: types.CallToolResult = await session.send_request(request, types.CallToolResult)
    except anyio.get_cancelled_exc_class():
        cancel = types.CancelTaskRequest(params=types.CancelTaskRequestParams(task_id=task_id))
        with anyio.move_on_after(_CANCEL_S, shield=True):
            await session.send_request(cancel, types.CancelTaskResult)
        raise
    return result
