"""`NativeOffers`: the tools that a model may call natively in one run, and what each of its calls means."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ToolInputError, UnknownToolError, suggest
from agentd.protocols import ModelToolCall, ToolOffer, ToolReply
from agentd.types import Block, ToolSpec

from agentd_tools.blobs import reply_text

if TYPE_CHECKING:
    from agentd.protocols import StrictSchemas, Tools
    from agentd.types import Binding

__all__ = ["BASH", "NativeOffers"]

_LEGAL: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_DESCRIPTION: Final = 4096
_ROOT_ONLY: Final = ("oneOf", "anyOf", "allOf", "enum", "not")

BASH: Final = ToolOffer(
    name="bash",
    description="Run a command in bash, in the working directory. The current directory, variables and "
    "functions last from one call to the next. Returns what the command prints and its exit code.",
    parameters={
        "type": "object",
        "properties": {"command": {"type": "string", "description": "one or more lines of bash"}},
        "required": ["command"],
        "additionalProperties": False,
    },
)
"""The one tool of `bash_tool=True`."""


class NativeOffers:
    """What the model is offered, and how its calls are understood. Implements `agentd.protocols.Offers`.

    A tool is offered under its own name where that is legal and free, else under its Python name, else under one
    made of it. Names that the caller of the facade uses for tools of its own come first and stay the caller's.

    :param tools: the tool set whose tools are offered; None for none.
    :param bash: offer `BASH`, too.
    :param taken: names of the caller's own tools: a call of one of them is not ours.
    :param strict: give tools the provider's strict schemas where that is possible.
    """

    def __init__(
        self,
        tools: Tools | None = None,
        *,
        bash: bool = False,
        taken: Iterable[str] = (),
        strict: StrictSchemas | None = None,
    ) -> None:
        self.tools = tools
        self._bash = bash
        self._taken = frozenset(taken)
        self._strict_schemas = strict
        self._made_of: tuple[Binding, ...] | None = None
        self.offered: tuple[ToolOffer, ...] = ()
        """What `Model.offer` is told."""
        self.refresh()

    def refresh(self) -> bool:
        """Take in that the tools of the set have changed; tell whether they have."""
        now = self.tools.bindings if self.tools is not None else ()
        if now is self._made_of:
            return False
        self._made_of = now
        self._bindings: dict[str, Binding] = {}
        self._strict: set[str] = set()
        offers = [BASH] if self._bash else []
        used = {*self._taken, *(o.name for o in offers)}
        for binding in now:
            name = _free_name(binding, used)
            used.add(name)
            self._bindings[name] = binding
            offers.append(self._offer(name, binding.spec))
        self.offered = tuple(offers)
        return True

    def _offer(self, name: str, spec: ToolSpec) -> ToolOffer:
        strict = self._strict_schemas
        schema = strict.make(_object_schema(spec.input_schema)) if strict is not None else None
        if schema is not None:
            self._strict.add(name)
        return ToolOffer(
            name=name,
            description=_shortened(spec.description),
            parameters=_object_schema(spec.input_schema) if schema is None else schema,
            strict=schema is not None,
        )

    # --- calls ---------------------------------------------------------------------------------

    def handles(self, name: str) -> bool:
        """Tell whether a call of this name is ours to answer: any but those of the caller's own tools, if
        anything is offered at all. A name that nobody knows is answered with what there is."""
        return bool(self.offered) and bool(name) and name not in self._taken

    def is_bash(self, name: str) -> bool:
        """Tell whether a call of this name is code to run."""
        return self._bash and name == BASH.name

    def origin(self, name: str) -> tuple[str, str]:
        """Return the source of an offered tool and its own name there."""
        binding = self._bindings.get(name)
        return ("agentd", name) if binding is None else (binding.spec.source, binding.spec.name)

    def refusal(self, name: str) -> str:
        """Return what the model reads about a call of a tool that there is not, or an empty string."""
        if name in self._bindings or self.is_bash(name):
            return ""
        return f"UnknownToolError: {UnknownToolError(name, [o.name for o in self.offered])}"

    def command(self, call: ModelToolCall) -> Block:
        """Return the block that a call of `BASH` stands for. Raises `ToolInputError`."""
        try:
            given = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as exc:
            raise ToolInputError(f"bash: the arguments are no JSON that can be read: {exc}") from None
        command = given.get("command") if isinstance(given, dict) else None
        if not isinstance(command, str):
            near = suggest("command", given) if isinstance(given, dict) else ""
            raise ToolInputError(
                f'bash: the arguments must be {{"command": "..."}}, got {_brief(given)}{near}'
            )
        return Block("bash", "execute", command, "bash")

    async def run(self, call: ModelToolCall, action_id: str) -> ToolReply:
        """Carry out a call of an offered tool."""
        assert self.tools is not None
        binding = self._bindings[call.name]
        arguments = call.arguments.strip() or "{}"  # some models send nothing where there are no parameters
        if call.name in self._strict and self._strict_schemas is not None:
            arguments = self._strict_schemas.restore(arguments, binding.spec.input_schema)
        data = arguments.encode("utf-8", "surrogatepass")
        return await self.tools.call_json(binding.python_name, data, action_id=action_id, quiet=True)

    def text(self, reply: ToolReply) -> str:
        """Return a reply as the model reads it; see `agentd_tools.blobs.reply_text`."""
        return reply_text(reply)


def _free_name(binding: Binding, used: set[str]) -> str:
    for name in (binding.spec.name, binding.python_name):
        if _LEGAL(name) and name not in used:
            return name
    plain = _ILLEGAL.sub("_", binding.python_name)
    if plain != binding.python_name or len(plain) > 64:
        digest = hashlib.sha256(binding.python_name.encode()).hexdigest()[:8]
        plain = f"{plain[:55]}_{digest}"
    name, number = plain, 1
    while name in used:
        number += 1
        name = f"{plain[: 63 - len(str(number))]}_{number}"
    return name


def _object_schema(schema: Mapping[str, object]) -> dict[str, Any]:
    """Return the schema in the shape that providers insist on: an object with properties, and no alternatives
    at its root, whose properties become ones of the object. The tool itself checks the rest."""
    made: dict[str, Any] = {"type": "object", "properties": {}, **schema}
    if made["type"] != "object" or not isinstance(made["properties"], dict):
        return {"type": "object", "properties": {}}
    for word in _ROOT_ONLY:
        parts = made.pop(word, None)
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and isinstance(part.get("properties"), dict):
                made["properties"] = {**part["properties"], **made["properties"]}
    return made


def _shortened(text: str) -> str:
    if len(text) <= _MAX_DESCRIPTION:
        return text
    mark = f" ... [cut here; it has {len(text)} characters]"
    return text[: _MAX_DESCRIPTION - len(mark)] + mark


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]} ..."
