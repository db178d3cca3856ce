"""What a client is told of lines that are no messages, and what is read of them nevertheless."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from agentd_cli.standard_streams import CutLine, StandardInput, StandardOutput
from agentd_mcp_server import client_lines
from agentd_mcp_server.client_lines import ClientLines
from hypothesis import given, strategies as st

pytestmark = pytest.mark.anyio


async def read(*lines: str | bytes) -> tuple[list[Any], list[Any]]:
    """Return the messages that the SDK gets of these lines, and what the client is told."""
    ours, theirs = os.pipe()
    told, tells = os.pipe()
    try:
        os.write(
            theirs, b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
        )
        os.close(theirs)
        messages = [
            json.loads(message) async for message in ClientLines(StandardInput(ours), StandardOutput(tells))
        ]
        os.close(tells)
        with open(told, closefd=False) as answers:
            return messages, [json.loads(line, parse_constant=pytest.fail) for line in answers]
    finally:
        os.close(ours)
        os.close(told)


@pytest.mark.parametrize(
    ("line", "number", "code"),
    [
        ('{"jsonrpc": "2.0", "id": 7, "method": 5}', 7, -32600),
        ('{"jsonrpc": "2.0", "id": "a", "method": "ping", "params": [1]}', "a", -32600),
        ('{"id": 7, "method": "ping"}', 7, -32600),
        ('{"jsonrpc": "2.0", "id": 7}', 7, -32600),
        ('{"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"text": "\\ud800"}}', 7, -32700),
        (b'{"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"text": "\xff"}}', 7, -32700),
        # The SDK takes these for notifications.
        ('{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', 1.5, -32600),
        ('{"jsonrpc": "2.0", "id": null, "method": "ping"}', None, -32600),
        ('{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', None, -32600),
        ('{"jsonrpc": "2.0", "id": 1e999, "method": "ping"}', None, -32600),
        ('{"jsonrpc": "2.0", "id": true, "method": "ping"}', None, -32600),
        ('{"jsonrpc": "2.0", "id": {"a": 1}, "method": "ping"}', None, -32600),
        ('{"id": 7, "method": "ping"', None, -32700),
        ("[]", None, -32600),
        ("[" * 2000, None, -32700),
    ],
)
async def test_a_request_that_is_malformed_is_answered_with_its_id(
    line: str | bytes, number: object, code: int
) -> None:
    messages, told = await read(line)
    assert messages == []
    assert [(answer["id"], answer["error"]["code"]) for answer in told] == [(number, code)]


async def test_each_request_of_a_batch_is_answered() -> None:
    one, two = ({"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (1, 2))
    messages, told = await read(
        json.dumps([one, {"jsonrpc": "2.0", "method": "notifications/initialized"}, two])
    )
    assert messages == []
    assert [answer["id"] for answer in told] == [1, 2]
    assert "MCP has no batches" in told[0]["error"]["message"]


async def test_a_question_whose_answer_is_malformed_ends_and_no_request_of_the_client_does() -> None:
    messages, told = await read('{"jsonrpc": "2.0", "id": 3, "result": "yes"}')
    assert [(message["id"], message["error"]["code"]) for message in messages] == [(3, -32600)]
    assert [answer["id"] for answer in told] == [None]


LONG = {"name": "create_file", "arguments": {"path": "a", "content": 'x,"id":9}' * 900, "id": 8}}


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": LONG}, 7),
        ({"method": "tools/call", "params": LONG, "jsonrpc": "2.0", "id": "s,}"}, "s,}"),
        ({"id": 7, "params": LONG, "method": "tools/call"}, 7),
        ({"params": LONG}, None),
    ],
    ids=["the-id-first", "the-id-last", "the-method-last", "without"],
)
async def test_a_request_that_is_too_long_is_answered_with_its_id(
    message: dict[str, Any], number: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_lines, "MOST_BYTES", 5000)
    messages, told = await read(json.dumps(message), '{"jsonrpc": "2.0", "id": 8, "method": "ping"}')
    assert [answer["id"] for answer in told] == [number]
    assert "5,000 bytes at most" in told[0]["error"]["message"]
    assert [message["id"] for message in messages] == [8]


async def test_a_question_whose_answer_is_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_lines, "MOST_BYTES", 5000)
    for answer in ({"id": 3, "result": {"a": "x" * 6000}}, {"result": {"a": "x" * 6000}, "id": 3}):
        messages, told = await read(json.dumps({"jsonrpc": "2.0", **answer}))
        assert [message["id"] for message in messages] == [3]
        assert [one["id"] for one in told] == [None]


TEXTS = st.text(st.sampled_from('",{}:\\id0 ') | st.characters(codec="utf-8"), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.just("id"), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers() | TEXTS, VALUES, st.permutations(["jsonrpc", "id", "method", "params"]))
def test_no_other_id_than_the_requests_own_is_read_of_the_ends_of_a_line(
    number: int | str, params: Any, order: list[str]
) -> None:
    members = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    line = json.dumps({name: members[name] for name in order}, ensure_ascii=False).encode()
    for kept in range(1, len(line), 3):
        cut = CutLine(line[:kept], line[-kept:])
        found = client_lines._outer_members(cut)
        assert found.get("id") in (None, number)
        assert found.keys() <= members.keys()
