"""One request, answered: by a run of the facade, whole or as a stream that its reader takes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, Final

import anyio
import attrs
from agentd.turn.spending import around
from agentd_cli.http.bounded_server import ClientLink
from agentd_openai.calls import PatchedCall
from agentd_openai.sse import LAST_OF_CHAT, as_event, as_json

from agentd_serve.admission import Admission, RequestPlace
from agentd_serve.conversations import ConversationPool, ServedConversation
from agentd_serve.keys import ServedKey
from agentd_serve.refusals import RefusedRequestError, refusal_of
from agentd_serve.requests import AskedAnswer, read_body, read_request
from agentd_serve.responses import ResponsesUnderWay, ResponseUnderWay

__all__ = ["HEADERS", "SESSION", "AnswerLimits", "Answering"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HEADERS: Final = "agentd.headers"
"""Where a request's scope has its headers, by their names."""
SESSION: Final = "x-agentd-session"
_ALIVE: Final = b": the run goes on\n\n"
_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would keep the stream to itself
]


class _ReaderGoneError(Exception):
    """The client takes nothing any more."""


_GONE: Final = 499
"""The status of a request whose client has gone away; nobody is told."""


@attrs.frozen(kw_only=True)
class AnswerLimits:
    """What one request may take.

    :ivar body_bytes: its body; `body_s`: seconds until it has come; `slow_s`: then another request may take its place.
    :ivar stall_s: seconds in which a client must take what is sent; `alive_s`: then a comment is sent.
    """

    body_bytes: int = 16 * 1024 * 1024
    body_s: float = 30.0
    slow_s: float = 1.0
    stall_s: float = 60.0
    alive_s: float = 15.0


@attrs.frozen(kw_only=True)
class Answering:
    """Answers requests.

    :ivar models: those that may be asked; `defaults`: arguments of requests that say nothing of them.
    :ivar client: an `AsyncOpenAI`.
    """

    client: Any
    models: tuple[str, ...]
    defaults: dict[str, Any]
    admission: Admission
    pool: ConversationPool
    limits: AnswerLimits = attrs.field(factory=AnswerLimits)
    under_way: ResponsesUnderWay = attrs.field(factory=ResponsesUnderWay)
    _alive: set[_AnswerWriter] = attrs.field(init=False, factory=set)
    _base_url: str = attrs.field(init=False)

    @_base_url.default
    def _(self) -> str:
        return str(self.client.base_url)

    async def look_after(self) -> None:
        """Send comments in streams that have nothing else to send, and end requests whose body does not come, until
        cancelled."""
        limits = self.limits
        async with anyio.create_task_group() as group:
            while True:
                await anyio.sleep(min(limits.alive_s, limits.body_s) / 4)
                self.admission.end_slow(limits.body_s)
                now = time.monotonic()
                for writer in [one for one in self._alive if one.is_silent(now)]:
                    group.start_soon(writer.stay_alive)

    def models_of(self, key: ServedKey) -> tuple[str, ...]:
        """Return the models that a key may ask."""
        return self.models if key.models is None else tuple(m for m in self.models if m in key.models)

    async def answer(self, api: str, key: ServedKey, scope: Scope, receive: Any, send: Send) -> None:
        """Answer a request. What goes wrong is told, where nothing was sent; a stream ends with it."""
        writer = _AnswerWriter(api, scope, receive, send, self.limits)
        try:
            with self.admission.place(key, writer.link.peer) as place:
                writer.cancel = place.cancel
                with writer.link.watched(partial(_end, place)):  # its work ends when the client goes away
                    await self._answer(writer, place, receive)
        except _ReaderGoneError:
            await writer.abandon()
        except Exception as error:  # of the model, of the facade, or a refusal
            await writer.refuse(refusal_of(error))

    async def _answer(self, writer: _AnswerWriter, place: RequestPlace, receive: Any) -> None:
        key = place.key
        if key.is_spent:
            raise RefusedRequestError(
                429,
                f"the key {key.name!r} has used up its {key.spending.max_cost_usd:g} US dollars (max_cost_usd)",
                code="insufficient_quota",
                type="insufficient_quota",
            )
        limits = self.limits
        with self.admission.reading(place):
            body = await read_body(receive, writer.headers, most=limits.body_bytes)
        asked = read_request(writer.api, body, self.defaults)
        del body
        if asked.model not in self.models_of(key):
            there = ", ".join(map(repr, self.models_of(key)))
            raise RefusedRequestError(
                404,
                f"model: there is no model {asked.model[:80]!r} here; there are: {there}",
                code="model_not_found",
                param="model",
            )
        async with self.admission.turn():
            await self._run(writer, key, asked)

    async def _run(self, writer: _AnswerWriter, key: ServedKey, asked: AskedAnswer) -> None:
        name = writer.headers.get(SESSION, "")
        async with self.pool.serve(
            key, name=name, goes_on_from=asked.goes_on_from, keep=asked.is_kept
        ) as conversation:
            around.set(key.spending)
            call = self._call(conversation, asked)
            unused, conversation.is_unused = conversation.is_unused, False
            response = None
            if asked.api == "responses":
                response = ResponseUnderWay(key, asked.goes_on_from)
                with self.under_way.entered(response):
                    await self._send(writer, call, response, asked, session=name)
            else:
                await self._send(writer, call, None, asked, session=name)
            conversation.is_unused = unused and not call.transcript.executions
            if response is not None and asked.is_kept and response.last is not None:
                self.pool.keep_response(
                    conversation, response.id, call.messages(), asked.size_bytes, as_json(response.last)
                )

    async def _send(
        self,
        writer: _AnswerWriter,
        call: PatchedCall,
        response: ResponseUnderWay | None,
        asked: AskedAnswer,
        *,
        session: str,
    ) -> None:
        if asked.is_streamed:
            await writer.stream(call, response, session=session, alive=self._alive)
        else:
            await writer.whole(await call.async_whole(), response, session=session)

    def _call(self, conversation: ServedConversation, asked: AskedAnswer) -> PatchedCall:
        state = conversation.state
        assert state.ptc is not None
        arguments = asked.arguments
        if asked.goes_on_from:
            given = arguments["input"]
            said = [{"role": "user", "content": given}] if isinstance(given, str) else given
            arguments = {**arguments, "input": [*conversation.responses[asked.goes_on_from].items, *said]}
        client = self.client
        return PatchedCall(
            holder=conversation.holder,
            mode=state.ptc,
            api=asked.api,
            original=(client.chat.completions if asked.api == "chat" else client.responses).create,
            is_async=True,
            base_url=self._base_url,
            arguments=arguments,
        )


class _AnswerWriter:
    """Sends one answer, no faster than its client takes it."""

    def __init__(self, api: str, scope: Scope, receive: Any, send: Send, limits: AnswerLimits) -> None:
        self.api = api
        self.headers: Mapping[str, str] = scope[HEADERS]
        state = scope["state"]
        self.link: ClientLink = state["link"]
        self._transport = state["transport"]
        self._flow = state["flow"]
        self.cancel: Callable[[Exception], None] = lambda _: None
        self._receive = receive
        self._send = send
        self._limits = limits
        self._has_begun = False
        self._last_s = 0.0
        self._number = 0
        self._is_over = False
        self._one: anyio.Lock | None = None

    async def whole(self, answer: Any, response: ResponseUnderWay | None, *, session: str) -> None:
        """Send the whole answer."""
        if response is not None:
            response.put(answer)
        body = as_json(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._begin(200, [*headers, *_named(session)])
        await self._put(body, last=True)

    async def stream(
        self,
        call: PatchedCall,
        response: ResponseUnderWay | None,
        *,
        session: str,
        alive: set[_AnswerWriter],
    ) -> None:
        """Run a call, and send what it gives as it comes. Raises what the run raises.

        :param alive: has the writer while its stream goes on.
        """
        stream = await call.async_stream()
        try:
            await self._begin(200, [*_STREAM_HEADERS, *_named(session)])
            alive.add(self)
            while items := await stream.batch():
                await self._hand_on(items, response)
                if not stream.is_over:  # else the end goes along
                    self._transport.flush()
        finally:
            self._is_over = True
            alive.discard(self)
            with anyio.CancelScope(shield=True):
                await stream.close()
        await self._put(LAST_OF_CHAT if self.api == "chat" else b"", last=True)

    async def _hand_on(self, items: list[Any], response: ResponseUnderWay | None) -> None:
        if response is not None and items:
            self._number = items[-1].sequence_number + 1
            for item in items:
                if (made := getattr(item, "response", None)) is not None:
                    response.put(made)
        await self._put(b"".join([as_event(self.api, item) for item in items]))

    def is_silent(self, now: float) -> bool:
        """Tell whether nothing was sent for so long that a comment is due."""
        return now - self._last_s >= self._limits.alive_s and not self._is_waiting

    async def stay_alive(self) -> None:
        """Say that there is a stream: what lies between drops silent connections. A client that does not even take that
        ends the stream."""
        if self._is_over:
            return
        try:
            await self._put(_ALIVE)
        except _ReaderGoneError as error:
            self.cancel(error)

    async def refuse(self, refusal: RefusedRequestError) -> None:
        """Tell why there is no answer, or no more of it."""
        if refusal.status == _GONE:
            return
        try:
            if self._has_begun:
                await self._put(refusal.event(self.api, self._number), last=True)
                return
            # What of the body has not come yet is not waited for.
            closing = [(b"connection", b"close")] if refusal.status in (408, 413, 415, 503) else []
            await self._begin(refusal.status, [*refusal.headers, *closing])
            await self._put(refusal.body, last=True)
        except _ReaderGoneError:
            await self.abandon()

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._has_begun = True
        # It waits too: an answer before it on this connection may not have been taken.
        await self._bounded({"type": "http.response.start", "status": status, "headers": headers})

    async def _put(self, body: bytes, *, last: bool = False) -> None:
        await self._bounded({"type": "http.response.body", "body": body, "more_body": not last})

    async def _bounded(self, message: MutableMapping[str, Any]) -> None:
        if not self._flow.write_paused and not self._is_waiting:
            await self._send(message)  # there is room, so it does not wait
            self._last_s = time.monotonic()
            return
        self._one = self._one or anyio.Lock()
        async with self._one:
            with anyio.move_on_after(self._limits.stall_s) as scope:
                await self._send(message)
            self._last_s = time.monotonic()
        if scope.cancelled_caught:
            raise _ReaderGoneError

    @property
    def _is_waiting(self) -> bool:
        """Whether something is to be taken first."""
        return self._one is not None and self._one.locked()

    async def abandon(self) -> None:
        """Let go of a client that takes nothing: what it has not taken is dropped with its connection."""
        self._transport.abort()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _end(place: RequestPlace) -> None:
    place.cancel(RefusedRequestError(_GONE, "the client has gone away"))


def _named(session: str) -> list[tuple[bytes, bytes]]:
    return [(SESSION.encode(), session.encode())] if session else []
