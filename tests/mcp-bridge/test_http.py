"""Servers over HTTP: both transports, headers, limits, servers that come and go."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from agentd.errors import ToolError
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_mcp_bridge.source import McpSource
from mcp.client.streamable_http import streamable_http_client
from web import make_server, raw, serve, with_lifespan

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Servers do not see on what loop the caller is; test_sources.py is run on both."""
    return "asyncio"


def connect(spec: object, **options: Any) -> McpSource:
    """Return the source for a spec."""
    [made] = agentd_create_tool_sources(spec, options) or []
    return made


@pytest.fixture(scope="module")
def streamable() -> Iterator[str]:
    """The URL of a server over streamable HTTP."""
    with serve(lambda: make_server().streamable_http_app()) as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="module")
def sse() -> Iterator[str]:
    """The URL of a server over SSE."""
    with serve(lambda: make_server().sse_app()) as port:
        yield f"http://127.0.0.1:{port}/sse"


@pytest.mark.parametrize("kind", ["streamable", "sse"])
async def test_a_url_alone_finds_the_transport(kind: str, request: pytest.FixtureRequest) -> None:
    made = connect(request.getfixturevalue(kind))
    names = [spec.name for spec in await made.list_tools()]
    assert "add" in names
    assert await made.call("add", {"a": 1, "b": 2}) == 3
    steps: list[object] = []
    assert await made.call("progress", {}, on_progress=lambda *step: steps.append(step)) == "done"
    assert steps == [(1.0, 2.0, "half")]
    await made.aclose()


@pytest.mark.parametrize("kind", ["streamable", "sse"])
async def test_a_tools_name_may_be_beyond_ascii(kind: str, request: pytest.FixtureRequest) -> None:
    # The revision 2026-07-28 sends the name in a header of HTTP as well.
    for options in ({}, {"protocol": "legacy"}):
        made = connect({"url": request.getfixturevalue(kind), **options})
        assert "größe" in [spec.name for spec in await made.list_tools()]
        assert await made.call("größe", {"text": "日本"}) == 2
        await made.aclose()


async def test_an_sse_server_is_found_under_any_path() -> None:
    with serve(lambda: make_server().sse_app(sse_path="/events")) as port:
        made = connect(f"http://127.0.0.1:{port}/events")
        assert await made.call("add", {"a": 1, "b": 2}) == 3
        await made.aclose()


async def test_headers_and_a_bearer_token_are_sent(streamable: str) -> None:
    made = connect({"url": streamable, "headers": {"X-Team": "blue"}, "bearer_token": "s3cret"})
    assert await made.call("header", {"name": "x-team"}) == "blue"
    assert await made.call("header", {"name": "authorization"}) == "Bearer s3cret"
    await made.aclose()


async def test_an_auth_object_signs_the_requests(streamable: str) -> None:
    made = connect({"url": streamable, "auth": httpx2.BasicAuth("ada", "pw")})
    assert str(await made.call("header", {"name": "authorization"})).startswith("Basic ")
    await made.aclose()


async def test_results_of_several_mebibytes_arrive(streamable: str) -> None:
    made = connect(streamable)
    text = await made.call("text", {"kib": 3 * 1024})
    assert isinstance(text, str)
    assert len(text) == 3 << 20
    await made.aclose()


async def test_a_result_above_the_limit_is_a_clear_error(streamable: str) -> None:
    made = connect({"url": streamable, "max_message_mib": 0.5})
    with pytest.raises(ToolError, match=r"(?i)event.*size|more than|exceed|too large"):
        await made.call("text", {"kib": 1024})
    assert await made.call("add", {"a": 1, "b": 2}) == 3
    await made.aclose()


async def test_calls_are_under_way_at_the_same_time(streamable: str) -> None:
    made = connect(streamable)
    await made.list_tools()
    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(made.call, "wait", {"seconds": 0.5})
    assert time.monotonic() - began < 3
    await made.aclose()


async def test_a_server_that_is_not_there_is_named_within_its_time() -> None:
    made = connect("http://127.0.0.1:9/mcp", start_timeout_s=5)
    with pytest.raises(McpServerError, match=r"'127\.0\.0\.1-9' cannot be used: ConnectError"):
        await made.list_tools()
    await made.aclose()


async def test_a_server_that_never_answers_fails_within_its_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await anyio.sleep(30)

    with serve(lambda: with_lifespan(app)) as port:
        made = connect({"url": f"http://127.0.0.1:{port}/mcp", "start_timeout_s": 0.5, "name": "slow"})
        with pytest.raises(McpServerError, match=r"'slow' did not answer within 0\.5 s"):
            await made.list_tools()
        await made.aclose()


async def test_a_web_server_that_is_no_mcp_server_is_told_apart() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await raw(
            scope, receive, send, status=200, headers=[(b"content-type", b"text/html")], body=[b"<p>hello"]
        )

    with serve(lambda: with_lifespan(app)) as port:
        made = connect({"url": f"http://127.0.0.1:{port}/", "name": "page"})
        with pytest.raises(McpServerError, match=r"(?i)content.type.*text/html"):
            await made.list_tools()
        await made.aclose()


async def test_an_endless_or_packed_answer_is_cut_off_at_the_limit() -> None:
    bomb = gzip.compress(b" " * (32 << 20))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        if scope["path"] == "/packed":
            headers.append((b"content-encoding", b"gzip"))
            await raw(scope, receive, send, status=200, headers=headers, body=[bomb])
        else:
            endless = itertools.islice(itertools.repeat(b" " * 65536), 2000)
            await raw(scope, receive, send, status=200, headers=headers, body=endless)

    with serve(lambda: with_lifespan(app)) as port:
        for path in ("packed", "endless"):
            made = connect(
                {
                    "url": f"http://127.0.0.1:{port}/{path}",
                    "type": "http",
                    "max_message_mib": 1,
                    "start_timeout_s": 10,
                }
            )
            with pytest.raises(McpServerError, match="more than 1048576 bytes"):
                await made.list_tools()
            await made.aclose()


async def test_a_server_that_was_restarted_is_connected_again() -> None:
    with serve(lambda: make_server().streamable_http_app()) as port:
        made = connect(f"http://127.0.0.1:{port}/mcp")
        assert await made.call("add", {"a": 1, "b": 2}) == 3
    with pytest.raises(ToolError):
        await made.call("add", {"a": 1, "b": 2})
    with serve(lambda: make_server().streamable_http_app(), port):
        assert await made.call("add", {"a": 1, "b": 2}) == 3
    await made.aclose()


async def test_a_server_that_knows_the_session_no_more_gets_a_new_one() -> None:
    with serve(lambda: make_server().streamable_http_app()) as port:
        made = connect({"url": f"http://127.0.0.1:{port}/mcp", "protocol": "legacy"})
        assert await made.call("add", {"a": 1, "b": 2}) == 3
    with serve(lambda: make_server().streamable_http_app(), port):  # it says so in words of its own
        assert await made.call("add", {"a": 1, "b": 2}) == 3
    await made.aclose()


async def test_a_transport_object_and_a_factory_of_transports_connect(streamable: str) -> None:
    made = connect(streamable_http_client(streamable))
    assert await made.call("add", {"a": 1, "b": 2}) == 3
    await made.aclose()
    made = connect({"transport": lambda: streamable_http_client(streamable), "name": "made"})
    assert await made.call("add", {"a": 1, "b": 2}) == 3
    await made.aclose()
