"""Whatever a server writes as text comes in as valid Unicode, and no answer is waited for in vain."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import pytest
from agentd.errors import ToolError, ToolInputError
from agentd_mcp_bridge.lenient import read_json, valid_line
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_tools import ToolSet
from helpers import source
from hypothesis import given, strategies as st
from web import raw, serve, with_lifespan

TEXT = '{"content": [{"type": "text", "text": "%s"}]}'


def call(result: str, *, start: str = "well") -> Any:
    """Return what a tool gives whose result is this text, as bytes of Latin-1; it must come soon."""
    tools = ToolSet([], [source(start)])
    anyio.run(tools.start)
    try:
        assert all(spec.description.isascii() or "\ufffd" in spec.description for spec in tools.specs())
        begin = time.monotonic()
        return tools.call_sync("raw", {"text": f'{{"jsonrpc":"2.0","id":ID,"result":{result}}}'})
    finally:
        assert time.monotonic() - begin < 20  # the time-out is 60 s
        anyio.run(tools.aclose)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("half \\ud83d", "half \ufffd"),
        ("\\uDE00\\ud83d\\ude00\\uD83D", "\ufffd😀\ufffd"),
        ("\\\\ud83d", "\\ud83d"),
        ("\\\\\\ud83dx", "\\\ufffdx"),
        ("no UTF-8: \xff\xfe", "no UTF-8: \ufffd\ufffd"),
        ("\\u0000\\u001b[2J", "\0\x1b[2J"),
    ],
)
def test_text_of_an_answer_is_valid(text: str, expected: str) -> None:
    assert call(TEXT % text) == expected


def test_descriptions_of_tools_are_valid() -> None:
    assert call(TEXT % "ok", start="halves") == "ok"


def test_numbers_that_json_lacks_are_an_answer_or_an_error_at_once() -> None:
    try:
        found = call('{"content": [], "structuredContent": {"n": NaN, "m": -Infinity, "l": 1e999}}')
    except ToolError:
        return
    assert set(found) == {"n", "m", "l"}


@pytest.mark.parametrize(
    "result", ["DEEP", '{"content": [], "structuredContent": {"a": DEEP}}', "{", "7", "NaN"]
)
def test_an_answer_that_cannot_be_read_fails_its_call_at_once(result: str) -> None:
    with pytest.raises(ToolError):
        call(result)


def test_what_code_passes_is_sent_as_valid_text_or_refused() -> None:
    tools = ToolSet([], [source()])
    anyio.run(tools.start)
    deep: Any = "x"
    for _ in range(100_000):  # CPython 3.12 writes 5,000
        deep = [deep]
    try:
        assert tools.call_sync("echo", {"text": "a\ud83d\ude00\udcff\0\x1b"}) == "a😀\ufffd\0\x1b"
        for odd in (deep, float("nan"), float("-inf")):
            with pytest.raises(ToolInputError, match="the arguments are no JSON"):
                tools.call_sync("echo", {"text": odd})
        assert tools.call_sync("echo", {"text": "still there"}) == "still there"
    finally:
        anyio.run(tools.aclose)


HALVES = TEXT % r"a\ud83d\ude00 \uDE00 \\ud83d"


def web_server(*, stream: bool) -> Any:
    """A server over HTTP that answers as it is told, in JSON or in a stream whose pieces are cut anywhere."""
    tools = [{"name": "raw", "description": "\ud83d", "inputSchema": {"type": "object"}}]
    results = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "web", "version": "1"},
        },
        "tools/list": {"tools": tools},
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        asked = json.loads(body) if body else {}
        result = (
            HALVES
            if asked.get("method") == "tools/call"
            else json.dumps(results.get(asked.get("method"), {}))
        )
        line = b'{"jsonrpc": "2.0", "id": %s, "result": %s}' % (
            json.dumps(asked.get("id")).encode(),
            result.encode(),
        )
        if "id" not in asked:
            await raw(scope, receive, send, status=202 if body else 405, headers=[], body=[])
        elif stream:
            line = b"event: message\ndata: %s\n\n" % line
            pieces = [line[at : at + 7] for at in range(0, len(line), 7)]
            await raw(
                scope,
                receive,
                send,
                status=200,
                headers=[(b"content-type", b"text/event-stream")],
                body=pieces,
            )
        else:
            await raw(
                scope,
                receive,
                send,
                status=200,
                headers=[(b"content-type", b"application/json")],
                body=[line],
            )

    return app


@pytest.mark.parametrize("stream", [False, True])
def test_so_is_the_text_of_a_server_over_http(stream: bool) -> None:
    with serve(lambda: with_lifespan(web_server(stream=stream))) as port:
        [made] = agentd_create_tool_sources({"url": f"http://127.0.0.1:{port}/", "type": "http"}, {}) or []
        tools = ToolSet([], [made])
        anyio.run(tools.start)
        try:
            assert tools.specs()[0].description == "\ufffd"
            assert tools.call_sync("raw", {}) == "a😀 \ufffd \\ud83d"
        finally:
            anyio.run(tools.aclose)


lines = st.binary() | st.text(st.sampled_from('\\ud83dDE0Cc"{}[]é')).map(str.encode)


@given(lines)
def test_a_line_becomes_valid_and_a_valid_one_stays(line: bytes) -> None:
    made = valid_line(line)
    made.decode()
    assert valid_line(made) == made


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(),
        lambda i: st.lists(i) | st.dictionaries(st.text(), i),
    )
)
def test_what_is_valid_means_the_same(value: Any) -> None:
    for ascii_only in (True, False):
        assert repr(read_json(json.dumps(value, ensure_ascii=ascii_only).encode())) == repr(value)


@given(st.text(st.characters(categories=["Cs", "L"])))
def test_escapes_become_text_that_can_be_sent(text: str) -> None:
    read_json(json.dumps(text).encode()).encode()
