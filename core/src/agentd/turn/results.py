"""What the model reads about its blocks: a fixed text, the same for the same results.

    [result 1 of 2: bash:execute, completed, exit code 0]
    total 3
    [end of result 1]

    [result 2 of 2: python:execute, failed, exit code 1]
    Traceback (most recent call last): ...
    [end of result 2]

`completed` means exit code 0; the other words are `failed`, `timeout`, `cancelled`, `error` (the executor
failed) and `rejected` (not run). A block without output says `(no output)`. Notes of the run stand last, a
line each.

The result of a native tool call is a message of its own: the tool's result as text or JSON, or its error;
for the `bash` tool the output, then `[failed, exit code 1]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentd.protocols import ToolReply
from agentd.turn.transcript import Execution
from agentd.types import Action, ActionResult, BashAction, Blob, Block, CreateAction, PythonAction

__all__ = ["action_of", "cut_middle", "format_results", "output_text", "rejection", "reply_text"]

HINT = "write long output to a file and read the part that you need"


def header(block: Block) -> str:
    """Return the block's header as the model wrote it, in its canonical form."""
    return f"{block.target}:{block.action}"


def target_of(block: Block) -> str:
    """Return the language of a block, or the path if it creates a file."""
    return block.target if block.action == "create" or not block.language else block.language


def action_of(block: Block) -> Action | None:
    """Return what an executor is to run for the block, or None if it cannot be run."""
    if not block.complete:
        return None
    if block.action == "create":
        return CreateAction(path=block.target, content=block.source) if block.target.strip() else None
    if block.action == "execute" and block.language == "bash":
        return BashAction(command=block.source)
    if block.action == "execute" and block.language == "python":
        return PythonAction(code=block.source)
    return None


def rejection(block: Block, forms: str) -> str:
    """Return what the model is told about a block that `action_of` refused: why, and the forms that there are."""
    if not block.complete:
        cut = ", or a fence in the file ended it" if block.action == "create" else ""
        why = f"The block {header(block)} was not closed{cut}, so it was not run."
    elif block.action == "execute":
        why = f"Blocks in the language {block.target!r} cannot be run: bash and python can."
    elif block.action == "create":
        why = "The block has no path, so no file was written."
    else:
        why = f"{block.action!r} is no action: there are execute and create."
    return f"{why} The forms are:\n\n{forms}" if forms else why


def cut_middle(text: str, limit: int) -> str:
    """Return `text` with at most about `limit` characters, its head and tail kept, and a note of what was
    cut."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit - limit * 2 // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n[... {cut} characters were cut here; {HINT} ...]\n{text[-tail:]}"


def output_text(result: ActionResult, limit: int) -> str:
    """Return a result's output as the model reads it: both streams in the order of arrival, and what was
    left out."""
    text = cut_middle(result.output, limit)
    if result.dropped_bytes:
        text += (
            f"{'' if text.endswith(chr(10)) else chr(10)}[{result.dropped_bytes} bytes were dropped; {HINT}]"
        )
    return text


def format_results(executions: Sequence[Execution], notes: Sequence[str] = ()) -> str:
    """Return the message that tells the model what its blocks gave."""
    total = len(executions)
    parts = []
    for number, done in enumerate(executions, 1):
        code = "" if done.status in ("rejected", "error") else f", exit code {done.exit_code}"
        body = done.output.removesuffix("\n") or "(no output)"
        parts.append(
            f"[result {number} of {total}: {done.header}, {done.status}{code}]\n{body}\n[end of result {number}]"
        )
    if notes:
        parts.append("\n".join(f"[note: {n}]" for n in notes))
    return "\n\n".join(parts)


# --- native tool calls -----------------------------------------------------------------------------------


def reply_text(reply: ToolReply) -> str:
    """Return a tool's reply as the model reads it: text as it is, all else as JSON, binary data as a label,
    an error as `TYPE: MESSAGE`."""
    from agentd.turn.blobs import decode_json

    payload = reply.payload
    if reply.ok and payload[:1] not in (b'"', b"[", b"{"):
        return payload.decode()  # a number, true, false, null
    value = decode_json(payload)
    if not reply.ok:
        return f"{value['type']}: {value['message']}"
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # no provider takes lone surrogates
    if isinstance(value, Blob):
        return _label(value)
    return json.dumps(value, ensure_ascii=False, default=_label).encode("utf-8", "replace").decode()


def _label(blob: Blob) -> str:
    return f"[{', '.join(filter(None, [blob.mime_type, f'{len(blob)} bytes', blob.uri]))}]"


def bash_text(done: Execution) -> str:
    """Return the result of a call of the `bash` tool."""
    if done.status in ("rejected", "error"):
        return done.output
    return (
        f"{done.output.removesuffix(chr(10)) or '(no output)'}\n[{done.status}, exit code {done.exit_code}]"
    )


def with_notes(text: str, notes: Sequence[str]) -> str:
    """Return the text with the notes of the run behind it."""
    return "\n".join([text, *(f"[note: {n}]" for n in notes)])
