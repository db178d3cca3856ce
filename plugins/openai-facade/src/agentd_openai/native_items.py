"""Native calls of our tools among the items of the responses API: as the caller sees them, and back again.

A call of a tool is an `mcp_call` item (`server_label` is the tool's source), a call of `bash` a
`code_interpreter_call` item. Their field `agentd` holds what the provider knows in their place: the
`function_call` and its output, and in an answer that was not streamed also the items that stood before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from agentd.protocols import ModelToolCall

if TYPE_CHECKING:
    from agentd.protocols import Offers

__all__ = ["RESULTS", "expanded", "marker", "mcp_item", "plain_call"]

RESULTS: Final = "tool_call.results"
"""The value of `include` that asks for the tools' results in a stream; the provider does not know it."""


def plain_call(call: ModelToolCall) -> dict[str, Any]:
    """Return a call as the `function_call` item that it was."""
    raw: Any = call.raw
    if hasattr(raw, "to_dict"):
        return {k: v for k, v in raw.to_dict().items() if v is not None}
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def marker(call: ModelToolCall, output: str, *, turn: int, before: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the field `agentd` of an item of ours. `turn` says which calls were made in one answer."""
    made: dict[str, Any] = {"call": plain_call(call), "output": output, "turn": turn}
    if before:
        made["before"] = [_plain(i) for i in before]
    return made


def mcp_item(
    call: ModelToolCall,
    offers: Offers,
    *,
    status: str,
    turn: int,
    output: str | None = None,
    shown: bool = True,
    results: bool = False,
    before: Sequence[Any] = (),
) -> Any:
    """Return a call of a tool as an `mcp_call` item.

    :param output: what the model reads; None while the call runs.
    :param shown: put the output into the item itself, too.
    :param results: add the fields that agentd 0.8 had: `tool_name`, `inputs` and `results`.
    """
    from openai.types.responses.response_output_item import McpCall

    source, name = offers.origin(call.name)
    failed = status == "failed"
    fields: dict[str, Any] = {
        "id": f"mcp_{getattr(call.raw, 'id', None) or call.id}",
        "type": "mcp_call",
        "server_label": source,
        "name": name,
        "arguments": call.arguments,
        "status": status,
    }
    if output is not None:
        fields["agentd"] = marker(call, output, turn=turn, before=before)
        if shown and not failed:
            fields["output"] = output
        if results:
            fields |= {"tool_name": name, "inputs": call.arguments, "results": [output]}
    if not failed:
        return McpCall.model_validate(fields)
    error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": output or ""}]}
    try:
        return McpCall.model_validate({**fields, "error": error})
    except ValueError:  # older SDKs have a text there
        return McpCall.model_validate({**fields, "error": output or ""})


# --- items that come back --------------------------------------------------------------------------------


def is_ours(plain: Mapping[str, Any]) -> bool:
    """Tell whether an item stands for a native call of ours."""
    extra = plain.get("agentd")
    return isinstance(extra, Mapping) and isinstance(extra.get("call"), Mapping)


def expanded(items: Iterable[Any]) -> list[Any]:
    """Return input items with those of ours as the provider knows them: the calls of one answer, then their
    outputs."""
    found: list[Any] = []
    outputs: list[Any] = []
    turn: object = None
    for item in items:
        plain = item if isinstance(item, Mapping) else _plain(item)
        ours = is_ours(plain)
        if not ours or plain["agentd"].get("turn") != turn:
            found += outputs
            outputs = []
        if not ours:
            found.append(item)
            continue
        extra = plain["agentd"]
        turn = extra.get("turn")
        found += [*(extra.get("before") or ()), dict(extra["call"])]
        outputs.append(
            {
                "type": "function_call_output",
                "call_id": extra["call"].get("call_id"),
                "output": str(extra.get("output") or ""),
            }
        )
    return found + outputs


def _plain(item: Any) -> dict[str, Any]:
    data = item if isinstance(item, Mapping) else getattr(item, "to_dict", dict)()
    return {k: v for k, v in data.items() if v is not None}
