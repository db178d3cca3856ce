"""Calls of which the client is asked something (revision 2026-07-28: multi round-trip requests, SEP-2322).

There a server asks nothing while it answers. It ends the request with its questions and a state, and the client makes
the request once more, with the answers and that state. A block goes on waiting in between, with its clock stopped for
a policy's question; so does a request that was passed on to a server behind, whatever revision that one speaks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import attrs
from agentd_policy.questions import ApproverAnswer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    GetPromptRequestParams,
    InputRequest,
    InputRequiredResult,
    LoggingMessageNotificationParams,
    ReadResourceRequestParams,
)

from agentd_mcp_server.person import SCHEMA, answer_of, wording

if TYPE_CHECKING:
    from agentd_policy.questions import Question

    from agentd_mcp_server.person import Person

__all__ = ["RoundTrips"]

R = TypeVar("R")
Params = CallToolRequestParams | GetPromptRequestParams | ReadResourceRequestParams
Work = Callable[["Person"], Awaitable[R]]
Start = Callable[..., object]
_MOST_HELD: Final = 1000
_ANSWER_S: Final = 600.0  # for what a server asks; a policy has a time-out of its own
_NO_ANSWER: Final = "the client has not come back with an answer"


@attrs.define(eq=False)
class _Asked:
    request: InputRequest
    read: Callable[[Any], object]
    is_answered: anyio.Event = attrs.field(factory=anyio.Event)
    answer: Any = None


class _RoundTripCall(Generic[R]):
    """One call, over all requests that it takes. To whatever works on it, it is the person at the client."""

    def __init__(self, params: Params) -> None:
        self.about = _about(params)
        self.result: R | None = None
        self.error: Exception | None = None
        self.scope = anyio.CancelScope()
        self.asked: dict[str, _Asked] = {}
        self._person: Person | None = None
        self._news = anyio.Event()
        self._count = 0

    async def work(self, work: Work[R]) -> None:
        try:
            with self.scope:
                self.result = await work(self)
        except Exception as error:  # raised again where the client waits
            self.error = error
        finally:
            self._news.set()

    async def wait(self, person: Person) -> bool:
        """Wait until the call is over (True), or asks something. A client that goes meanwhile ends it."""
        self._person = person
        try:
            while self.result is None and self.error is None and not self.scope.cancel_called:
                if self.asked:
                    return False
                self._news = anyio.Event()
                await self._news.wait()
        except BaseException:
            self.scope.cancel()
            raise
        finally:
            self._person = None
        return True

    async def heard(self, text: str) -> None:
        """See `Person.heard`. Between two requests, nobody listens."""
        if self._person is not None:
            await self._person.heard(text)

    def report(self, done: float, total: float | None, message: str | None) -> None:
        """See `Person.report`."""
        if self._person is not None:
            self._person.report(done, total, message)

    def log(self, said: LoggingMessageNotificationParams) -> None:
        """See `Person.log`."""
        if self._person is not None:
            self._person.log(said)

    async def ask(self, question: Question) -> object:
        """See `Person.ask`."""
        loop = asyncio.get_running_loop()
        asked = _Asked(_request(question), _policy_answer)

        def over() -> None:  # nobody has answered in time, say; from any thread
            loop.call_soon_threadsafe(asked.is_answered.set)

        question.on_end(over)
        try:
            await self._wait_for({"": asked})
        finally:
            if asked.answer is None and self._person is None:
                self.scope.cancel()  # the client has not come back: nobody wants what the code does now
        return asked.answer

    async def answer(self, requests: Mapping[str, InputRequest]) -> dict[str, Any]:
        """See `Person.answer`."""
        every = {key: _Asked(request, _server_answer) for key, request in requests.items()}
        with anyio.move_on_after(_ANSWER_S) as patience:
            await self._wait_for(every)
        if patience.cancelled_caught and self._person is None:
            self.scope.cancel()
        missing = ErrorData(code=INTERNAL_ERROR, message=_NO_ANSWER)
        return {key: missing if asked.answer is None else asked.answer for key, asked in every.items()}

    async def _wait_for(self, every: Mapping[str, _Asked]) -> None:
        """Ask all of these together, and wait until all are answered or over."""
        names = []
        for key, asked in every.items():
            self._count += 1
            names.append(key if key and key not in self.asked else f"question-{self._count}")
            self.asked[names[-1]] = asked
        self._news.set()
        try:
            for asked in every.values():
                await asked.is_answered.wait()
        finally:
            for name in names:
                self.asked.pop(name, None)

    def take(self, given: Mapping[str, Any]) -> None:
        """Take the client's answers. A question without one is asked again."""
        for name, asked in list(self.asked.items()):
            if name in given:
                asked.answer = asked.read(given[name])
                del self.asked[name]
                asked.is_answered.set()


class RoundTrips:
    """The calls that wait for their clients.

    :param start: starts a task that belongs to nobody's request.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._waiting: dict[str, _RoundTripCall[Any]] = {}

    async def serve(self, params: Params, work: Work[R], person: Person) -> R | InputRequiredResult:
        """Begin a call, or go on with the one that the request means, and return what became of it, or its questions.

        :raises MCPError: for a state that no call has; if too many wait; if the call was given up.
        """
        call: _RoundTripCall[R]
        if params.request_state is None:
            self._forget()
            if len(self._waiting) >= _MOST_HELD:
                raise MCPError(
                    INTERNAL_ERROR, f"{_MOST_HELD} calls wait for answers of their clients already"
                )
            call = _RoundTripCall(params)
            self._start(call.work, work)
        else:
            call = self._resumed(params)
        if await call.wait(person):
            if call.error is not None:
                raise call.error
            if call.result is None:
                raise MCPError(INTERNAL_ERROR, f"the call was given up: {_NO_ANSWER}")
            return call.result
        state = secrets.token_urlsafe(24)  # nobody can guess it, and it holds once
        self._waiting[state] = call
        return InputRequiredResult(
            input_requests={name: asked.request for name, asked in call.asked.items()},
            request_state=state,
        )

    def _forget(self) -> None:
        """Let go of those that are over, and that nobody has come back for."""
        for state, call in list(self._waiting.items()):
            if call.result is not None or call.error is not None or call.scope.cancel_called:
                del self._waiting[state]

    def _resumed(self, params: Params) -> _RoundTripCall[Any]:
        call = self._waiting.get(params.request_state or "")
        if call is None:
            raise MCPError(
                INVALID_PARAMS, "requestState: no call waits with it; make the call once more without"
            )
        if call.about != _about(params):
            raise MCPError(
                INVALID_PARAMS, "requestState: belongs to a call with another name or other arguments"
            )
        del self._waiting[params.request_state or ""]
        call.take(params.input_responses or {})
        return call


def _about(params: Params) -> tuple[object, ...]:
    """Return what a request must have in common with the one that it goes on with."""
    if isinstance(params, ReadResourceRequestParams):
        return ("resource", params.uri)
    kind = "tool" if isinstance(params, CallToolRequestParams) else "prompt"
    return (kind, params.name, params.arguments or {})


def _policy_answer(given: Any) -> object:
    if isinstance(given, ElicitResult):
        return answer_of(given)
    return ApproverAnswer(False, reason="the MCP client's answer is no result of an elicitation")


def _server_answer(given: Any) -> object:
    return given


def _request(question: Question) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=wording(question), requested_schema=SCHEMA))
