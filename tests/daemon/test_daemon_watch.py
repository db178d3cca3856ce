"""Subscriptions, through a daemon with real servers: what wakes an agent, and what it is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.events import RunEnd
from agentd_daemon.arguments import typed_arguments
from agentd_daemon.config.values import AgentServerConfig
from agentd_demo.replay import ReplayFault, ReplayServer
from living import agent, files_server, living, modern_server, once, starts, told, watching

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


@pytest.fixture
def model() -> Iterator[ReplayServer]:
    with ReplayServer(["Noted."], repeat=True) as server:
        yield server


def put(page: Path, text: str) -> None:
    """Write a page in one step: a server may look at any moment."""
    new = page.parent.with_name("new")
    new.write_text(text)
    new.replace(page)


def polled(folder: Path) -> AgentServerConfig:
    return files_server(folder, "--polled")


SERVERS: dict[str, Callable[[Path], AgentServerConfig]] = {
    "2025-11-25": files_server,
    "2026-07-28": modern_server,
    "polled": polled,
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_the_first_look_only_notes_and_a_change_wakes_the_agent(
    kind: str, folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page, uri = folder / "page", f"file://{folder}/page"
    page.write_text("old")
    config = agent(model, SERVERS[kind](folder), subscriptions=watching(uri, poll_interval=0.1))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        assert not model.requests
        page.write_text("new")
        (trigger,) = await daemon.settled(1)
        assert (trigger.content, trigger.previous, trigger.state) == ("new", "old", "done")
        assert daemon.server().state == ("polling" if kind == "polled" else "up")
    (request,) = model.requests
    (task,) = told(request)
    assert uri in task
    assert "<content>\nnew\n</content>" in task
    assert "old" not in task


async def test_what_is_written_again_unchanged_wakes_nobody(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page, uri, log = folder / "page", f"file://{folder}/page", tmp_path / "log"
    page.write_text("same")
    config = agent(model, files_server(folder, "--log", str(log)), subscriptions=(uri,))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        reads = log.read_text().count("resources/read")
        page.write_text("same")
        os.utime(page, ns=(1, 1))
        await daemon.until(lambda: log.read_text().count("resources/read") > reads)
        page.write_text("other")
        await daemon.settled(1)
        assert [t.content for t in daemon.journal.recent("news")] == ["other"]


async def test_with_once_the_first_look_counts_and_the_second_finds_nothing(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    (folder / "page").write_text("first")
    config = agent(model, files_server(folder), subscriptions=(f"file://{folder}/page",))
    assert (await once(tmp_path / "state", config)).failures == 0
    assert (await once(tmp_path / "state", config)).failures == 0
    assert len(model.requests) == 1
    assert "first" in model.requests[0].last


async def test_a_burst_while_the_agent_is_busy_becomes_one_task_with_the_newest_content_and_a_count(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page, uri = folder / "page", f"file://{folder}/page"
    page.write_text("0")
    model.faults[0] = ReplayFault("stall")
    config = agent(model, files_server(folder), subscriptions=(uri,))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        put(page, "1")
        await daemon.asked(model, 1)
        for number in range(2, 6):
            put(page, str(number))
            await daemon.until(
                lambda n=number: [t.content for t in daemon.journal.pending("news")] == [str(n)]
            )
        assert daemon.status().queued == 1
        assert daemon.daemon.cancel("news")
        cancelled, burst = await daemon.settled(2)
        assert (cancelled.content, cancelled.state, cancelled.error) == ("1", "done", "cancelled by a person")
        assert (burst.content, burst.previous, burst.coalesced) == ("5", "1", 3)
    task = model.requests[-1].last
    assert "4 times since you were told last" in task
    assert "\n5\n" in task


async def test_a_slow_agent_holds_up_no_other_that_watches_the_same(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page, uri, log = folder / "page", f"file://{folder}/page", tmp_path / "log"
    page.write_text("0")
    server = files_server(folder, "--log", str(log))
    with ReplayServer(["Noted."], faults={0: ReplayFault("stall")}, repeat=True) as slow_model:
        slow = agent(slow_model, server, name="slow", subscriptions=(uri,))
        quick = agent(model, server, name="quick", subscriptions=(uri,))
        async with living(tmp_path / "state", slow, quick) as daemon:
            await daemon.seen(uri, "slow")
            await daemon.seen(uri, "quick")
            page.write_text("1")
            await daemon.asked(slow_model, 1)
            await daemon.settled(1, "quick")
            page.write_text("2")
            await daemon.settled(2, "quick")
            assert daemon.status("slow").state == "running"
    assert len(starts(log)) == 1, "one process serves both agents, their tools and subscriptions"


async def test_an_agent_does_one_thing_after_the_other_in_the_order_of_their_coming(
    tmp_path: Path, model: ReplayServer
) -> None:
    model.faults[0] = ReplayFault("stall")
    async with living(tmp_path / "state", agent(model)) as daemon:
        for text in ("one", "two", "three", "four"):
            await daemon.daemon.submit("news", text)
        await daemon.asked(model, 1)
        daemon.daemon.cancel("news")
        await daemon.settled(4)
    assert [request.last for request in model.requests] == ["one", "two", "three", "four"]


async def test_the_agent_is_told_the_prompt_and_the_difference_that_the_configuration_asks_for(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page, uri = folder / "page", f"file://{folder}/page"
    page.write_text("a\nb\nc\n")
    config = agent(
        model,
        files_server(folder),
        system_prompt="You watch.",
        subscriptions=watching(uri, diff=True, prompt="Say what is new."),
    )
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        page.write_text("a\nB\nc\n")
        await daemon.settled(1)
    (request,) = model.requests
    assert request.messages[0] == ("system", "You watch.")
    assert "Say what is new." in request.last
    assert "-b\n+B" in request.last


async def test_a_large_content_is_cut_in_the_middle_and_a_change_in_the_cut_part_is_seen_too(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page, uri = folder / "page", f"file://{folder}/page"
    text = "x" * 3_000_000
    page.write_text("old")
    config = agent(model, files_server(folder), subscriptions=(uri,))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        page.write_text(f"begin {text} end")
        await daemon.settled(1)
        half = text[: len(text) // 2]
        page.write_text(f"begin {half}y{half[1:]} end")
        await daemon.settled(2)
    for request in model.requests:
        assert len(request.last) < 50_000
        assert "begin xxx" in request.last
        assert "xxx end" in request.last
        assert "characters were cut here" in request.last


async def test_of_a_binary_content_the_agent_is_told_kind_and_size(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    picture, uri = folder / "picture.bin", f"file://{folder}/picture.bin"
    picture.write_bytes(b"\xff\x00")
    config = agent(model, files_server(folder), subscriptions=(uri,))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        picture.write_bytes(b"\xff\x01")  # as long as before
        await daemon.settled(1)
    assert "[application/x-test, 2 bytes]" in model.requests[0].last


@pytest.mark.parametrize("kind", ["2026-07-28", "polled"])
async def test_an_agent_whose_code_changes_what_wakes_it_is_set_aside_until_somebody_else_does_or_a_person_says_so(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("FIRST_S", "LONGEST_S"):
        monkeypatch.setattr(f"agentd_daemon.own_wakes.{name}", 1e6)  # the pause does not end in this test
    page, uri = folder / "page", f"file://{folder}/page"
    page.write_text("first\n")
    script = [f"```bash:execute\necho mine >> {page}\n```\n", "Noted."]
    with ReplayServer(script, repeat=True) as model:
        config = agent(
            model,
            SERVERS[kind](folder),
            mode="ptc",
            subscriptions=watching(uri, poll_interval=0.1, max_in_a_row=2),
        )
        async with living(tmp_path / "state", config) as daemon:
            await daemon.seen(uri)
            worker = daemon.daemon._worker("news")

            async def until_held(runs: int) -> None:
                await daemon.runs_end(runs)
                await daemon.until(lambda: worker.wakes.held and daemon.status().state == "idle")
                assert daemon.count(RunEnd) == runs

            put(page, "of somebody else\n")
            await until_held(3)
            assert daemon.status().queued == 1
            said = daemon.status().last_error
            assert said.startswith(
                f"{uri} (`max_in_a_row` of the subscription) is set aside for 1e+06 s: 2 times"
            )
            assert f"news: {said}" in caplog.text

            await daemon.daemon.submit("news", "Look at it.")  # a new cause, from which two more follow
            await until_held(6)

            real = worker.wakes._now
            worker.wakes._now = lambda: real() + 3600  # a quiet hour
            put(page, "of somebody else again\n")
            await until_held(9)
            task = model.requests[12].last
            assert "has changed 2 times" in task, "what was set aside went into it"
            assert "<content>\nof somebody else again\n" in task

            assert daemon.daemon.resume("news")
            await until_held(12)
            assert page.read_text() == "of somebody else again\n" + "mine\n" * 6


# --- tools as resources ------------------------------------------------------------------------------------


async def test_a_tool_is_called_with_typed_arguments_and_what_it_returns_wakes_the_agent(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    page = folder / "a page"
    page.write_text("old")
    uri = "tool://look/?name=a+page&times=3&loud=true&sizes=1&sizes=2.5"
    config = agent(model, files_server(folder), subscriptions=watching(uri, poll_interval=0.1))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        page.write_text("new")
        (trigger,) = await daemon.settled(1)
    assert trigger.content == '{"name": "a page", "times": 3, "loud": true, "sizes": [1, 2.5]} new'


async def test_a_tool_that_the_agent_itself_may_not_call_can_be_watched(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    (folder / "page").write_text("text")
    server = AgentServerConfig(**{**_fields(files_server(folder)), "tool_filter": ("none",)})
    config = agent(model, server, subscriptions=("tool://look/?name=page",))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen("tool://look/?name=page")
        assert await daemon.daemon.tools("news") == []


def _fields(config: AgentServerConfig) -> dict[str, Any]:
    import attrs

    return {field.name: getattr(config, field.name) for field in attrs.fields(AgentServerConfig)}


SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "times": {"type": "integer"},
        "ratio": {"type": "number"},
        "raw": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ids": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "level": {"enum": [1, 2]},
        "filter": {"type": "object"},
        "any": {},
    },
    "required": ["url"],
}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"times": "-3", "raw": "false", "ratio": "2"}, {"times": -3, "raw": False, "ratio": 2}),
        ({"tags": "a"}, {"tags": ["a"]}),
        ({"ids": ["1", "2"]}, {"ids": [1, 2]}),
        ({"ids": "7"}, {"ids": [7]}),
        ({"either": "a"}, {"either": "a"}),
        ({"either": ["a", "b"]}, {"either": ["a", "b"]}),
        ({"level": "2"}, {"level": 2}),
        ({"filter": '{"a": [1]}'}, {"filter": {"a": [1]}}),
        ({"any": "1"}, {"any": "1"}),
        ({"url": "42"}, {"url": "42"}),
    ],
)
async def test_arguments_become_what_the_schema_asks_for(
    texts: dict[str, str | list[str]], expected: dict[str, object]
) -> None:
    made = typed_arguments("tool://t/", {"url": "u", **texts}, SCHEMA)
    assert made == {"url": "u", **expected}
    assert [type(value) for value in made.values()] == [
        type(value) for value in {"url": "u", **expected}.values()
    ]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({"url": "u", "times": "secret"}, "'times' must be of the type integer, written as in JSON"),
        ({"url": "u", "times": "true"}, "'times' must be of the type integer"),
        ({"url": "u", "ratio": "NaN"}, "'ratio' must be of the type number"),
        ({"url": ["u", "v"]}, "'url' is given several times, and the tool takes one value"),
        ({"url": "u", "tmes": "1"}, "did you mean 'times'?"),
        ({}, "'url' is missing, and the tool needs it; write ?url=VALUE"),
    ],
)
async def test_arguments_that_do_not_fit_are_named_with_what_to_do_and_their_values_are_not_shown(
    texts: dict[str, str | list[str]], problem: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        typed_arguments("tool://t/?url=secret", texts, SCHEMA)
    assert problem in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_arguments_that_a_schema_does_not_name_pass_if_it_admits_others() -> None:
    open_schema = {**SCHEMA, "additionalProperties": {}}
    assert typed_arguments("tool://t/", {"url": "u", "more": "1"}, open_schema)["more"] == "1"


# --- several servers ---------------------------------------------------------------------------------------


async def test_a_resource_and_a_tool_are_found_at_the_server_that_has_them_though_another_cannot_start(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "closed").touch()
    (folder / "page").write_text("text")
    servers = (files_server(closed, name="dead"), files_server(folder))
    uris = (f"file://{folder}/page", "tool://look/?name=page")
    async with living(tmp_path / "state", agent(model, *servers, subscriptions=uris)) as daemon:
        for uri in uris:
            await daemon.seen(uri)


async def test_a_resource_that_no_server_lists_is_found_at_the_one_that_can_read_it(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "page").write_text("text")
    uri = f"files:{folder}/page"  # not the spelling of the list
    servers = (files_server(other, name="other"), files_server(folder))
    async with living(tmp_path / "state", agent(model, *servers, subscriptions=(uri,))) as daemon:
        await daemon.seen(uri)


async def test_the_server_that_a_subscription_names_is_asked_and_no_other(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "page").write_text("of one")
    (other / "page").write_text("of the other")
    servers = (files_server(folder), files_server(other, name="other"))
    config = agent(model, *servers, subscriptions=watching("tool://look/?name=page", server="other"))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen("tool://look/?name=page")
        seen = daemon.journal.last_seen("news", "tool://look/?name=page")
    assert seen is not None
    assert seen.content.endswith("of the other")


@pytest.mark.parametrize(
    ("subscription", "problem"),
    [
        (
            {"uri": "tool://loook/?name=x"},
            "unknown tool 'loook'; there are: look; did you mean 'look'?",
        ),
        ({"uri": "note://1"}, "none of the servers 'files', 'other' has this resource; name the right one"),
        ({"uri": "note://1", "server": "file"}, "must be one of: 'files', 'other'; did you mean 'files'?"),
        ({"uri": "tool://look/?name=x&times=many"}, "'times' must be of the type integer"),
    ],
)
async def test_what_cannot_be_watched_is_told_in_the_status_with_what_to_do(
    subscription: dict[str, Any], problem: str, folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    servers = (files_server(folder), files_server(folder, name="other"))
    config = agent(model, *servers, subscriptions=watching(**subscription))
    async with living(tmp_path / "state", config) as daemon:
        error = await daemon.until(lambda: daemon.status().last_error)
        assert problem in error
        await daemon.daemon.submit("news", "Are you there?")  # the agent works all the same
        await daemon.settled(1)
