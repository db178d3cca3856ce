"""Tools as servers describe them, as `ToolSpec`s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.types import ToolSpec

from agentd_mcp_bridge.offered import output_schema_of

__all__ = ["is_wrapped", "tool_spec", "unwrapped"]


def tool_spec(tool: Any, source: str, timeout_s: float | None) -> ToolSpec:
    """Return the specification of a `Tool`; a wrapped output schema is unwrapped, as its results are."""
    output = output_schema_of(tool)
    if output is not None and is_wrapped(output, tool.name):
        output = unwrapped(output)
    title = tool.title or (tool.annotations.title if tool.annotations is not None else None)
    return ToolSpec(
        name=tool.name,
        description=tool.description or title or "",
        input_schema=_without_defaults(tool.input_schema),
        output_schema=None if output is None else dict(output),
        source=source,
        timeout_s=timeout_s,
        annotations=_hints(tool),
    )


def _hints(tool: Any) -> dict[str, object]:
    """Return a tool's annotations, named as MCP does: `readOnlyHint`, `destructiveHint` and so on."""
    if tool.annotations is None:
        return {}
    hints: dict[str, object] = tool.annotations.model_dump(by_alias=True, exclude_none=True)
    return hints


def _without_defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema whose properties with a default are optional: some servers list them as required, and take
    calls without them."""
    required, properties = schema.get("required"), schema.get("properties")
    if not isinstance(required, list) or not isinstance(properties, Mapping):
        return dict(schema)
    needed = [
        n for n in required if not (isinstance(properties.get(n), Mapping) and "default" in properties[n])
    ]
    return {**schema, "required": needed}


def is_wrapped(schema: Mapping[str, Any], tool_name: str) -> bool:
    """Tell whether an output schema is `{"result": x}` only because results had to be objects.

    FastMCP marks it (`x-fastmcp-wrap-result`). The SDK's server names the schema FUNCTIONOutput and has
    nothing but `result` in it. An object that a tool returns on purpose is named like a class, not like
    a function.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or properties.keys() != {"result"}:
        return False
    if schema.get("x-fastmcp-wrap-result") is True:
        return True
    title = schema.get("title")
    if schema.get("required") != ["result"] or not isinstance(title, str) or not title.endswith("Output"):
        return False
    function = title.removesuffix("Output")
    return function == tool_name or (function.isidentifier() and function == function.lower())


def unwrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of `result`, with the definitions that it may refer to."""
    inner = schema["properties"]["result"]
    result = dict(inner) if isinstance(inner, Mapping) else {}
    if result.get("title") == "Result":
        del result["title"]
    return {**result, **{key: schema[key] for key in ("$defs", "definitions") if key in schema}}
