"""The person at the editor, who is asked what a policy wants to be asked: a permission request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from acp.helpers import text_block, tool_content, update_tool_call
from acp.schema import AllowedOutcome, PermissionOption, ToolCallUpdate
from agentd_policy.questions import ApproverAnswer
from agentd_sink_console.neutral import neutral

from agentd_acp.shown import call_title, diff_of, fenced, parsed, place_of

if TYPE_CHECKING:
    from pathlib import Path

    from acp.interfaces import Client
    from agentd_policy.questions import Question

    from agentd_acp.modes import PolicyModes
    from agentd_acp.updates import TurnUpdates

__all__ = ["EditorPerson"]

_HEARD_S: Final = 2.0  # a question of an agent below is not in the events of this turn
_OPTIONS: Final = (
    PermissionOption(option_id="once", name="Allow", kind="allow_once"),
    PermissionOption(option_id="session", name="Allow for this session", kind="allow_always"),
    PermissionOption(option_id="always", name="Always allow in this folder", kind="allow_always"),
    PermissionOption(option_id="deny", name="Deny", kind="reject_once"),
)
_ALLOWING: Final = ("once", "session", "always")


class EditorPerson:
    """Whoever is at the editor, for one session. `ask` is an approver's function.

    :param client: the editor.
    :param session_id: the session.
    :param cwd: its folder.
    :param modes: know what was in a file that is to be written.
    :param turn: returns the updates of the turn that runs; None between turns.
    """

    def __init__(
        self,
        client: Client,
        session_id: str,
        cwd: Path,
        modes: PolicyModes,
        turn: Callable[[], TurnUpdates | None],
    ) -> None:
        self._client = client
        self._session_id = session_id
        self._cwd = cwd
        self._modes = modes
        self._turn = turn

    async def ask(self, question: Question) -> ApproverAnswer | str | None:
        """Put a question. Whatever is no permission is a denial, and the code reads why."""
        updates = self._turn()
        if updates is None:
            return ApproverAnswer(False, reason="it was asked for between two turns, when nobody is asked")
        if question.request.action_id:
            try:  # the editor must know of the block before it is asked about it
                async with asyncio.timeout(_HEARD_S):
                    await updates.heard(question.id)
            except TimeoutError:
                pass
        answer = await self._put(question, self._about(question, updates))
        if question.kind == "host":
            allowed = answer in _ALLOWING
            update = update_tool_call(updates.id_of(question.id), status="completed" if allowed else "failed")
            await self._client.session_update(session_id=self._session_id, update=update)
        return answer

    async def _put(self, question: Question, about: ToolCallUpdate) -> ApproverAnswer | str | None:
        """Ask. None, if nobody waits for the answer any more: the turn was stopped, say."""
        asking = asyncio.ensure_future(
            self._client.request_permission(
                session_id=self._session_id, tool_call=about, options=list(_OPTIONS)
            )
        )
        loop = asyncio.get_running_loop()

        def give_up() -> None:
            loop.call_soon_threadsafe(asking.cancel)

        question.on_end(give_up)
        try:
            await asyncio.wait([asking])
        finally:
            question.forget(give_up)
            asking.cancel()
        if asking.cancelled():
            return None
        # The client's own, or it has gone away, or it speaks otherwise.
        if (error := asking.exception()) is not None:
            return ApproverAnswer(False, reason=f"the editor could not ask: {error!s:.200}")
        outcome = asking.result().outcome
        if not isinstance(outcome, AllowedOutcome):
            return ApproverAnswer(False, reason="the question was cancelled")
        if outcome.option_id in _ALLOWING:
            return outcome.option_id
        if outcome.option_id != "deny":
            return ApproverAnswer(
                False, reason=f"the editor answered {outcome.option_id!r:.80}, which was no choice"
            )
        return ApproverAnswer(False, reason="the person at the editor has said no")

    def _about(self, question: Question, updates: TurnUpdates) -> ToolCallUpdate:
        content: list[Any]
        if question.kind == "create":
            id = question.request.action_id or question.id
            text = question.request.content.decode("utf-8", "replace")
            before = self._modes.before(id)
            content = [
                diff_of(place_of(question.name, self._cwd), text, None if before is None else before.text)
            ]
            return ToolCallUpdate(
                tool_call_id=updates.id_of(id),
                title=neutral(f"Write {question.name}"),
                kind="edit",
                status="pending",
                content=content,
            )
        if question.kind == "host":
            title, kind = neutral(f"Reach {question.name}"), "fetch"
            content = [tool_content(text_block(f"Code wants to reach `{title[6:]}`."))]
        else:
            title, kind = (
                call_title(question.name, question.request.content.decode("utf-8", "replace")),
                "other",
            )
            content = [fenced(f"{question.name} of {question.source}\n{question.details()}")]
        return ToolCallUpdate(
            tool_call_id=updates.id_of(question.id),
            title=title,
            kind=kind,  # type: ignore[arg-type]  # it is one of them
            status="pending",
            content=content,
            raw_input=None
            if question.kind == "host"
            else parsed(question.request.content.decode("utf-8", "replace")),
        )
