"""The documents of a skill: SKILL.md (AgentSkills specification), an example script for each tool, the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agentd.skills.annotations import AnnotationWriter, Scope, literal
from agentd.skills.signatures import Signature, signature_of
from agentd.skills.texts import docstring, markdown, one_line, yaml_value
from agentd.tools.naming import Binding

__all__ = ["GENERATED_MARK", "example_script", "prompt_text", "skill_document", "skill_summary"]

GENERATED_MARK: Final = 'generated-by: "agentd"'

_SIGNATURE_CHARS: Final = 400
_SUMMARY_CHARS: Final = 200
_PROMPT_TOOLS: Final = 300


def skill_summary(source: str, bindings: Sequence[Binding]) -> str:
    """Return the one-line description of a generated skill."""
    names = ", ".join(b.python_name for b in bindings[:40]) + (", ..." if len(bindings) > 40 else "")
    if source == "local":
        return f"Python functions of this session's program: {names}"
    return f"Tools of {one_line(source, 80)}: {names}"


def skill_document(folder: str, source: str, bindings: Sequence[Binding]) -> str:
    """Return the SKILL.md for the tools of one source."""
    first = bindings[0].python_name
    head = (
        f"---\nname: {folder}\ndescription: {yaml_value(skill_summary(source, bindings))}\n"
        f"metadata:\n  {GENERATED_MARK}\n---\n\n"
        f"# {folder}\n\n"
        "Import the functions from Python; a failing one raises `ToolError`:\n\n"
        f"```python\nfrom lib.tools import {first}\n```\n\n"
        f"Examples are in `scripts/`: `skills run {folder} {first}_example`.\n"
    )
    return head + "".join(_section(b) for b in bindings)


def _section(binding: Binding) -> str:
    signature = _shown(binding)
    parts = [f"\n## {binding.python_name}\n\n```python\n{signature.source()}\n```\n"]
    if binding.spec.description.strip():
        parts.append(f"\n{markdown(binding.spec.description)}\n")
    described = [p for p in signature.parameters if p.text]
    if described:
        parts.append("\n" + "".join(f"- `{p.name}`: {one_line(p.text, 500)}\n" for p in described))
    return "".join(parts)


def _shown(binding: Binding) -> Signature:
    return signature_of(binding, Scope(), inline=True)


def example_script(binding: Binding) -> str:
    """Return a script that calls the tool with made-up arguments."""
    name = binding.python_name
    schema = binding.spec.input_schema if isinstance(binding.spec.input_schema, Mapping) else {}
    writer = AnnotationWriter(schema, name, Scope(), inline=True)
    properties = writer.resolve(schema).get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    arguments = ", ".join(
        f"{p.name}={_example(writer, properties.get(p.wire))}"
        for p in _shown(binding).parameters
        if p.default is None
    )
    title = docstring(f"Example: {one_line(binding.spec.description, _SUMMARY_CHARS) or name}", "")
    return f"{title}\n\nfrom lib.tools import {name}\n\nprint({name}({arguments}))\n"


def _example(writer: AnnotationWriter, schema: Any, depth: int = 0) -> str:
    """Return a value for a parameter: the schema's own example, or the simplest of its type."""
    found = writer.resolve(schema)
    examples = found.get("examples")
    for candidates in (examples, [found["default"]] if "default" in found else None, found.get("enum")):
        if isinstance(candidates, list) and candidates and (text := literal(candidates[0], 80)):
            return text
    if "const" in found:
        return literal(found["const"], 80) or "None"
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := found.get(key), list) and options and depth < 4:
            return _example(writer, options[0], depth + 1)
    kind = found.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    simple = {
        "string": "'text'",
        "integer": "1",
        "number": "1.0",
        "boolean": "True",
        "array": "[]",
        "null": "None",
    }
    if isinstance(kind, str) and kind in simple:
        return simple[kind]
    return _example_object(writer, found, depth)


def _example_object(writer: AnnotationWriter, schema: Mapping[str, Any], depth: int) -> str:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping) or not isinstance(required, list) or depth >= 3:
        return "{}"
    wanted = [r for r in required if isinstance(r, str) and r in properties][:20]
    return "{" + ", ".join(f"{r!r}: {_example(writer, properties[r], depth + 1)}" for r in wanted) + "}"


def prompt_text(skills: Iterable[tuple[str, str]], bindings: Sequence[Binding]) -> str:
    """Return the part of the system prompt about skills and tools; the same text for the same input.

    Every skill and tool is one line of bounded length, whatever its description holds.
    """
    lines = []
    listed = [f"- {name}: {one_line(text, _SUMMARY_CHARS)}" for name, text in skills]
    if listed:
        lines += ["Available skills (read one with `skills read NAME`):", *listed, ""]
    if bindings:
        lines.append(
            "Available tools (in Python: `from lib.tools import NAME`; a failing one raises ToolError):"
        )
        lines += [_prompt_line(b) for b in bindings[:_PROMPT_TOOLS]]
        if len(bindings) > _PROMPT_TOOLS:
            rest = len(bindings) - _PROMPT_TOOLS
            lines.append(f"- and {rest} more: find them with `skills search WORDS`")
    return "\n".join(lines).rstrip("\n")


def _prompt_line(binding: Binding) -> str:
    signature = one_line(_shown(binding).source(), _SIGNATURE_CHARS)
    description = one_line(binding.spec.description.strip().split("\n\n")[0], _SUMMARY_CHARS)
    return f"- {signature}" + (f": {description}" if description else "")
