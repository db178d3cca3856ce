"""The responses API: what is sent for a call of the patched method, and what a whole answer becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentd.errors import ConfigError
from agentd.turn.transcript import Execution, format_results
from agentd.types import Usage

from agentd_openai.native_items import RESULTS, expanded

__all__ = [
    "CONTAINER",
    "add_usage",
    "check",
    "code_item",
    "incomplete",
    "own_items_as_text",
    "with_instructions",
    "without_ours",
]

CONTAINER = "agentd"
"""The `container_id` of the code items that are ours."""


def check(kwargs: Mapping[str, Any], *, streamed: bool) -> None:
    """Raise `ConfigError` for what cannot work with running code or tools."""
    if kwargs.get("background") and not streamed:
        raise ConfigError(
            "background: an answer in the background is not read here, so no code of it can run; pass "
            "ptc_enabled=False for a plain one, or stream=True"
        )


def with_instructions(own: Any, text: str) -> str:
    """Return the caller's instructions, then ours."""
    return f"{own}\n\n{text}" if own else text


def add_usage(usage: Usage) -> Any:
    """Return the sum over the rounds as the SDK's object."""
    from openai.types.responses import ResponseUsage

    return ResponseUsage.construct(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_tokens_details={"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": 0},
        output_tokens_details={"reasoning_tokens": usage.reasoning_tokens},
    )


def incomplete(stop_reason: str) -> Any:
    """Return why a response is incomplete, in the SDK's words."""
    from openai.types.responses.response import IncompleteDetails

    return IncompleteDetails.construct(
        reason="content_filter" if stop_reason == "refused" else "max_output_tokens"
    )


def code_item(
    *,
    id: str,
    code: str,
    header: str,
    status: str,
    output: str | None = None,
    exit_code: int | None = None,
    native: Mapping[str, Any] | None = None,
) -> Any:
    """Return a block as a `code_interpreter_call` item; `agentd` holds its header and exit code, and for a
    call of `bash` the marker `native` (see `agentd_openai.native_items`)."""
    from openai.types.responses import ResponseCodeInterpreterToolCall

    return ResponseCodeInterpreterToolCall.model_validate(
        {
            "id": f"ci_{id}",
            "type": "code_interpreter_call",
            "container_id": CONTAINER,
            "code": code,
            "status": status,
            "outputs": None if output is None else [{"type": "logs", "logs": output}],
            "agentd": {"header": header, "exit_code": exit_code, **(native or {})},
        }
    )


def executed_item(done: Execution, native: Mapping[str, Any] | None = None) -> Any:
    """Return the item of a block that has ended."""
    status = "completed" if done.status == "completed" else "failed"
    return code_item(
        id=done.id,
        code=done.code,
        header=done.header,
        status=status,
        output=done.output,
        exit_code=done.exit_code,
        native=native,
    )


# --- items that come back -----------------------------------------------------------------------------


def without_ours(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a request's arguments as the provider may see them."""
    made = dict(kwargs)
    if isinstance(made.get("input"), list):
        made["input"] = own_items_as_text(made["input"])
    include = made.get("include")
    if isinstance(include, list | tuple) and RESULTS in include:
        made["include"] = [i for i in include if i != RESULTS]
        if not made["include"]:
            del made["include"]
    return made


def own_items_as_text(items: Sequence[Any]) -> list[Any]:
    """Return input items with our code items written out as messages.

    A caller may pass the `output` of an earlier response as input. The provider knows nothing of our items,
    so they become what they were: the model's block (unless it stands in the message before) and its
    results. Native calls become items that the provider knows.
    """
    found: list[Any] = []
    items = expanded(items)
    run: list[Mapping[str, Any]] = []
    for item in items:
        plain = item if isinstance(item, Mapping) else getattr(item, "to_dict", dict)()
        if plain.get("type") == "code_interpreter_call" and plain.get("container_id") == CONTAINER:
            run.append(plain)
            continue
        if run:
            found += _written_out(run, found)
            run = []
        found.append(item)
    if run:
        found += _written_out(run, found)
    return found


def _written_out(run: list[Mapping[str, Any]], before: list[Any]) -> list[dict[str, Any]]:
    executions = [_execution(i) for i in run]
    said = _text_of(before[-1]) if before else ""
    messages = []
    if not all(e.code in said for e in executions):
        blocks = "\n".join(f"```{e.header}\n{e.code.removesuffix(chr(10))}\n```" for e in executions)
        messages.append({"role": "assistant", "content": blocks})
    messages.append({"role": "user", "content": format_results(executions)})
    return messages


def _execution(item: Mapping[str, Any]) -> Execution:
    extra = item.get("agentd") or {}
    output = "".join(o.get("logs") or "" for o in item.get("outputs") or [])
    status = str(item.get("status") or "completed")
    code = extra.get("exit_code")
    return Execution(
        id=str(item.get("id")),
        turn=0,
        header=str(extra.get("header") or "bash:execute"),
        code=str(item.get("code") or ""),
        output=output,
        status=status,
        exit_code=(0 if status == "completed" else 1) if code is None else int(code),
    )


def _text_of(item: Any) -> str:
    plain = item if isinstance(item, Mapping) else getattr(item, "to_dict", dict)()
    content = plain.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(p.get("text") or "") for p in content or [] if isinstance(p, Mapping))
