"""The documents of a skill: SKILL.md (AgentSkills specification) and examples of its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentd_skills.annotations import AnnotationWriter, Scope, literal
from agentd_skills.resources import RESOURCES, RESOURCES_GUIDE, resource_names
from agentd_skills.signatures import ToolView, argument_schema
from agentd_skills.texts import docstring, markdown, one_line, yaml_value

__all__ = ["GENERATED_MARK", "example_script", "examples_script", "skill_document", "skill_summary"]

GENERATED_MARK: Final = 'generated-by: "agentd"'

_SUMMARY_CHARS: Final = 200
_EXAMPLES: Final = '''\
"""An example of each tool: run it with the tool's name, or without one to see the names."""

import sys as _sys
'''
_EXAMPLES_END: Final = """

if __name__ == "__main__":
    _examples = {n: f for n, f in globals().items() if getattr(f, "__module__", "") == "__main__"}
    if _sys.argv[1:2] and _sys.argv[1] in _examples:
        print(_examples[_sys.argv[1]]())
    else:
        _sys.exit("name one of: " + ", ".join(_examples))
"""


def skill_summary(source: str, tools: Sequence[ToolView]) -> str:
    """Return the one-line description of a generated skill."""
    names = ", ".join(t.name for t in tools[:40]) + (", ..." if len(tools) > 40 else "")
    if source == "local":
        return f"Python functions of this session's program: {names}"
    return f"Tools of {one_line(source, 80)}: {names}"


def skill_document(
    folder: str, source: str, tools: Sequence[ToolView], *, note: str = "", one_script: bool = False
) -> str:
    """Return the SKILL.md for the tools of one source.

    :param note: what the source itself says about its tools.
    :param one_script: whether the examples are in one script rather than one for each tool.
    """
    first = tools[0].name
    example = f"examples {first}" if one_script else f"{first}_example"
    head = (
        f"---\nname: {folder}\ndescription: {yaml_value(skill_summary(source, tools))}\n"
        f"metadata:\n  {GENERATED_MARK}\n---\n\n"
        f"# {folder}\n\n"
        "Import the functions from Python; a failing one raises `ToolError`:\n\n"
        f"```python\nfrom lib.tools import {first}\n```\n\n"
        f"Examples are in `scripts/`: `skills run {folder} {example}`.\n"
    )
    if source == RESOURCES and resource_names([t.binding for t in tools]):
        head += f"\n{RESOURCES_GUIDE}\n"
    if note.strip():
        head += f"\n{one_line(source, 80)} says about its tools:\n\n{markdown(note)}\n"
    return head + "".join(_section(t) for t in tools)


def _section(tool: ToolView) -> str:
    parts = [f"\n## {tool.name}\n\n```python\n{tool.signature.source()}\n```\n"]
    if tool.spec.description.strip():
        parts.append(f"\n{markdown(tool.spec.description)}\n")
    described = [p for p in tool.signature.parameters if p.text]
    if described:
        parts.append("\n" + "".join(f"- `{p.name}`: {one_line(p.text, 500)}\n" for p in described))
    return "".join(parts)


def example_script(tool: ToolView) -> str:
    """Return a script that calls the tool with made-up arguments."""
    title = docstring(f"Example: {one_line(tool.spec.description, _SUMMARY_CHARS) or tool.name}", "")
    return f"{title}\n\nfrom lib.tools import {tool.name}\n\nprint({_example_call(tool)})\n"


def examples_script(tools: Sequence[ToolView]) -> str:
    """Return one script with an example for each tool, which takes the tool's name as its argument."""
    parts = (
        f"\n\ndef {t.name}():\n    from lib.tools import {t.name}\n\n    return {_example_call(t)}\n"
        for t in tools
    )
    return _EXAMPLES + "".join(parts) + _EXAMPLES_END


def _example_call(tool: ToolView) -> str:
    spec = tool.spec
    schema = spec.input_schema if isinstance(spec.input_schema, Mapping) else {}
    writer = AnnotationWriter(schema, tool.name, Scope(), inline=True)
    properties = argument_schema(writer, schema).get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    arguments = ", ".join(
        f"{p.name}={_example(writer, properties.get(p.wire))}"
        for p in tool.signature.parameters
        if p.default is None
    )
    return f"{tool.name}({arguments})"


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
