"""Results and schemas of servers as Python values."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest
from agentd.errors import ToolError
from agentd.types import Blob
from agentd_mcp_bridge.results import prompt_messages, resource_value, tool_value
from agentd_mcp_bridge.schemas import is_wrapped, tool_spec, unwrapped
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

TEXT = {"type": "text", "text": "42"}
IMAGE = {"type": "image", "data": "iVBO", "mimeType": "image/png"}
LINK = {"type": "resource_link", "uri": "x://1", "name": "one"}


def value(**result: Any) -> object:
    """Return the value of a tool's result in its wire form."""
    return tool_value(types.CallToolResult.model_validate({"content": [], **result}), "t()")


def test_one_text_stays_a_text_whatever_it_looks_like() -> None:
    assert value(content=[TEXT]) == "42"


def test_structured_content_comes_as_its_type_and_the_text_beside_it() -> None:
    assert value(content=[TEXT], structuredContent={"a": [1, 2.5, None]}) == {
        "a": [1, 2.5, None],
        "_content": ["42"],
    }


def test_binary_parts_become_blobs() -> None:
    for part, kind, uri in (
        (IMAGE, "image/png", ""),
        ({"type": "audio", "data": "iVBO", "mimeType": "audio/wav"}, "audio/wav", ""),
        (
            {"type": "resource", "resource": {"uri": "x://b", "blob": "iVBO", "mimeType": "x/y"}},
            "x/y",
            "x://b",
        ),
    ):
        blob = value(content=[part])
        assert isinstance(blob, Blob)
        assert (bytes(blob), blob.mime_type, blob.uri) == (b"\x89PN", kind, uri)


def test_an_embedded_text_is_a_text_and_a_link_a_dict() -> None:
    assert value(content=[{"type": "resource", "resource": {"uri": "x://t", "text": "hello"}}]) == "hello"
    assert value(content=[LINK]) == {"type": "resource_link", "uri": "x://1", "name": "one"}


def test_several_parts_are_a_list_and_none_is_none() -> None:
    parts = value(content=[TEXT, IMAGE, LINK])
    assert isinstance(parts, list)
    assert parts[0] == "42"
    assert isinstance(parts[1], Blob)
    assert value(content=[]) is None


def test_a_failed_call_raises_its_text() -> None:
    with pytest.raises(ToolError, match=r"^first\nsecond$"):
        value(
            content=[{"type": "text", "text": "first"}, IMAGE, {"type": "text", "text": "second"}],
            isError=True,
        )
    with pytest.raises(ToolError, match=r'^\{"code": 7\}$'):
        value(structuredContent={"code": 7}, isError=True)
    with pytest.raises(ToolError, match=r"^t\(\) failed, and the server does not say why$"):
        value(isError=True)


def test_binary_data_that_is_no_base64_is_an_error_of_the_tool() -> None:
    with pytest.raises(ToolError, match="no base64"):
        value(content=[{**IMAGE, "data": "x"}])


def test_a_resource_of_several_parts_is_a_list() -> None:
    contents = [{"uri": "x://1", "text": "a"}, {"uri": "x://2", "blob": "aGk=", "mimeType": "x/y"}]
    result = resource_value(types.ReadResourceResult.model_validate({"contents": contents}))
    assert result == ["a", b"hi"]


def test_a_prompt_is_a_list_of_roles_and_contents() -> None:
    result = types.GetPromptResult.model_validate({"messages": [{"role": "user", "content": TEXT}]})
    assert prompt_messages(result) == [{"role": "user", "content": "42"}]


class Sum(BaseModel):
    result: int


class SumOutput(BaseModel):
    result: int


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def pairs() -> list[Sum]:
    """Return models."""
    return []


def on_purpose() -> SumOutput:
    """Return an object that has a `result` on purpose."""
    return SumOutput(result=1)


async def _tools(*functions: Any) -> dict[str, Any]:
    server = MCPServer("s")
    for function in functions:
        server.add_tool(function)
    return {tool.name: tool for tool in await server.list_tools()}


@pytest.mark.anyio
async def test_a_result_that_is_wrapped_only_to_be_an_object_is_unwrapped_in_schema_and_value() -> None:
    tools = await _tools(add, pairs, on_purpose)
    assert tool_spec(tools["add"], "s", None).output_schema == {"type": "integer"}
    schema = tool_spec(tools["pairs"], "s", None).output_schema
    assert schema is not None
    assert schema["type"] == "array"
    assert "Sum" in schema["$defs"]  # type: ignore[operator]
    kept = tool_spec(tools["on_purpose"], "s", None).output_schema
    assert kept is not None
    assert kept["properties"].keys() == {"result"}  # type: ignore[attr-defined]


def test_the_mark_of_fastmcp_is_known_and_other_objects_are_left_alone() -> None:
    marked = {"type": "object", "properties": {"result": {"type": "string"}}, "x-fastmcp-wrap-result": True}
    assert is_wrapped(marked, "t")
    assert unwrapped(marked) == {"type": "string"}
    plain = {"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]}
    assert not is_wrapped(plain, "t")
    assert not is_wrapped({**plain, "title": "Report"}, "t")
    both = {"result": {}, "more": {}}
    assert not is_wrapped({**plain, "title": "tOutput", "properties": both}, "t")


def test_only_a_value_that_is_wrapped_is_unwrapped() -> None:
    result = types.CallToolResult.model_validate({"content": [], "structuredContent": {"result": [1]}})
    assert tool_value(result, "t()", wrapped=True) == [1]
    assert tool_value(result, "t()") == {"result": [1]}


def test_a_tools_annotations_are_kept_under_the_names_that_mcp_gives_them() -> None:
    hints = {"readOnlyHint": True, "destructiveHint": False, "title": "Look"}
    data = {"name": "look", "inputSchema": {"type": "object"}}
    annotated = types.Tool.model_validate({**data, "annotations": hints})
    assert tool_spec(annotated, "s", None).annotations == hints
    assert tool_spec(types.Tool.model_validate(data), "s", None).annotations == {}
