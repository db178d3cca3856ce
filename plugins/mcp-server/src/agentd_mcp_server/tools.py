"""The tools that a client sees, and what each does with the client's sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from agentd.errors import AgentdError, ToolInputError, suggest
from mcp_types import CallToolResult, ImageContent, TextContent, Tool, ToolAnnotations

from agentd_mcp_server.files import check_workspace, list_files

if TYPE_CHECKING:
    from agentd.types import Binding

    from agentd_mcp_server.client_sandbox import ClientSandbox, Done
    from agentd_mcp_server.person import Person

__all__ = ["INSTRUCTIONS", "NAMES", "carry_out", "check", "failed", "listed", "schema_of", "unknown"]

INSTRUCTIONS: Final = (
    "Act by writing code: run_bash and run_python run it in a sandbox with a workspace that stays. The tools of other "
    "servers are Python functions there: `from lib.tools import NAME`. search_tools finds them, with their signatures. "
    "Call many of them from one block, in loops and threads, and print only what you need. "
    "agentd.show(FILE) after `import agentd` (in bash: skills show FILE) puts a picture into the result."
)
_FOUND: Final = 50
_LISTED: Final = 1000
_RECONNECT_S: Final = 5.0
_DONE: Final = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["completed", "failed"]},
        "exit_code": {"type": "integer"},
        "output": {"type": "string"},
        "wall_s": {"type": "number"},
        "note": {"type": "string", "description": "if the sandbox is not as the last call left it: why"},
    },
    "required": ["status", "exit_code", "output", "wall_s"],
}


def _tool(
    name: str, description: str, properties: Mapping[str, Any], required: list[str], **more: Any
) -> Tool:
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }
    hints = {key: more.pop(key) for key in ("read_only_hint", "destructive_hint") if key in more}
    return Tool(
        name=name,
        description=description,
        input_schema=schema,
        annotations=ToolAnnotations(open_world_hint=False, **hints),
        **more,
    )


_TEXT: Final = {"type": "string"}
_TOOLS: Final = (
    _tool(
        "run_bash",
        "Run bash in the sandbox. The current directory, variables and functions stay from one call to the next.",
        {"code": _TEXT},
        ["code"],
        output_schema=_DONE,
    ),
    _tool(
        "run_python",
        "Run Python in the sandbox{}; print what you want to know. Tools are functions: from lib.tools import NAME.",
        {"code": _TEXT},
        ["code"],
        output_schema=_DONE,
    ),
    _tool(
        "create_file",
        "Write a text file into the workspace; its folders are made, and what was there is replaced.",
        {
            "path": {**_TEXT, "description": "relative to bash's current directory, within the workspace"},
            "content": _TEXT,
        },
        ["path", "content"],
        destructive_hint=True,
        output_schema=_DONE,
    ),
    _tool(
        "search_tools",
        f"Find the functions that code may import from lib.tools, with signatures: at most {_FOUND}, those first that "
        "have most of the words in their name or description. Without a query, all.",
        {"query": {**_TEXT, "default": ""}},
        [],
        read_only_hint=True,
    ),
    _tool(
        "list_files",
        f"List files and folders of the workspace, at most {_LISTED}.",
        {
            "path": {**_TEXT, "default": "."},
            "depth": {"type": "integer", "minimum": 1, "maximum": 20, "default": 2},
        },
        [],
        read_only_hint=True,
    ),
    _tool(
        "checkpoint",
        "Keep this moment: the workspace's files and the shell's state.",
        {"label": {**_TEXT, "description": "a name to come back by"}},
        [],
        read_only_hint=True,
    ),
    _tool(
        "rewind",
        "Go back to a checkpoint: files and shell are as they were then. What was made since is lost, and so are all "
        "variables of Python.",
        {"checkpoint": {**_TEXT, "description": "an id or a label; without it, the newest"}},
        [],
        destructive_hint=True,
    ),
)
_SANDBOX: Final = {
    **_TEXT,
    "default": "default",
    "description": "the name of a sandbox: each has its own workspace, shell and checkpoints",
}


_KEPT: Final = ", in an interpreter whose variables stay from one call to the next (a time-out loses them)"
_FRESH: Final = ", each time in a fresh interpreter"


def listed(*, named: bool, keeps_python: bool) -> list[Tool]:
    """Return the tools.

    :param named: a client says in each call which sandbox it means, as it has no session.
    :param keeps_python: the sandboxes' Python has one namespace for all calls.
    """
    tools = [
        tool.model_copy(
            update={"description": (tool.description or "").format(_KEPT if keeps_python else _FRESH)}
        )
        for tool in _TOOLS
    ]
    if not named:
        return tools
    return [
        tool.model_copy(
            update={
                "input_schema": {
                    **tool.input_schema,
                    "properties": {**tool.input_schema["properties"], "sandbox": _SANDBOX},
                }
            }
        )
        for tool in tools
    ]


NAMES: Final = {tool.name: tool for tool in _TOOLS}


def unknown(name: str) -> str:
    """Return what a caller of a tool that does not exist is told."""
    return f"there is no tool {name!r:.200}{suggest(name, NAMES)}; there are: {', '.join(NAMES)}"


def schema_of(name: str) -> Mapping[str, Any] | None:
    """Return the schema of a tool's arguments, or None."""
    return NAMES[name].input_schema if name in NAMES else None


def check(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with defaults. :raises ToolInputError: for wrong ones, all at once."""
    tool = NAMES[name]
    known = {**tool.input_schema["properties"], "sandbox": _SANDBOX}
    problems = [f"{key}: is not known{suggest(key, known)}" for key in given if key not in known]
    problems += [f"{key}: is missing" for key in tool.input_schema["required"] if key not in given]
    for key, value in given.items():
        kind = known.get(key, {}).get("type")
        if kind == "string" and not isinstance(value, str):
            problems.append(f"{key}: must be text, got {type(value).__name__}")
        elif kind == "integer" and (
            not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 20
        ):
            problems.append(f"{key}: must be an integer from 1 to 20, got {value!r:.40}")
    if problems:
        raise ToolInputError(f"{name}: {'; '.join(problems)}")
    defaults = {key: schema["default"] for key, schema in known.items() if "default" in schema}
    return {**defaults, **given}


async def carry_out(
    sandbox: ClientSandbox, name: str, given: Mapping[str, Any], person: Person
) -> CallToolResult:
    """Do what a call of a tool asks for. What fails is a result that says so."""
    try:
        return await _DO[name](sandbox, given, person)
    except AgentdError as error:
        return failed(f"{type(error).__name__}: {error}")


def failed(text: str) -> CallToolResult:
    """Return what a model reads of a call that failed."""
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


async def _run_bash(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    code = given["code"].replace("\r\n", "\n")  # bash takes the carriage return for a part of the command
    return _told(await sandbox.run("bash:execute", code, person))


async def _run_python(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    return _told(await sandbox.run("python:execute", given["code"], person))


async def _create_file(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    path = given["path"]
    if not path.strip() or any(not character.isprintable() for character in path) or path != path.strip():
        raise ToolInputError(f"create_file: path must be a name without control characters, got {path!r:.80}")
    done = await sandbox.run(f"{path}:create", given["content"], person)
    if done.status != "completed":  # it says that there is no such file, whatever is not there
        await anyio.to_thread.run_sync(check_workspace, sandbox.session.workspace)
    return _told(done)


def _told(done: Done) -> CallToolResult:
    facts = {
        "status": "completed" if done.status == "completed" else "failed",
        "exit_code": done.exit_code,
        "output": done.output,
        "wall_s": round(done.wall_s, 4),
        **({"note": done.note} if done.note else {}),
    }
    pictures = [ImageContent(data=data, mime_type=kind) for kind, data in done.pictures]
    return CallToolResult(
        content=[TextContent(text=done.told), *pictures],
        structured_content=facts,
        is_error=done.status != "completed",
    )


async def _search_tools(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    with anyio.move_on_after(_RECONNECT_S):
        await sandbox.upstream.connect()
    tools = sandbox.session.resources.tools
    bindings = () if tools is None else tools.bindings
    words = given["query"].lower().split()
    hits = {id(binding): sum(word in _haystack(binding) for word in words) for binding in bindings}
    found = [binding for binding in bindings if hits[id(binding)] or not words]
    found.sort(key=lambda binding: -hits[id(binding)])
    lines = [_signature(binding) for binding in found[:_FOUND]]
    if len(found) > _FOUND:
        lines.append(f"[{len(found) - _FOUND} more; search for more words]")
    text = "\n\n".join(lines) or (
        f"no tool has any of: {', '.join(words)}" if words else "there are no tools"
    )
    missing = [f"[not there: {problem}]" for problem in sandbox.upstream.problems.values()]
    return CallToolResult(content=[TextContent(text="\n\n".join([text, *missing]))])


def _haystack(binding: Binding) -> str:
    return f"{binding.python_name} {binding.spec.name} {binding.spec.description}".lower()


def _signature(binding: Binding) -> str:
    schema = binding.spec.input_schema
    properties = schema.get("properties")
    fields = properties if isinstance(properties, dict) else {}
    needed = schema.get("required")
    required = needed if isinstance(needed, list) else []
    parts = [f"{name}: {_type(kind)}{'' if name in required else ' = ...'}" for name, kind in fields.items()]
    head = f"from lib.tools import {binding.python_name}  # {binding.python_name}({', '.join(parts)})"
    about = " ".join(binding.spec.description.split())
    return f"{head}\n    {about[:500]}" if about else head


def _type(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(kind, list):
        kind = "|".join(map(str, kind))
    return kind if isinstance(kind, str) else "any"


async def _list_files(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    find = partial(
        list_files,
        sandbox.session.workspace,
        given["path"],
        depth=given["depth"],
        most=_LISTED,
        without=sandbox.not_of_the_workspace(),
    )
    lines = await anyio.to_thread.run_sync(find)
    return CallToolResult(content=[TextContent(text="\n".join(lines) or "nothing is there")])


async def _checkpoint(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    return _facts(await sandbox.checkpoint(given.get("label"), person))


async def _rewind(sandbox: ClientSandbox, given: Mapping[str, Any], person: Person) -> CallToolResult:
    return _facts(await sandbox.rewind(given.get("checkpoint"), person))


def _facts(facts: Mapping[str, Any]) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=json.dumps(facts))], structured_content=dict(facts))


_DO: Final = {
    "run_bash": _run_bash,
    "run_python": _run_python,
    "create_file": _create_file,
    "search_tools": _search_tools,
    "list_files": _list_files,
    "checkpoint": _checkpoint,
    "rewind": _rewind,
}
