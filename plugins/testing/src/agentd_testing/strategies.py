"""hypothesis strategies: hostile names, texts and schemas of tools, answers with blocks, trees of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import attrs
from agentd.types import ToolSpec
from hypothesis import strategies as st

__all__ = [
    "Link",
    "Tree",
    "answers",
    "cuts",
    "json_values",
    "names",
    "pieces_of",
    "schemas",
    "texts",
    "tool_lists",
    "tools",
    "trees",
    "write_tree",
]

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

# --- answers -------------------------------------------------------------------------------------

_SPACES = (" ", "   ", "    ", "\t", "\n", "\n", "\n", "\r", "\r\n", "\x0b", "\0")
_WORDS = (
    "text",
    "🚀",
    "`",
    "``",
    "```",
    "~~~",
    "<",
    ">",
    "- ",
    "1. ",
    "> ",
    "bash:execute",
    "a b.txt:create",
    "é",
)


def answers(parts: Sequence[str] = (), *, max_parts: int = 40) -> st.SearchStrategy[str]:
    """Answers of a model: made of `parts` (a notation's openers, closers, whole blocks) among spaces and words, and
    sometimes of any text at all."""
    mixed = st.lists(st.sampled_from([*parts, *parts, *_SPACES, *_WORDS]), max_size=max_parts).map("".join)
    return st.one_of(mixed, st.text(max_size=80))


cuts = st.lists(st.integers(0, 800), max_size=30)
"""Places at which to cut an answer; see `pieces_of`."""


def pieces_of(text: str, places: Sequence[int]) -> list[str]:
    """Cut a text at these places; those beyond its end are left out."""
    bounds = sorted({0, len(text), *(place for place in places if 0 <= place < len(text))})
    return [text[start:end] for start, end in pairwise(bounds)]


# --- trees of files ------------------------------------------------------------------------------


@attrs.frozen
class Link:
    """A symbolic link in a tree, with its target as written."""

    target: str


Tree = dict[str, "bytes | Link | Tree"]
"""A folder: contents by name."""

_file_names = st.one_of(
    st.sampled_from(
        ["a", "b", "c.txt", ".hidden", "with space", "é", "-rf", "new\nline", "~", "$HOME", "*", "a" * 200]
    ),
    st.text(alphabet=st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=12).filter(
        lambda name: name not in (".", "..") and len(name.encode()) <= 250
    ),
)
_links = st.builds(
    Link, st.sampled_from(["a", "b", "../a", "..", ".", "missing", "/etc/passwd", "/", "a/b/c"])
)


def trees(*, max_leaves: int = 12, links: bool = True) -> st.SearchStrategy[Tree]:
    """Trees of files with odd names, empty folders and (with `links`) symbolic links, some of them broken or leading
    out."""
    leaves = st.binary(max_size=200) | _links if links else st.binary(max_size=200)
    folders = st.recursive(
        leaves, lambda inner: st.dictionaries(_file_names, inner, max_size=4), max_leaves=max_leaves
    )
    return st.dictionaries(_file_names, folders, max_size=5)


def write_tree(folder: Path, tree: Tree) -> None:
    """Write a tree into a folder, which is made."""
    folder.mkdir(exist_ok=True)
    for name, content in tree.items():
        path = folder / name
        if isinstance(content, Link):
            os.symlink(content.target, path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write_tree(path, content)
