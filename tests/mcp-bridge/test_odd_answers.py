"""Answers and descriptions that are not quite what the protocol says: what can be read is read, and nothing is lost."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from agentd.errors import ToolError, ToolInputError
from agentd.registry import Registry
from agentd.types import Blob
from agentd_mcp_bridge.lenient import read_json, request_id
from agentd_mcp_bridge.offered import OutputChecks
from agentd_mcp_bridge.results import tool_value
from agentd_mcp_bridge.source import McpSource
from agentd_tools import ToolSet
from helpers import Host, source
from hypothesis import given, strategies as st


@pytest.fixture
def anyio_backend() -> str:
    """Servers do not see on what loop the caller is."""
    return "asyncio"


async def call_directly(made: McpSource, name: str, arguments: dict[str, Any]) -> object:
    """Call past the SDK."""
    outcome: list[tuple[object, BaseException | None]] = []
    done = anyio.Event()
    from anyio import from_thread, to_thread
    from anyio.lowlevel import current_token

    token = current_token()

    def keep(value: object, error: BaseException | None) -> None:
        outcome.append((value, error))
        from_thread.run_sync(done.set, token=token)

    assert await to_thread.run_sync(lambda: made.begin(name, arguments, keep)) is not None
    with anyio.fail_after(10):
        await done.wait()
    [(value, error)] = outcome
    if error is not None:
        raise error
    return value


async def call(made: McpSource, name: str, arguments: dict[str, Any], way: str) -> object:
    return await (made.call(name, arguments) if way == "sdk" else call_directly(made, name, arguments))


WAYS = pytest.mark.parametrize("way", ["sdk", "direct"])


@WAYS
@pytest.mark.anyio
@pytest.mark.parametrize(
    "result",
    [
        '{"content":[],"structuredContent":{"x":NaN,"y":-Infinity}}',
        '{"content":[],"structuredContent":{"x":NaN,"y":-Infinity},"_meta":{"took":Infinity}}',
    ],
)
async def test_numbers_that_strict_json_lacks_arrive(way: str, result: str) -> None:
    made = source()
    await made.list_tools()
    value = await call(made, "raw", {"text": f'{{"jsonrpc":"2.0","id":ID,"result":{result}}}'}, way)
    assert isinstance(value, dict)
    assert math.isnan(value["x"])
    assert value["y"] == -math.inf
    await made.aclose()


@WAYS
@pytest.mark.anyio
async def test_half_a_surrogate_pair_becomes_one_replacement_character(way: str) -> None:
    made = source()
    await made.list_tools()
    text = '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"a\\ud83d \\ud83d\\ude00"}]}}'
    assert await call(made, "raw", {"text": text}, way) == "a\ufffd \U0001f600"
    await made.aclose()


@WAYS
@pytest.mark.anyio
@pytest.mark.parametrize("text", ['{"jsonrpc":"2.0","id":ID,"result":{"content":', '{"id":ID,"result":[[}'])
async def test_an_answer_that_cannot_be_read_fails_its_call_at_once(way: str, text: str) -> None:
    made = source()
    await made.list_tools()
    began = time.monotonic()
    with pytest.raises(ToolError, match="the server's answer cannot be read"):
        await call(made, "raw", {"text": text}, way)
    assert time.monotonic() - began < 10  # its time-out is 60 s
    assert await call(made, "echo", {"text": "next"}, way) == "next"
    await made.aclose()


@pytest.mark.anyio
async def test_lines_that_are_no_messages_are_told_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    made = source()
    await made.list_tools()
    with caplog.at_level("WARNING", "agentd.mcp"):
        chatter = "\n".join(["debug: here", *["debug: again"] * 30])
        text = chatter + '\n{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}'
        assert await made.call("raw", {"text": text}) is None
    assert [record.getMessage() for record in caplog.records] == [
        "the MCP server 'scripted' wrote a line that is no message (its number 1): 'debug: here'",
        "the MCP server 'scripted' wrote a line that is no message (its number 10): 'debug: again'",
    ]
    await made.aclose()


@pytest.mark.anyio
async def test_one_odd_tool_does_not_take_the_others_along() -> None:
    made, host = source("odd"), Host()
    specs = {spec.name: spec for spec in await made.list_tools(host)}
    assert list(specs) == ["echo", "untyped", "empty", "bare", "listed", "hinted"]
    assert specs["untyped"].input_schema["properties"] == {"text": {"type": "string"}}
    for name in ("empty", "bare", "listed"):
        assert specs[name].input_schema == {"type": "object"}
    told = {text.split("'")[1] for _, text in host.logged}
    assert told == {"untyped", "empty", "bare", "listed", "hinted"}
    assert await made.call("echo", {"text": "hi"}) == "hi"
    await made.aclose()


@pytest.mark.anyio
async def test_an_odd_tool_that_is_not_offered_is_not_told_of() -> None:
    made, host = source("odd", tool_filter={"deny": ["untyped", "[ebl]*"]}), Host()
    assert [spec.name for spec in await made.list_tools(host)] == ["hinted"]
    assert [text.split("'")[1] for _, text in host.logged] == ["hinted"]
    await made.aclose()


@pytest.mark.anyio
async def test_a_property_with_a_default_is_optional_though_the_server_lists_it_as_required(
    tmp_path: Path,
) -> None:
    tools = ToolSet([], [source("defaults")])
    await tools.start()
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), tmp_path)
    [signature] = re.findall(r"^def given\(.*", (tmp_path / "lib" / "tools.py").read_text(), re.MULTILINE)
    assert re.search(r"text: str\b(?! =)", signature)
    assert re.search(r"level: .* = ", signature)
    async with anyio.create_task_group() as group:
        await group.start(tools.serve)
        assert await tools.call("given", {"text": "x"}) == '{"text": "x"}'
        with pytest.raises(ToolInputError, match="argument 'text' is missing"):
            await tools.call("given", {"level": "error"})
        group.cancel_scope.cancel()
    await tools.aclose()


@WAYS
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("result", "value", "told"),
    [
        ({"content": [], "structuredContent": {"n": 1}}, {"n": 1}, ""),
        (
            {"content": [], "structuredContent": {"n": None}},
            {"n": None},
            "$.n: None is not of type 'integer'",
        ),
        (
            {"content": [{"type": "text", "text": "sorry"}]},
            "sorry",
            "promises structured content and sent none",
        ),
    ],
)
async def test_what_does_not_keep_its_schema_is_given_and_told(
    way: str, result: dict[str, Any], value: Any, told: str
) -> None:
    made, host = source(), Host()
    await made.list_tools(host)
    got = await call(made, "structured", {"result": result}, way)
    if told and isinstance(value, dict):
        assert isinstance(got, dict)
        assert told in got.pop("_warning")
    assert got == value
    assert [level for level, text in host.logged if told in text] == (["warning"] if told else [])
    await made.aclose()


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"properties": {"n": {"$ref": "#/$defs/gone"}}}, "/$defs/gone"),
        ({"$ref": "https://schemas.example/none.json"}, "https://schemas.example/none.json"),
        ({"$ref": "#"}, "it leads to itself without an end"),
        ({"type": "objekt"}, "'objekt' is not valid"),
    ],
)
def test_an_output_schema_that_cannot_be_used_is_told_and_withholds_nothing(
    schema: dict[str, Any], problem: str
) -> None:
    checks = OutputChecks()
    checks.replace({"count": schema})
    told = checks.mismatch("count", {"n": 1})
    assert told.startswith("the output schema of count() cannot be used: ")
    assert problem in told


def result(structured: Any, *content: types.ContentBlock, error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=list(content), structured_content=structured, is_error=error)


def text(said: str) -> types.TextContent:
    return types.TextContent(type="text", text=said)


PICTURE = types.ImageContent(type="image", data="aGk=", mime_type="image/png")


def test_what_stands_beside_structured_content_is_not_lost() -> None:
    value = tool_value(result({"n": 1}, text("one row"), PICTURE), "count()")
    assert value == {"n": 1, "_content": ["one row", Blob(b"hi", "image/png")]}


@pytest.mark.parametrize("repeated", ['{"n": 1}', '{ "n":1 }', "", "  "])
def test_a_text_that_repeats_the_structure_is_left_out(repeated: str) -> None:
    assert tool_value(result({"n": 1}, text(repeated)), "count()") == {"n": 1}


def test_a_text_that_repeats_the_only_part_of_the_structure_is_left_out() -> None:
    made = {"entities": [{"name": "x", "observations": []}]}
    assert tool_value(result(made, text('[{"name": "x", "observations": []}]')), "create()") == made
    told = tool_value(result(made, text('[{"name": "y"}]')), "create()")
    assert told == {**made, "_content": ['[{"name": "y"}]']}


def test_a_file_sent_as_text_and_in_structure_is_there_once() -> None:
    assert tool_value(result({"content": "a\nb"}, text("a\nb")), "read()") == {"content": "a\nb"}


def test_of_a_picture_that_is_sent_twice_the_binary_one_is_taken() -> None:
    structured = {"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]}
    assert tool_value(result(structured, PICTURE), "read()") == Blob(b"hi", "image/png")


def test_a_list_that_was_wrapped_stays_a_list() -> None:
    assert tool_value(result({"result": [1, 2]}, text("1"), text("2")), "rows()", wrapped=True) == [1, 2]


def test_an_error_keeps_its_data() -> None:
    with pytest.raises(ToolError, match="no such row") as caught:
        tool_value(result({"code": 7}, text("no such row"), error=True), "find()")
    assert caught.value.data == {"code": 7}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None)),  # surrogates too
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_whatever_python_writes_is_read_as_valid_text(value: Any) -> None:
    import json

    got = read_json(json.dumps(value).encode())
    json.dumps(got, ensure_ascii=False).encode("utf-8")  # no half of a pair is left


@given(st.binary(max_size=200))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    request_id(line)
    try:
        read_json(line)
    except ValueError:
        pass


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(b"[" * 200_000)
