"""Hostile names, texts and schemas for hypothesis."""

from __future__ import annotations

from agentd.types import ToolSpec
from hypothesis import strategies as st

texts = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            ['"', '"""', "'''", "\\", "\\N{", "\n", "\r", "\0", "---", "\n---\n", "```", ": ", "#", "{", "}", "%",
             "x", " ", "\t", "\ud800", "\u2028", "\x0c", "\x85", "é", "日", "\u202e", "&a", "*a", "!!python", "- "]
        ),
        max_size=12,
    ).map("".join),
)  # fmt: skip
names = st.one_of(
    texts,
    st.sampled_from(
        ["class", "def", "print", "__init__", "_call", "_call_given", "__debug__", "ToolError", "Any", "TypedDict",
         "lib", "bin", "local", "a-b", "a_b", "2fa", "", "..", "../../x", "/etc/passwd", "TYPE_CHECKING", "None",
         "from", "self", "ﬁ", "x" * 300, "日" * 100, "SKILL.md", "arguments", "$ref", "properties"]
    ),
)  # fmt: skip
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.just("x" * 1000))
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
references = st.sampled_from(
    [
        "#",
        "#/$defs/a",
        "#/$defs/b",
        "#/$defs/missing",
        "#/properties/x",
        "http://elsewhere/x",
        "#/$defs/a/properties",
        "#anchor",
        "inner.json",
        "#/items/0",
        "",
    ]
)


def _objects(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(
                st.sampled_from(
                    ["object", "array", "string", "integer", "number", "boolean", "null", "strange"]
                ),
                st.lists(st.sampled_from(["object", "string", "null", "integer"]), max_size=3),
                json_values,
            ),
            "properties": st.one_of(st.dictionaries(names, inner, max_size=4), json_values),
            "required": st.one_of(st.lists(names, max_size=4), st.booleans(), json_values),
            "nullable": st.one_of(st.booleans(), json_values),
            "items": st.one_of(inner, st.lists(inner, max_size=2)),
            "patternProperties": st.dictionaries(names, inner, max_size=2),
            "minimum": st.one_of(st.integers(), json_values),
            "maxLength": st.one_of(st.integers(), json_values),
            "$anchor": st.sampled_from(["anchor", "b"]),
            "$id": st.one_of(st.just("inner.json"), json_values),
            "$dynamicRef": references,
            "prefixItems": st.lists(inner, max_size=3),
            "additionalProperties": inner,
            "anyOf": st.lists(inner, max_size=3),
            "oneOf": st.lists(inner, max_size=3),
            "allOf": st.lists(inner, max_size=3),
            "enum": st.lists(scalars, max_size=4),
            "const": json_values,
            "default": json_values,
            "examples": json_values,
            "description": st.one_of(texts, json_values),
            "$ref": references,
            "$defs": st.fixed_dictionaries({}, optional={"a": inner, "b": inner}),
        },
    )


schemas = st.recursive(st.one_of(st.booleans(), json_values), _objects, max_leaves=8)
tools = st.builds(
    ToolSpec,
    name=names,
    description=texts,
    source=names,
    input_schema=st.one_of(_objects(schemas), st.just({})),
    output_schema=st.one_of(st.none(), _objects(schemas)),
)
tool_lists = st.lists(tools, min_size=1, max_size=4)
