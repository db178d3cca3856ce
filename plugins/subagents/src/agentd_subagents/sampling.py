"""An MCP server asks for a model's answer (sampling): answered as a question of the code that has called the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentd.errors import ToolError
from agentd_tools.calling import current_call

if TYPE_CHECKING:
    from agentd_subagents.settings import NestingSettings

__all__ = ["answer_server"]


async def answer_server(settings: NestingSettings, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what MCP calls a CreateMessageResult, for the fields of its CreateMessageRequest.

    :raises ToolError: if no run has called the server, if its budget is spent, or if the request has more than text.
    """
    from agentd_subagents.asking import ModelQuestion, ask
    from agentd_subagents.home_loop import on_loop_of
    from agentd_subagents.opening import ModelOpener
    from agentd_subagents.purse import Purse, own_run

    call = current_call.get()
    if call is None or call.session is None:
        raise ToolError("no session has called this server: there is nobody whose model could be asked")
    session, run = call.session, own_run()
    question = ModelQuestion(prompt=_conversation(request), system=request.get("systemPrompt"))
    opener = ModelOpener(settings)

    async def answered() -> dict[str, Any]:
        model = opener.open(
            None, run, session.registry(), max_tokens=request.get("maxTokens"), streamed=False
        )
        try:
            text = await ask(question, model, Purse(), timeout_s=settings.timeout_s)
        finally:
            await opener.done(model)
            await opener.aclose()
        return {
            "role": "assistant",
            "model": model.name,
            "content": {"type": "text", "text": text},
            "stopReason": "endTurn",
        }

    return await on_loop_of(run, answered)


def _conversation(request: Mapping[str, Any]) -> str:
    """Return the messages as one text: a question alone as it is, a longer conversation with who said what."""
    said = []
    for message in request.get("messages") or ():
        content = message.get("content") or {}
        parts = content if isinstance(content, list) else [content]
        for part in parts:
            if part.get("type") != "text":
                raise ToolError(f"the server sends {part.get('type')!r}; its model is asked with text alone")
        said.append((message.get("role", "user"), "\n".join(part.get("text", "") for part in parts)))
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join(f"[{role}]\n{text}" for role, text in said)
