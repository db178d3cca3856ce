"""Resources and prompts of all sources as five tools, the source `resources`.

The code says which server it means, or leaves that to the URI or the prompt's name; where several servers
fit, an error names them. Nothing is kept here: a server that caches its lists does so itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import anyio
from agentd.errors import ToolError, ToolInputError, suggest
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec

from agentd_tools.sources import ResourceSource

__all__ = ["Resources", "offers_something"]

NAME: Final = "resources"
_SHOWN: Final = 10
_VARIABLE: Final = re.compile(r"\\\{[^{}]*\\\}")
Kind = Literal["list_resources", "list_resource_templates", "list_prompts"]


async def offers_something(source: object) -> bool:
    """Ask a source whether it has any resource or prompt; one that fails to say has none."""
    if not isinstance(source, ResourceSource):
        return False
    for ask in (source.list_resources, source.list_prompts, source.list_resource_templates):
        try:
            if await ask():
                return True
        except Exception:  # a plugin's boundary; its tools are still good
            continue
    return False


class Resources:
    """The tool source over the resources and prompts of others.

    :param sources: by the name under which the code knows them.
    :param log: told about a server that is left out of a list because it fails: name, level, text.
    """

    name = NAME

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The five tools."""
        return _SPECS

    def __init__(self, sources: Mapping[str, ResourceSource], log: Callable[[str, str, str], None]) -> None:
        self._sources = dict(sources)
        self._log = log

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        return _SPECS

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        server = _text(arguments, "server", optional=True)
        match name:
            case "list_resources" | "list_resource_templates" | "list_prompts":
                found = await self._listed(name, server)
                return [{**item, "server": owner} for owner, items in found.items() for item in items]
            case "read_resource":
                return await self._read(_text(arguments, "uri"), server)
            case "get_prompt":
                values = _prompt_arguments(arguments.get("arguments"))
                return await self._prompt(_text(arguments, "name"), values, server)
        raise ToolError(f"unknown tool {name!r}")

    async def aclose(self) -> None:
        """Nothing to close: the sources are others'."""

    # --- which server -----------------------------------------------------------------------------

    def _asked(self, server: str) -> dict[str, ResourceSource]:
        if not server:
            return self._sources
        if server in self._sources:
            return {server: self._sources[server]}
        known = ", ".join(map(repr, self._sources)) or "none"
        raise ToolError(
            f"no server {server!r} has resources or prompts; there are: {known}{suggest(server, self._sources)}"
        )

    async def _listed(self, kind: Kind, server: str = "") -> dict[str, Sequence[Mapping[str, object]]]:
        """Return the lists of the servers, all asked at once, in the servers' order."""
        asked = self._asked(server)
        found, failed = await _from_all(asked, lambda source: getattr(source, kind)())
        if failed and (server or not found):
            raise _failure(f"{kind}()", failed)
        for name, error in failed.items():
            self._log(name, "warning", f"{kind}() left this server out: {error}")
        return found

    async def _read(self, uri: str, server: str) -> object:
        asked = self._asked(server)
        if len(asked) == 1:
            return await next(iter(asked.values())).read_resource(uri)
        owners = [o for o, items in (await self._listed("list_resources")).items() if _has(items, "uri", uri)]
        if not owners:
            templates = await self._listed("list_resource_templates")
            owners = [
                o for o, items in templates.items() if any(_fits(uri, i.get("uriTemplate")) for i in items)
            ]
        if owners:
            return await self._sources[_only(owners, "resource", uri)].read_resource(uri)
        found, failed = await _from_all(asked, lambda source: source.read_resource(uri))
        if not found:
            raise _failure(f"no server could read {uri!r}", failed)
        return found[_only(list(found), "resource", uri)]

    async def _prompt(self, name: str, values: Mapping[str, str], server: str) -> object:
        asked = self._asked(server)
        if len(asked) > 1:
            listed = await self._listed("list_prompts")
            owners = [o for o, items in listed.items() if _has(items, "name", name)]
            if not owners:
                known = [str(item.get("name")) for items in listed.values() for item in items]
                shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
                raise ToolError(
                    f"no server has a prompt {name!r}; there are: {shown or 'none'}{suggest(name, known)}"
                )
            asked = self._asked(_only(owners, "prompt", name))
        return await next(iter(asked.values())).get_prompt(name, values)


async def _from_all(
    sources: Mapping[str, ResourceSource], ask: Callable[[ResourceSource], Any]
) -> tuple[dict[str, Any], dict[str, Exception]]:
    found: dict[str, Any] = {}
    failed: dict[str, Exception] = {}

    async def one(name: str, source: ResourceSource) -> None:
        try:
            found[name] = await ask(source)
        except Exception as error:  # a plugin's boundary: the others' answers count
            failed[name] = error

    async with anyio.create_task_group() as group:
        for name, source in sources.items():
            group.start_soon(one, name, source)
    return {n: found[n] for n in sources if n in found}, {n: failed[n] for n in sources if n in failed}


def _failure(what: str, failed: Mapping[str, Exception]) -> ToolError:
    return ToolError(f"{what}: {'; '.join(f'{name}: {error}' for name, error in failed.items())}")


def _only(owners: Sequence[str], kind: str, name: str) -> str:
    if len(owners) == 1:
        return owners[0]
    raise ToolError(
        f"several servers have the {kind} {name!r}: {', '.join(map(repr, owners))}; say which: server={owners[0]!r}"
    )


def _has(items: Sequence[Mapping[str, object]], key: str, value: str) -> bool:
    return any(item.get(key) == value for item in items)


def _fits(uri: str, template: object) -> bool:
    """Tell whether a URI can come from a template (RFC 6570); every expression may stand for any text."""
    if not isinstance(template, str):
        return False
    return re.fullmatch(_VARIABLE.sub(".*", re.escape(template)), uri, re.DOTALL) is not None


# --- arguments ---------------------------------------------------------------------------------


def _text(arguments: Mapping[str, object], name: str, *, optional: bool = False) -> str:
    value = arguments.get(name)
    if isinstance(value, str) and (value or optional):
        return value
    if value is None and optional:
        return ""
    raise ToolInputError(f"argument {name!r}: expected a text, got {value!r:.100}")


def _prompt_arguments(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ToolInputError(f"argument 'arguments': expected a dict of texts, got {type(given).__name__}")
    for key, value in given.items():
        if not isinstance(value, str):
            raise ToolInputError(
                f"argument 'arguments.{key}': a prompt takes texts alone, got {type(value).__name__}; use str()"
            )
    return dict(given)


# --- what the model is told ----------------------------------------------------------------------


def _schema(*required: str, **properties: dict[str, object]) -> dict[str, object]:
    server: dict[str, object] = {
        "type": "string",
        "description": "The name of a server, where several could be meant.",
    }
    return {
        "type": "object",
        "properties": {**properties, "server": server},
        "required": list(required),
        "additionalProperties": False,
    }


def _items(**properties: str) -> dict[str, object]:
    described = {name: {"type": "string", "description": text} for name, text in properties.items() if text}
    described["server"] = {"type": "string", "description": "Which server has it."}
    item = {"type": "object", "properties": described, "required": [next(iter(properties)), "server"]}
    return {"type": "array", "items": item}


_READING: Final[dict[str, object]] = {"readOnlyHint": True}  # as MCP says it

_SPECS: Final = (
    ToolSpec(
        name="list_resources",
        description="List the resources (documents, records, pictures) that the servers offer for reading.",
        input_schema=_schema(),
        output_schema=_items(
            uri="What read_resource takes.",
            name="A short name.",
            description="What it is.",
            mimeType="Its media type.",
        ),
        source=NAME,
        annotations=_READING,
    ),
    ToolSpec(
        name="list_resource_templates",
        description="List the templates of URIs; read_resource takes them with every {name} filled in.",
        input_schema=_schema(),
        output_schema=_items(
            uriTemplate="For example db://users/{id}.",
            name="A short name.",
            description="What it is.",
            mimeType="The media type.",
        ),
        source=NAME,
        annotations=_READING,
    ),
    ToolSpec(
        name="read_resource",
        description=(
            "Read a resource. Text comes as str, binary data as bytes with the attributes mime_type and uri and "
            "a method save(path), several parts as a list of these."
        ),
        input_schema=_schema(
            "uri", uri={"type": "string", "description": "From list_resources or a template."}
        ),
        source=NAME,
        annotations=_READING,
    ),
    ToolSpec(
        name="list_prompts",
        description="List the prompts (texts that servers have prepared for a task) with their arguments.",
        input_schema=_schema(),
        output_schema=_items(name="What get_prompt takes.", description="What it is for."),
        source=NAME,
        annotations=_READING,
    ),
    ToolSpec(
        name="get_prompt",
        description="Return a prompt, filled in, as a list of messages: {'role': ..., 'content': ...}.",
        input_schema=_schema(
            "name",
            name={"type": "string", "description": "From list_prompts."},
            arguments={
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "A text for each argument that the prompt takes.",
                "default": {},
            },
        ),
        output_schema={"type": "array", "items": {"type": "object"}},
        source=NAME,
        annotations=_READING,
    ),
)
