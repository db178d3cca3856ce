"""Whom a server's questions reach, and what is kept of what it says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import mcp_types as types
import pytest
from agentd_mcp_server import rounds
from agentd_mcp_server.abilities import ClientAbilities
from agentd_mcp_server.back_channel import BackChannel
from agentd_mcp_server.command import BlockedWrites
from agentd_mcp_server.naming import named, quoted
from agentd_mcp_server.reconnecting import SessionEvents
from hypothesis import given, strategies as st
from mcp.shared.exceptions import MCPError

pytestmark = pytest.mark.anyio
FORM = types.ElicitRequest(
    params=types.ElicitRequestFormParams(message="Who?", requested_schema={"type": "object"})
)
ABLE = ClientAbilities(
    types.ClientCapabilities(elicitation=types.ElicitationCapability()), speaks_handshake=False
)


class Somebody:
    """A person who answers with a name, when told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[Any] = []
        self.may_answer = anyio.Event()

    async def answer(self, requests: Mapping[str, Any]) -> dict[str, Any]:
        await self.may_answer.wait()
        return dict.fromkeys(requests, self.name)

    def log(self, said: Any) -> None:
        self.heard.append(said.data)

    async def heard_text(self, text: str) -> None: ...
    async def ask(self, question: Any) -> object: ...
    def report(self, done: float, total: float | None, message: str | None) -> None: ...


def channel(group: Any, *, is_shared: bool) -> BackChannel:
    async def allow(*_: object) -> str:
        return ""

    return BackChannel(ABLE, allow=allow, start=group.start_soon, kinds=frozenset(), is_shared=is_shared)


async def settled() -> None:
    """The server has answered something since."""


async def test_nobody_is_asked_what_may_be_meant_for_another_client_and_then_each_has_a_turn() -> None:
    one, two = Somebody("one"), Somebody("two")
    one.may_answer.set()
    two.may_answer.set()
    answers: list[Any] = []
    async with anyio.create_task_group() as group:
        made = channel(group, is_shared=True)

        async def request(person: Any) -> None:
            async with made.requests.turn(person, "shop", "", settled):
                answers.append((person.name, await made.answer("shop", FORM)))

        async with made.requests.turn(one, "shop", "", settled):  # type: ignore[arg-type]
            assert await made.answer("shop", FORM) == "one"  # it is one that asks
        async with made.requests.turn(one, "shop", "", settled):  # type: ignore[arg-type]
            with made.requests.working(two, None):  # type: ignore[arg-type]  # code, which may call any server
                refused = await made.answer("shop", FORM)
                made._hear("shop", types.LoggingMessageNotification(params=log("for whom?")))
            group.start_soon(request, two)
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            made._hear("shop", types.LoggingMessageNotification(params=log("for one")))
        async with anyio.create_task_group() as both:
            both.start_soon(request, one)
        await anyio.wait_all_tasks_blocked()
        made.close()
    assert isinstance(refused, types.ErrorData)
    assert "2 requests are under way" in refused.message
    assert sorted(answers) == [("one", "one"), ("two", "two")]
    assert (one.heard, two.heard) == (["for one"], [])


def log(text: str) -> types.LoggingMessageNotificationParams:
    return types.LoggingMessageNotificationParams(level="info", data=text)


async def test_one_client_is_asked_for_the_newest_request_and_not_without_an_end() -> None:
    one, two = Somebody("one"), Somebody("two")
    answers: list[Any] = []
    async with anyio.create_task_group() as group:
        made = channel(group, is_shared=False)

        async def ask() -> None:
            answers.append(await made.answer("shop", FORM))

        with made.requests.working(one), made.requests.working(two):  # type: ignore[arg-type]
            for _ in range(101):
                group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert [answer.message for answer in answers] == ["100 questions wait for their answers already"]
            two.may_answer.set()
            await anyio.wait_all_tasks_blocked()
        made.close()
    assert answers[1:] == ["two"] * 100


async def test_a_sessions_events_are_bounded_whatever_servers_behind_say() -> None:
    events = SessionEvents()
    ids = []
    for number in range(10):
        params = {"level": "info", "data": f"{number}" * 1_000_000}
        said = types.JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params=params)
        ids.append(await events.store_event("1", said))
    replayed: list[Any] = []

    async def take(event: Any) -> None:
        replayed.append(event)

    assert await events.replay_events_after(ids[0], take) is None
    assert await events.replay_events_after(ids[-4], take) == "1"
    assert len(replayed) == 3


def told(number: int) -> types.JSONRPCNotification:
    params = {"level": "info", "data": str(number)}
    return types.JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params=params)


async def test_what_comes_while_a_stream_is_replayed_is_replayed_and_what_comes_then_waits_until_it_is_live() -> (
    None
):
    live: set[str] = set()
    events = SessionEvents(lambda _: live)
    first = await events.store_event("1", None)
    await events.store_event("1", told(0))
    replayed: list[str] = []

    async def take(event: Any) -> None:
        replayed.append(event.message.params["data"])
        if len(replayed) < 3:  # the client reads slowly, and the server goes on
            await events.store_event("1", told(len(replayed)))

    assert await events.replay_events_after(first, take) == "1"
    assert replayed == ["0", "1", "2"]
    stored: list[str] = []

    async def store(stream: str) -> None:
        await events.store_event(stream, told(9))
        stored.append(stream)

    async with anyio.create_task_group() as group:
        group.start_soon(store, "1")
        await store("other")
        await events.store_event("1", None)  # with which the SDK tells the client that it is live
        await anyio.wait_all_tasks_blocked()
        assert stored == ["other"]
        live.add("1")
    assert stored == ["other", "1"]


async def test_a_question_of_a_request_that_was_given_up_is_put_to_nobody_else() -> None:
    one, two = Somebody("one"), Somebody("two")
    two.may_answer.set()
    has_answered = anyio.Event()
    async with anyio.create_task_group() as group:
        made = channel(group, is_shared=True)
        with made.requests.working(one, "shop", "", has_answered.wait):  # type: ignore[arg-type]
            pass  # cancelled, say
        with made.requests.working(two, "shop") as request:  # type: ignore[arg-type]
            refused = await made.answer("shop", FORM)
            assert "2 requests are under way" in refused.message
            assert '"shared": false' in refused.message
            has_answered.set()
            await anyio.wait_all_tasks_blocked()
            assert await made.answer("shop", FORM) == "two"
            request.is_answered = True
        assert not made.is_working
        made.close()


async def test_questions_of_a_request_that_is_over_leave_room_for_others() -> None:
    one = Somebody("one")
    answers: list[Any] = []
    async with anyio.create_task_group() as group:
        made = channel(group, is_shared=False)

        async def ask() -> None:
            answers.append(await made.answer("shop", FORM))

        with made.requests.working(one, "shop", "the first"):  # type: ignore[arg-type]
            with made.requests.working(one, "shop", "the second"):  # type: ignore[arg-type]
                for _ in range(100):  # the server does not say for which of them
                    group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            assert answers == []  # it may be the first one that asks
        await anyio.wait_all_tasks_blocked()
        assert {answer.message for answer in answers} == {
            "the request for which the client was asked is over"
        }
        assert len(answers) == 100
        one.may_answer.set()
        with made.requests.working(one, "shop"):  # type: ignore[arg-type]
            assert await made.answer("shop", FORM) == "one"
        made.close()


async def test_a_request_that_was_given_up_is_asked_nothing_more() -> None:
    one = Somebody("one")
    has_answered = anyio.Event()
    async with anyio.create_task_group() as group:
        made = channel(group, is_shared=True)
        with made.requests.working(one, "shop", "", has_answered.wait):  # type: ignore[arg-type]
            pass  # cancelled, say; the server works on, and asks
        refused = await made.answer("shop", FORM)
        assert refused.message == "the request for which the client was asked is over"
        has_answered.set()
        made.close()


async def test_calls_that_nobody_comes_back_for_leave_room_once_they_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "_MOST_HELD", 2)
    params = types.CallToolRequestParams(name="greet")
    questions: list[anyio.CancelScope] = []

    async def work(person: Any) -> str:
        if len(questions) < 2:
            with anyio.CancelScope() as scope:
                questions.append(scope)
                await person.answer({"name": FORM})
        return "over"

    async with anyio.create_task_group() as group:
        made = rounds.RoundTrips(group.start_soon)
        for _ in range(2):
            asked = await made.serve(params, work, Somebody("one"))  # type: ignore[arg-type]
            assert isinstance(asked, types.InputRequiredResult)
        with pytest.raises(MCPError, match="2 calls wait for answers"):
            await made.serve(params, work, Somebody("one"))  # type: ignore[arg-type]
        for scope in questions:
            scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert await made.serve(params, work, Somebody("one")) == "over"  # type: ignore[arg-type]


def test_that_a_client_takes_nothing_more_is_said_once_and_not_of_each_question(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("test.dispatcher")
    log.addFilter(BlockedWrites())
    for number in range(30):
        log.warning("%s gave up: transport write blocked", f"courtesy cancel for request {number}")
    log.warning("something else")
    assert caplog.messages == [
        "courtesy cancel for request 0 gave up: transport write blocked",
        "something else",
    ]


TEXTS = st.text(st.sampled_from("\n\r\u2028\u202e\x1b> 'a:") | st.characters(), max_size=60)


@given(TEXTS, TEXTS, TEXTS)
def test_no_text_of_a_server_looks_like_a_line_of_ours(server: str, tool: str, message: str) -> None:
    params = types.ElicitRequestFormParams(
        message=message, requested_schema={"type": "object"}, _meta={"agentd/server": "bank", "own": 1}
    )
    request = types.ElicitRequest(params=params)
    made = named(request, server, f"the call of its tool {quoted(tool)}")
    assert isinstance(made.params, types.ElicitRequestFormParams)
    head, *lines = made.params.message.splitlines()
    assert head == f"The MCP server {server[:200]!r} asks, during the call of its tool {tool[:200]!r}:"
    assert lines
    assert all(line.startswith("> ") for line in lines)
    assert all(character.isprintable() for line in (head, *lines) for character in line)
    told = made.model_dump(by_alias=True, exclude_none=True)["params"]
    assert (told["_meta"]["agentd/server"], told["_meta"]["own"]) == (server, 1)
    assert told["requestedSchema"] == {"type": "object"}
    assert request.params.message == message
