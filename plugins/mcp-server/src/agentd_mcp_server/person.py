"""The person at an MCP client: hears of output as progress, answers questions of the policy as elicitations, and what
servers behind ask of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio
import mcp_types as types
from agentd_policy.questions import ApproverAnswer, one_line
from mcp.server.connection import allowed_log_levels
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from agentd_mcp_server.naming import quoted
from agentd_mcp_server.outbox import Outbox

if TYPE_CHECKING:
    from agentd_policy.questions import Question
    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession
    from mcp_types import ElicitResult

__all__ = [
    "SCHEMA",
    "ClientPerson",
    "Person",
    "answer_of",
    "ask_client",
    "asking_person",
    "can_ask",
    "size_of",
    "wording",
]

T = TypeVar("T")
_PROGRESS_EVERY_S: Final = 0.2
_PROGRESS_CHARACTERS: Final = 500
_NAME_CHARACTERS: Final = 400
_ANSWERS: Final = {
    "allow once": "once",
    "allow for this session": "session",
    "deny": "deny",
}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "title": "Answer", "enum": list(_ANSWERS)}},
    "required": ["answer"],
}


class Person(Protocol):
    """Whoever is at the client, during one request."""

    async def heard(self, text: str) -> None:
        """Take output of code that still runs."""

    async def ask(self, question: Any) -> object:
        """Answer a question of the policy, as an approver does."""

    async def answer(self, requests: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what a server asks of the client, all at once: each `mcp_types.InputRequest` by the server's name for
        it, which may be empty. An error is an `ErrorData`."""

    def report(self, done: float, total: float | None, message: str | None) -> None:
        """Hear how far a server is. Does not wait."""

    def log(self, said: Any) -> None:
        """Hear a server's log message (`mcp_types.LoggingMessageNotificationParams`). Does not wait."""


asking_person: ContextVar[Person | None] = ContextVar("agentd_asking_person", default=None)
"""Who has called a tool of a server behind without code, and is asked about it by the policy."""


class ClientPerson:
    """Whoever made one request."""

    def __init__(self, context: ServerRequestContext[Any, Any]) -> None:
        self._context = context
        self._told = 0
        self._last = 0.0
        self._waiting = ""
        self._outbox: Outbox | None = None

    async def hearing(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work()` and pass on meanwhile what `report` and `log` are told; all of it comes before the answer."""
        self._outbox = outbox = Outbox()
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(outbox.deliver)
            try:
                result = await work()
            except Exception as error:  # out of a task group, it would be in a group of errors
                failure = error
            finally:
                outbox.close()
        if failure is not None:
            raise failure
        return result

    def report(self, done: float, total: float | None, message: str | None) -> None:
        """Report a server's progress, if the client asked for it."""
        if self._outbox is not None:
            report = partial(self._context.session.report_progress, done, total, message)
            self._outbox.put(report, size=len(message or ""))

    def log(self, said: types.LoggingMessageNotificationParams) -> None:
        """Pass on a server's log message; in the revision 2026-07-28, if the client asked for it."""
        context = self._context
        if self._outbox is None or said.level not in allowed_log_levels(
            context.protocol_version, context.meta
        ):
            return
        message = types.LoggingMessageNotification(params=said)
        send = partial(context.session.send_notification, message, context.request_id)
        self._outbox.put(send, size=size_of(said))

    async def answer(self, requests: Mapping[str, types.InputRequest]) -> dict[str, Any]:
        """Put a server's questions to the client and return each result, or error as `ErrorData`."""
        return await ask_client(self._context.session, requests, self._context.request_id)

    async def heard(self, text: str) -> None:
        """Report progress, if the client asked for it: the newest output, five times a second at most."""
        self._waiting = (self._waiting + text)[-_PROGRESS_CHARACTERS:]
        now = anyio.current_time()
        if now - self._last < _PROGRESS_EVERY_S:
            return
        self._last, self._told, message, self._waiting = now, self._told + 1, self._waiting, ""
        await self._context.session.report_progress(self._told, message=message)

    async def ask(self, question: Question) -> ApproverAnswer | str | None:
        """Put a question to the person, and withdraw it once nobody waits for the answer any more. A client that cannot
        be asked denies, and the code reads why."""
        session = self._context.session
        if not can_ask(self._context) or not session.can_send_request:
            return ApproverAnswer(
                False, reason="the MCP client cannot ask its person (it has no elicitation)"
            )
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:

            def over() -> None:  # its call was cancelled, say; from any thread
                loop.call_soon_threadsafe(scope.cancel)

            question.on_end(over)
            try:
                return answer_of(
                    await session.elicit_form(wording(question), SCHEMA, self._context.request_id)
                )
            except MCPError as error:  # the client's own, or it has gone away
                return ApproverAnswer(False, reason=f"the MCP client could not ask: {error.message:.200}")
            except ValueError:  # of pydantic
                return ApproverAnswer(False, reason="the MCP client's answer is no result of an elicitation")
            finally:
                question.forget(over)
        return None


async def ask_client(
    session: ServerSession, requests: Mapping[str, types.InputRequest], during: types.RequestId | None = None
) -> dict[str, Any]:
    """Put a server's questions to a client and return each result, or error as `ErrorData`.

    :param during: the id of the client's request on which the server works, where that is known.
    """
    answers: dict[str, Any] = {}
    metadata = ServerMessageMetadata(related_request_id=during)

    async def ask(key: str, request: types.InputRequest) -> None:
        try:
            answers[key] = await session.send_request(request, _result_of(request), metadata=metadata)
        except MCPError as error:
            answers[key] = error.error
        except ValueError:  # of pydantic
            text = "the client's answer cannot be read"
            answers[key] = types.ErrorData(code=types.INTERNAL_ERROR, message=text)

    async with anyio.create_task_group() as group:
        for key, request in requests.items():
            group.start_soon(ask, key, request)
    return answers


def _result_of(request: types.InputRequest) -> Any:
    if isinstance(request, types.ElicitRequest):
        return types.ElicitResult
    if isinstance(request, types.ListRootsRequest):
        return types.ListRootsResult
    has_tools = request.params.tools is not None or request.params.tool_choice is not None
    return types.CreateMessageResultWithTools if has_tools else types.CreateMessageResult


def size_of(said: types.LoggingMessageNotificationParams) -> int:
    """Return about how many bytes a log message has."""
    return len(said.data if isinstance(said.data, str) else str(said.data))


def can_ask(context: ServerRequestContext[Any, Any]) -> bool:
    """Tell whether the client says that it can put a form to its person."""
    able = context.session.client_capabilities
    return able is not None and able.elicitation is not None


def wording(question: Question) -> str:
    """Return what the person reads."""
    name = one_line(question.name, _NAME_CHARACTERS)
    if question.kind == "tool" and question.source not in ("", "local"):
        server = quoted(question.source)
        if question.request.spec is None:  # that is `sampling`
            return f"May the MCP server {server} ask for a model's answer ({name})?\n{question.details()}"
        name = f"{name} of {server}"  # which may be a part of agentd
    if asking_person.get() is not None:
        return f"May the tool {name} be called?\n{question.details()}"
    about = {"tool": "call the tool", "create": "write the file", "host": "reach the host"}[question.kind]
    return f"May the code {about} {name}?\n{question.details()}"


def answer_of(given: ElicitResult) -> ApproverAnswer | str:
    """Return what an elicitation's result means to the policy."""
    if given.action != "accept":
        return ApproverAnswer(False, reason=f"the person chose: {given.action}")
    answer = (given.content or {}).get("answer")
    if not isinstance(answer, str) or answer not in _ANSWERS:
        known = ", ".join(map(repr, _ANSWERS))
        return ApproverAnswer(False, reason=f"the MCP client answered {answer!r:.80}, not one of {known}")
    return _ANSWERS[answer]
