"""What the servers behind offer, through `agentd mcp`: a client of the SDK, the real program, real servers behind."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_serving import Wire, client, command, served, text
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    EmptyResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    Root,
    SetLevelRequest,
    SetLevelRequestParams,
    SubscribeRequest,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)
from real_servers import npm_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each test starts a server or two

SERVERS = Path(__file__).with_name("servers")
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["client-2026", "client-handshake"])
BEHIND = pytest.mark.parametrize("behind", ["auto", "legacy"], ids=["server-newest", "server-handshake"])
ALL = ("--offer", "tools,prompts,resources")
OWN = ["run_bash", "run_python", "create_file", "search_tools", "list_files", "checkpoint", "rewind"]


def library(folder: Path, **more: Any) -> dict[str, Any]:
    """Return how the library is started."""
    (folder / "traces").mkdir(exist_ok=True)
    return {"command": sys.executable, "args": [str(SERVERS / "library.py"), str(folder / "traces")], **more}


def behind_it(folder: Path, **servers: Mapping[str, Any]) -> tuple[str, str]:
    """Write the file of the servers behind, and return the option that names it."""
    (folder / "servers.json").write_text(json.dumps({"mcpServers": servers}))
    return "--mcp-config", str(folder / "servers.json")


async def person(_: Any, params: Any) -> ElicitResult:
    """Answer a form."""
    return ElicitResult(action="accept", content={"name": "Ada"})


async def model(_: Any, params: Any) -> CreateMessageResult:
    """Answer for a model."""
    assert params.messages[0].content.text == "a word?"
    return CreateMessageResult(role="assistant", model="m", content=TextContent(text="hi"))


async def roots(_: Any) -> ListRootsResult:
    """Return the client's directories."""
    return ListRootsResult(roots=[Root(uri="file:///books", name="books")])


ASKED = {"elicitation_callback": person, "sampling_callback": model, "list_roots_callback": roots}


@asynccontextmanager
async def with_library(folder: Path, *more: str, **options: Any) -> AsyncIterator[Client]:
    """A client of `agentd mcp` with the library behind it."""
    async with client(folder, *behind_it(folder, library=library(folder)), *more, **options) as opened:
        yield opened


# --- what is offered -------------------------------------------------------------------------------


@MODES
async def test_prompts_and_resources_are_offered_unasked_and_tools_are_not(tmp_path: Path, mode: Any) -> None:
    async with with_library(tmp_path, mode=mode) as opened:
        assert [tool.name for tool in (await opened.list_tools()).tools] == OWN
        assert {prompt.name for prompt in (await opened.list_prompts()).prompts} == {"review", "shared"}
        got = await opened.get_prompt("review", {"title": "Emma"})
        assert [(m.role, m.content.text) for m in got.messages] == [("user", "Review Emma.")]  # type: ignore[union-attr]
        (book,) = (await opened.list_resources()).resources
        assert (str(book.uri), book.mime_type) == ("library://open/1", "text/plain")
        (template,) = (await opened.list_resource_templates()).resource_templates
        assert template.uri_template == "library://shelf/{name}"
        for uri, content in (("library://open/1", "a book"), ("library://shelf/top", "the shelf top")):
            (part,) = (await opened.read_resource(uri)).contents
            assert part.text == content  # type: ignore[union-attr]
        for ref in (
            PromptReference(name="review"),
            ResourceTemplateReference(uri="library://shelf/{name}"),
        ):
            done = await opened.complete(ref, {"name": "title", "value": "du"})
            assert done.completion.values == ["dune", "dubliners"]
        with pytest.raises(MCPError, match="there is no tool 'picture'"):
            await opened.call_tool("picture", {})
        code = "from lib.tools import shelves\nprint(shelves())"
        assert text(await opened.call_tool("run_python", {"code": code})) == "3"


async def test_without_servers_behind_neither_is_announced(tmp_path: Path) -> None:
    async with client(tmp_path, mode="legacy") as opened:
        able = opened.server_capabilities
    assert (able.prompts, able.resources, able.completions, able.logging) == (None, None, None, None)


async def test_nothing_is_offered_where_nothing_is_wanted(tmp_path: Path) -> None:
    async with with_library(tmp_path, "--offer", "none", mode="legacy") as opened:
        assert opened.server_capabilities.prompts is None
        code = "from lib.tools import pid\nprint(pid() > 0)"
        assert text(await opened.call_tool("run_python", {"code": code})) == "True"


@MODES
async def test_a_tool_is_called_directly_and_its_result_comes_as_it_is(tmp_path: Path, mode: Any) -> None:
    async with with_library(tmp_path, *ALL, mode=mode) as opened:
        tools = {tool.name: tool for tool in (await opened.list_tools()).tools}
        assert list(tools)[: len(OWN)] == OWN
        assert (tools["picture"].title, tools["picture"].meta) == ("A picture", {"shelf": 3})
        result = await opened.call_tool("picture", {})
        assert [part.type for part in result.content] == ["text", "image"]
        assert result.structured_content == {"dots": 1}
        assert (result.meta or {})["library/copies"] == 2
        assert text(await opened.call_tool("library_run_bash", {})) == "not bash"  # agentd's own wins
        assert text(await opened.call_tool("run_bash", {"code": "echo bash"})) == "bash"
        code = "from lib.tools import pid\nprint(pid())"
        inside = await opened.call_tool("run_python", {"code": code})
        assert text(await opened.call_tool("pid", {})) == text(inside)  # one connection for both


# --- what servers ask ------------------------------------------------------------------------------


@BEHIND
@MODES
async def test_what_a_server_asks_is_asked_of_the_client_whatever_revisions_they_speak(
    tmp_path: Path, mode: Any, behind: str
) -> None:
    servers = behind_it(tmp_path, library=library(tmp_path, protocol=behind))
    async with client(tmp_path, *servers, *ALL, mode=mode, **ASKED) as opened:
        wanted = "Ada hi ['file:///books']"
        assert text(await opened.call_tool("greet", {})) == wanted
        code = "from lib.tools import greet\nprint(greet())"
        assert text(await opened.call_tool("run_python", {"code": code})) == wanted
        got = await opened.get_prompt("shared")
        is_newest = (mode, behind) == ("auto", "auto")
        assert got.messages[0].content.text == (  # type: ignore[union-attr]
            "from the library, for Ada" if is_newest else "from the library"
        )


@MODES
async def test_a_client_that_cannot_be_asked_is_not_and_the_server_knows(tmp_path: Path, mode: Any) -> None:
    async with with_library(tmp_path, *ALL, mode=mode) as opened:
        with pytest.raises(MCPError, match="not supported"):
            await opened.call_tool("greet", {})
        assert text(await opened.call_tool("run_bash", {"code": "echo here"})) == "here"


# --- the policy ------------------------------------------------------------------------------------


@MODES
async def test_a_policy_holds_for_tools_that_are_called_directly(tmp_path: Path, mode: Any) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text(
        "rules:\n  - {verdict: deny, kind: tool, name: pid, reason: no numbers}\n"
        "  - {verdict: ask, kind: tool, name: picture}\n"
        "  - {verdict: deny, kind: tool, name: sampling, reason: no models}\n"
        "  - {verdict: allow, kind: tool, name: greet}\n"
    )
    asked: list[str] = []
    answers = iter(["deny", "allow once"])

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message.splitlines()[0])
        if "name" in params.requested_schema["properties"]:
            return await person(context, params)
        return ElicitResult(action="accept", content={"answer": next(answers)})

    able = {**ASKED, "elicitation_callback": answer}
    async with with_library(tmp_path, *ALL, "--policy", str(rules), mode=mode, **able) as opened:
        denied = await opened.call_tool("pid", {})
        assert denied.is_error
        assert "ToolDeniedError" in text(denied)
        assert "no numbers" in text(denied)
        assert "the client's person has said no" in text(await opened.call_tool("picture", {}))
        assert (await opened.call_tool("picture", {})).structured_content == {"dots": 1}
        with pytest.raises(MCPError, match="asking a model was denied: no models"):
            await opened.call_tool("greet", {})
    assert asked.count("May the tool picture of 'library' be called?") == 2
    assert asked.count("The MCP server 'library' asks, during the call of its tool 'greet':") == 1


# --- while it works --------------------------------------------------------------------------------


@MODES
async def test_progress_and_log_messages_come_before_the_result(tmp_path: Path, mode: Any) -> None:
    heard: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(f"{done:g}/{total:g} {message}")

    async def log(params: Any) -> None:
        heard.append(f"{params.logger}: {params.data}")

    options: dict[str, Any] = {"logging_callback": log, "log_level": "info"}
    async with with_library(tmp_path, *ALL, mode=mode, **options) as opened:
        await opened.call_tool("busy", {}, progress_callback=progress)
        await opened.list_tools()  # whatever was on its way has been heard by now
    assert [line for line in heard if "/3" in line] == ["1/3 step 1", "2/3 step 2", "3/3 step 3"]
    assert [line for line in heard if "at step" in line] == [f"library: at step {n}" for n in (1, 2, 3)]


async def test_no_log_messages_come_to_a_client_that_has_not_asked_for_them(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def log(params: Any) -> None:
        heard.append(params)

    async with with_library(tmp_path, *ALL, logging_callback=log) as opened:
        await opened.call_tool("busy", {})
        await opened.list_tools()
    assert heard == []


async def test_the_level_of_a_client_with_a_handshake_reaches_the_server(tmp_path: Path) -> None:
    async with with_library(tmp_path, mode="legacy") as opened:
        request = SetLevelRequest(params=SetLevelRequestParams(level="error"))
        await opened.session.send_request(request, EmptyResult)
    assert (tmp_path / "traces" / "level").read_text() == "error"


@MODES
async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(tmp_path: Path, mode: Any) -> None:
    async with with_library(tmp_path, *ALL, mode=mode, **ASKED) as opened:
        async with anyio.create_task_group() as group:
            group.start_soon(opened.call_tool, "slow", {})
            await there(tmp_path / "traces" / "begun")
            group.cancel_scope.cancel()
        await there(tmp_path / "traces" / "cancelled")
        assert int(text(await opened.call_tool("pid", {}))) > 0


async def test_a_tool_that_the_file_filters_out_is_neither_seen_nor_called(tmp_path: Path) -> None:
    servers = behind_it(tmp_path, library=library(tmp_path, tool_filter={"deny": ["p*"]}))
    async with client(tmp_path, *servers, *ALL) as opened:
        names = [tool.name for tool in (await opened.list_tools()).tools]
        assert "shelves" in names
        assert not {"pid", "picture"} & set(names)
        with pytest.raises(MCPError, match="there is no tool 'pid'"):
            await opened.call_tool("pid", {})


@MODES
async def test_the_time_of_a_call_is_limited_as_in_code(tmp_path: Path, mode: Any) -> None:
    servers = behind_it(tmp_path, library=library(tmp_path, timeout_s=0.5))
    async with client(tmp_path, *servers, *ALL, mode=mode) as opened:
        late = await opened.call_tool("slow", {})
        assert late.is_error
        assert "ToolTimeoutError" in text(late)
        await there(tmp_path / "traces" / "cancelled")
        assert int(text(await opened.call_tool("pid", {}))) > 0


async def there(path: Path) -> None:
    """Wait for a file; the test's time-out bounds it."""
    while not path.exists():
        await anyio.sleep(0.02)


# --- what changes ----------------------------------------------------------------------------------


async def test_changes_are_told_to_a_client_with_a_handshake(tmp_path: Path) -> None:
    heard: list[str] = []
    is_told = anyio.Event()

    async def hear(message: Any) -> None:
        heard.append(f"{message.method} {getattr(message.params, 'uri', '')}".strip())
        if isinstance(message, ResourceUpdatedNotification):
            is_told.set()

    uri = "library://open/1"
    async with with_library(tmp_path, *ALL, mode="legacy", message_handler=hear) as opened:
        await opened.session.send_request(
            SubscribeRequest(params=SubscribeRequestParams(uri=uri)), EmptyResult
        )
        await opened.call_tool("grow", {})
        await is_told.wait()
        assert "newcomer" in [tool.name for tool in (await opened.list_tools()).tools]
        assert text(await opened.call_tool("newcomer", {})) == "hello from a newcomer"
        assert (await opened.get_prompt("newcomer")).messages
        await opened.session.send_request(
            UnsubscribeRequest(params=UnsubscribeRequestParams(uri=uri)), EmptyResult
        )
        told = len(heard)
        await opened.call_tool("grow", {})
        await opened.list_tools()
        assert [line for line in heard[told:] if "updated" in line] == []
    assert {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        f"notifications/resources/updated {uri}",
    } <= set(heard)


async def test_changes_are_told_to_a_client_that_listens(tmp_path: Path) -> None:
    uri, heard = "library://open/1", []
    async with with_library(tmp_path, *ALL) as opened:
        async with opened.listen(
            tools_list_changed=True, resource_subscriptions=[uri, "nobody://has/it"]
        ) as listening:
            assert listening.honored.resource_subscriptions == [uri, "nobody://has/it"]
            await opened.call_tool("grow", {})
            async for event in listening:
                heard.append(type(event).__name__)
                if {"ToolsListChanged", "ResourceUpdated"} <= set(heard):
                    break
        assert text(await opened.call_tool("newcomer", {})) == "hello from a newcomer"
    assert "PromptsListChanged" not in heard


# --- servers that fail, or are odd -------------------------------------------------------------------


@MODES
async def test_a_server_that_dies_is_an_error_of_that_call_alone(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "other").mkdir()
    servers = behind_it(tmp_path, library=library(tmp_path), other=library(tmp_path / "other"))
    async with client(tmp_path, *servers, *ALL, mode=mode) as opened:
        first = text(await opened.call_tool("pid", {}))
        died = await opened.call_tool("die", {})
        assert died.is_error
        assert "'library'" in text(died)
        assert "died during this call" in text(died)
        assert int(text(await opened.call_tool("other_pid", {}))) > 0
        assert text(await opened.call_tool("pid", {})) != first  # started again
        got = await opened.get_prompt("review", {"title": "Emma"})
        assert got.messages


@MODES
async def test_a_server_that_does_not_start_takes_nothing_from_the_others(tmp_path: Path, mode: Any) -> None:
    broken = {"command": sys.executable, "args": ["-c", "raise SystemExit('not today')"]}
    async with client(
        tmp_path, *behind_it(tmp_path, broken=broken, library=library(tmp_path)), *ALL, mode=mode
    ) as opened:
        assert "picture" in [tool.name for tool in (await opened.list_tools()).tools]
        assert {prompt.name for prompt in (await opened.list_prompts()).prompts} == {"review", "shared"}
        assert int(text(await opened.call_tool("pid", {}))) > 0


@MODES
async def test_names_that_two_servers_have_are_told_apart(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "two").mkdir()
    two = {**library(tmp_path / "two"), "protocol": "legacy"}
    servers = behind_it(tmp_path, one=library(tmp_path, protocol="legacy"), **{"zwei & mehr": two})
    async with client(tmp_path, *servers, *ALL, mode=mode) as opened:
        names = [prompt.name for prompt in (await opened.list_prompts()).prompts]
        assert names == ["review", "shared", "zwei_mehr_review", "zwei_mehr_shared"]
        assert (await opened.get_prompt("zwei_mehr_review", {"title": "x"})).messages
        tools = [tool.name for tool in (await opened.list_tools()).tools]
        assert {"one_run_bash", "zwei_mehr_run_bash", "pid", "zwei_mehr_pid"} <= set(tools)
        pids = {text(await opened.call_tool(name, {})) for name in ("pid", "zwei_mehr_pid")}
        assert len(pids) == 2
        assert [str(r.uri) for r in (await opened.list_resources()).resources] == ["library://open/1"]


@MODES
async def test_long_lists_are_cut_and_paged_and_odd_names_stay_callable(tmp_path: Path, mode: Any) -> None:
    hostile = {"command": sys.executable, "args": [str(SERVERS / "hostile.py")]}
    async with client(tmp_path, *behind_it(tmp_path, hostile=hostile), *ALL, mode=mode) as opened:
        seen: list[str] = []
        page = await opened.list_prompts()
        while True:
            seen += [prompt.name for prompt in page.prompts]
            assert len(page.prompts) <= 500
            if page.next_cursor is None:
                break
            page = await opened.list_prompts(cursor=page.next_cursor)
        assert seen == [f"prompt {number}" for number in range(5000)]  # of 10,000, each there twice
        with pytest.raises(MCPError, match="cursor: '-1' is none of ours"):
            await opened.list_prompts(cursor="-1")
        names = [tool.name for tool in (await opened.list_tools()).tools][len(OWN) :]
        odd = "a name/with ☃ and\nlines"
        assert names == [odd, "hostile_search_tools", "__init__", "class"]
        assert text(await opened.call_tool(odd, {})) == f"called {odd}"
        assert text(await opened.call_tool("hostile_search_tools", {})) == "called search_tools"
        assert (await opened.get_prompt("prompt 4999")).messages[0].content.text == "prompt 4999"  # type: ignore[union-attr]


async def test_a_list_without_an_end_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    hostile = {"command": sys.executable, "args": [str(SERVERS / "hostile.py"), "endless"]}
    servers = behind_it(tmp_path, hostile=hostile, library=library(tmp_path))
    async with client(tmp_path, *servers, *ALL, mode="legacy") as opened:
        assert [prompt.name for prompt in (await opened.list_prompts()).prompts] == ["review", "shared"]


# --- several clients -------------------------------------------------------------------------------


async def test_each_session_has_servers_of_its_own_and_clients_without_share_them(tmp_path: Path) -> None:
    with served(tmp_path, *behind_it(tmp_path, library=library(tmp_path)), *ALL) as url:
        async with Client(url, mode="legacy", **ASKED) as one, Client(url, mode="legacy") as two:
            assert text(await one.call_tool("pid", {})) != text(await two.call_tool("pid", {}))
            assert text(await one.call_tool("greet", {})) == "Ada hi ['file:///books']"
            with pytest.raises(MCPError, match="not supported"):
                await two.call_tool("greet", {})
            died = await one.call_tool("die", {})
            assert "died during this call" in text(died)
            assert int(text(await two.call_tool("pid", {}))) > 0
        async with Client(url) as three, Client(url) as four, Client(url, **ASKED) as five:
            assert text(await three.call_tool("pid", {})) == text(await four.call_tool("pid", {}))
            assert text(await five.call_tool("greet", {})) == "Ada hi ['file:///books']"
            with pytest.raises(MCPError):  # it cannot be asked, and the server is told so
                await four.call_tool("greet", {})


async def test_what_a_server_asks_by_itself_reaches_the_client_for_which_it_works(tmp_path: Path) -> None:
    def called(name: str) -> dict[str, Any]:
        async def form(_: Any, params: Any) -> ElicitResult:
            return ElicitResult(action="accept", content={"name": name})

        return {**ASKED, "elicitation_callback": form}

    greetings: list[tuple[str, str]] = []

    async def greet(name: str, opened: Client) -> None:
        greetings.append((name, text(await opened.call_tool("greet", {})).partition(" ")[0]))

    servers = behind_it(tmp_path, library=library(tmp_path, protocol="legacy"))
    with served(tmp_path, *servers, *ALL) as url:
        async with Client(url, **called("Ada")) as ada, Client(url, **called("Bob")) as bob:
            await greet("Ada", ada)  # by now, it is known to be one that asks
            async with anyio.create_task_group() as group:
                for name, opened in (("Ada", ada), ("Bob", bob)) * 2:
                    group.start_soon(greet, name, opened)
    assert sorted(greetings) == [("Ada", "Ada")] * 3 + [("Bob", "Bob")] * 2


async def test_requests_at_a_server_that_is_not_shared_are_never_refused_a_question_nor_mixed_up(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def called(name: str) -> dict[str, Any]:
        async def form(_: Any, params: Any) -> ElicitResult:
            asked.append(params.message)
            return ElicitResult(action="accept", content={"name": name})

        return {**ASKED, "elicitation_callback": form}

    async def greet(name: str, opened: Client) -> None:
        said = await opened.call_tool("greet", {})
        assert text(said).partition(" ")[0] == name

    async def greet_in_code(name: str, opened: Client) -> None:
        code = "from lib.tools import greet\nprint(greet())"
        assert text(await opened.call_tool("run_python", {"code": code})).partition(" ")[0] == name

    servers = behind_it(tmp_path, library=library(tmp_path, protocol="legacy", shared=False))
    with served(tmp_path, *servers, *ALL) as url:
        async with Client(url, **called("Ada")) as ada, Client(url, **called("Bob")) as bob:
            async with anyio.create_task_group() as group:  # nothing is known of it yet
                for name, opened in (("Ada", ada), ("Bob", bob)) * 2:
                    group.start_soon(greet, name, opened)
                group.start_soon(greet_in_code, "Ada", ada)
                group.start_soon(greet_in_code, "Bob", bob)
            first = text(await ada.call_tool("pid", {}))
            assert (
                text(await bob.call_tool("pid", {})) == first
            )  # one after the other, they use one connection
            async with anyio.create_task_group() as group:
                group.start_soon(ada.call_tool, "slow", {})
                await there(tmp_path / "traces" / "begun")
                group.cancel_scope.cancel()
            await there(tmp_path / "traces" / "cancelled")
            assert (
                text(await bob.call_tool("pid", {})) != first
            )  # that of a request that was given up is closed
            await greet("Bob", bob)
    assert {message.partition("\n")[2] for message in asked} == {"> Who are you?"}
    assert {message.partition("\n")[0] for message in asked} == {
        "The MCP server 'library' asks, during the call of its tool 'greet':",
        "The MCP server 'library' asks, during a run of code:",
    }


def test_what_cannot_be_offered_is_refused_at_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--offer", "tools,promts"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "got 'promts'; did you mean 'prompts'?" in " ".join(done.stderr.split())


@MODES
async def test_a_server_of_others_is_passed_on_with_all_that_it_has(tmp_path: Path, mode: Any) -> None:
    program, *arguments = npm_server("server-everything")
    servers = behind_it(tmp_path, everything={"command": program, "args": arguments})
    asked: list[str] = []

    async def form(_: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    async def answer(_: Any, params: Any) -> CreateMessageResult:
        return CreateMessageResult(role="assistant", model="m", content=TextContent(text="an answer"))

    able = {"elicitation_callback": form, "sampling_callback": answer, "list_roots_callback": roots}
    async with client(tmp_path, *servers, *ALL, mode=mode, **able) as opened:
        assert text(await opened.call_tool("echo", {"message": "hi"})) == "Echo: hi"
        image = await opened.call_tool("get-tiny-image", {})
        assert "image" in [part.type for part in image.content]
        for call, given, said in (
            ("trigger-sampling-request", {"prompt": "p"}, "an answer"),
            ("get-roots-list", {}, "file:///books"),
            ("trigger-elicitation-request", {}, "declined"),
        ):
            result = await opened.call_tool(call, given)
            assert said in str(result.content), call
        assert len(asked) == 1
        assert (await opened.get_prompt("args-prompt", {"city": "Ghent"})).messages
        assert len((await opened.list_resources()).resources) >= 5
        (part,) = (await opened.read_resource("demo://resource/dynamic/text/3")).contents
        assert "Resource 3" in part.text  # type: ignore[union-attr]
        done = await opened.complete(
            PromptReference(name="completable-prompt"), {"name": "department", "value": "E"}
        )
        assert done.completion.values == ["Engineering"]


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_client_over_http_that_goes_away_ends_its_request_at_the_server(
    tmp_path: Path, revision: str
) -> None:
    servers = behind_it(tmp_path, library=library(tmp_path))
    with served(tmp_path, *servers, *ALL, "--reconnect", "0.2") as url:

        def leave() -> None:
            wire = Wire(url)
            headers: dict[str, str] = {}
            params: dict[str, Any] = {"name": "slow", "arguments": {}}
            if revision == "2025-11-25":
                wire.begin()
            else:
                meta = {"protocolVersion": revision, "clientCapabilities": {}}
                params["_meta"] = {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}
                headers = {
                    "MCP-Protocol-Version": revision,
                    "Mcp-Method": "tools/call",
                    "Mcp-Name": "slow",
                }
            place = urlsplit(url)
            connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
            given = {
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": revision,
                **({"Mcp-Session-Id": wire.session} if wire.session else {}),
                **headers,
            }
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            connection.request("POST", place.path, json.dumps(message), given)
            while not (tmp_path / "traces" / "begun").exists():
                time.sleep(0.02)
            connection.close()
            wire.hang_up()

        await anyio.to_thread.run_sync(leave)
        await there(tmp_path / "traces" / "cancelled")
