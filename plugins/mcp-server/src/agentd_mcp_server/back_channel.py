"""The way back: what servers behind ask of a client of ours, and what they tell it by themselves.

Servers are spoken to in the loop of the MCP connections, clients in the one that serves them; everything crosses here.
For which request a server asks or logs something is decided by `under_way`; between two requests, the client's own
channel is used, where its revision has one. Nobody is asked, or told, what may be meant for another client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import mcp_types as types
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from agentd_mcp_server.naming import named
from agentd_mcp_server.outbox import Outbox
from agentd_mcp_server.person import ask_client, size_of
from agentd_mcp_server.under_way import RequestsUnderWay, UnclearRequestError

if TYPE_CHECKING:
    from mcp.server.session import ServerSession

    from agentd_mcp_server.abilities import ClientAbilities
    from agentd_mcp_server.person import Person
    from agentd_mcp_server.under_way import ClientRequest

__all__ = ["BackChannel"]

_log = logging.getLogger("agentd.mcp")
_ANSWER_S: Final = 600.0
_MOST_QUESTIONS: Final = 100
"""That wait for answers at once."""
_DENIED: Final = -1  # as MCP has it for a person who does not want a model to be asked
_LISTS: Final[Mapping[type, tuple[Literal["tools", "prompts", "resources"], ServerEvent]]] = {
    types.ToolListChangedNotification: ("tools", ToolsListChanged()),
    types.PromptListChangedNotification: ("prompts", PromptsListChanged()),
    types.ResourceListChangedNotification: ("resources", ResourcesListChanged()),
}
_KINDS: Final = {
    types.ElicitRequest: "elicitation",
    types.CreateMessageRequest: "sampling",
    types.ListRootsRequest: "roots",
}
Allow = Callable[[str, types.CreateMessageRequestParams, "Person | None"], Awaitable[str]]


class BackChannel:
    """From the servers of one sandbox to its client, or to the clients that can be asked the same.

    Implements `agentd_mcp_bridge.passing.ServedClient`. Made in the loop in which clients are served; but for `answer`,
    `notified`, `ask` and `soon`, it is used there alone.

    :param allow: returns why a model may not be asked for a server, or an empty text.
    :param start: starts a task that ends with the sandboxes.
    :param kinds: what of the servers is offered: changes of nothing else are told.
    :param is_shared: several clients make requests, and nothing says which is whose.
    """

    def __init__(
        self,
        abilities: ClientAbilities,
        *,
        allow: Allow,
        start: Callable[..., object],
        kinds: frozenset[str],
        is_shared: bool = False,
    ) -> None:
        self.able = abilities.able
        self.speaks_handshake = abilities.speaks_handshake
        self.session: ServerSession | None = None
        """The newest one of a client with a handshake, for what belongs to no request."""
        self.bus = InMemorySubscriptionBus()
        """For the listening requests of clients without."""
        self._allow = allow
        self._kinds = kinds
        self.is_shared = is_shared
        self.requests = RequestsUnderWay(start, is_shared=is_shared)
        self._questions = 0
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        start(self._outbox.deliver)

    @property
    def is_working(self) -> bool:
        """True while any request is under way."""
        return len(self.requests) > 0

    def close(self) -> None:
        """Tell nothing more."""
        self._outbox.close()

    # --- in the loop of the MCP connections --------------------------------------------------------

    async def answer(self, server: str, request: types.InputRequest) -> Any:
        """See `ServedClient.answer`."""
        return (await self.ask(server, {"": request}, None))[""]

    async def ask(
        self, server: str, requests: Mapping[str, types.InputRequest], during: ClientRequest | None
    ) -> dict[str, Any]:
        """Have a server's questions answered, by the person for whom it works. An error is an `ErrorData`.

        :param during: the request on which it works, if that is known.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(self._answers(server, requests, during), self._loop)
        except RuntimeError:  # the program ends
            return dict.fromkeys(requests, _failed("the client is not served any more"))
        return await asyncio.wrap_future(future)

    async def notified(self, server: str, message: Any) -> None:
        """See `ServedClient.notified`."""
        self.soon(self._hear, server, message)

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function where clients are served. From any thread."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the program ends
            return

    # --- where clients are served ------------------------------------------------------------------

    async def _answers(
        self, server: str, requests: Mapping[str, types.InputRequest], during: ClientRequest | None
    ) -> dict[str, Any]:
        if self._questions + len(requests) > _MOST_QUESTIONS:
            return dict.fromkeys(
                requests, _failed(f"{_MOST_QUESTIONS} questions wait for their answers already")
            )
        if during is None:
            try:
                during = self.requests.newest(server, asks=True)
            except UnclearRequestError as error:
                hint = 'make the request again, or give the server "shared": false in the file of servers'
                return dict.fromkeys(requests, _failed(f"{error}; {hint}"))
        self._questions += len(requests)
        try:
            async with anyio.create_task_group() as group:
                if during is not None:
                    group.start_soon(_withdraw, during, group.cancel_scope)
                answers = await self._answers_of(server, requests, during)
                group.cancel_scope.cancel()
                return answers
        finally:
            self._questions -= len(requests)
        return dict.fromkeys(requests, _failed("the request for which the client was asked is over"))

    async def _answers_of(
        self, server: str, requests: Mapping[str, types.InputRequest], during: ClientRequest | None
    ) -> dict[str, Any]:
        asked = None if during is None else during.person
        allowed: dict[str, types.InputRequest] = {}
        answers: dict[str, Any] = {}
        for key, request in requests.items():
            kind, refusal = _KINDS[type(request)], ""
            if getattr(self.able, kind) is None:
                answers[key] = _missing(kind)
                continue
            if isinstance(request, types.CreateMessageRequest):
                refusal = await self._allow(server, request.params, asked)
            if refusal:
                answers[key] = types.ErrorData(code=_DENIED, message=refusal)
            else:
                allowed[key] = named(request, server, "" if during is None else during.what)
        if not allowed:
            return answers
        try:
            async with asyncio.timeout(_ANSWER_S):
                if asked is not None:
                    return answers | await asked.answer(allowed)
                if self.session is not None:
                    return answers | await ask_client(self.session, allowed)
        except TimeoutError:
            return dict.fromkeys(requests, _failed("the client has not answered"))
        return answers | dict.fromkeys(
            allowed, _failed("nothing is under way for which the client could be asked")
        )

    def _hear(self, server: str, message: Any) -> None:
        if isinstance(message, types.LoggingMessageNotification):
            try:
                request = self.requests.newest(server)
            except UnclearRequestError as error:
                _log.debug("a log message of %s is not passed on: %s", server, error)
                return
            self.log(server, message.params, None if request is None else request.person)
        elif isinstance(message, types.ElicitCompleteNotification):
            self._send(message)
        elif (changed := _LISTS.get(type(message))) is not None and changed[0] in self._kinds:
            self._send(message if message.params is None else type(message)(), key=type(message))
            self._publish(changed[1])

    def log(self, server: str, said: types.LoggingMessageNotificationParams, person: Person | None) -> None:
        """Pass on a log message of a server, to this person or else to the client."""
        logger = f"{server}/{said.logger}" if said.logger else server
        said = types.LoggingMessageNotificationParams(level=said.level, data=said.data, logger=logger)
        if person is not None:
            person.log(said)
        else:
            self._send(types.LoggingMessageNotification(params=said), size=size_of(said))

    def resource_changed(self, uri: str) -> None:
        """Tell that a resource has changed to which somebody has subscribed."""
        params = types.ResourceUpdatedNotificationParams(uri=uri)
        self._send(types.ResourceUpdatedNotification(params=params), key=uri)
        self._publish(ResourceUpdated(uri=uri))

    def _send(self, message: types.ServerNotification, *, key: object = None, size: int = 0) -> None:
        if self.session is not None:
            self._outbox.put(partial(self.session.send_notification, message), key=key, size=size)

    def _publish(self, event: ServerEvent) -> None:
        if not self.speaks_handshake:
            self._outbox.put(partial(self.bus.publish, event), key=event)


async def _withdraw(request: ClientRequest, questions: anyio.CancelScope) -> None:
    """Withdraw the questions of a request once nobody waits for its answer: some servers do not do so."""
    await request.over()
    questions.cancel()


def _missing(kind: str) -> types.ErrorData:
    """Return what a server, or the caller, reads that needs a client which can be asked more."""
    needed: dict[str, Any] = {"requiredCapabilities": {kind: {}}}
    text = f"{kind} is not supported by the client"
    return types.ErrorData(code=types.MISSING_REQUIRED_CLIENT_CAPABILITY, message=text, data=needed)


def _failed(text: str) -> types.ErrorData:
    return types.ErrorData(code=types.INTERNAL_ERROR, message=text)
