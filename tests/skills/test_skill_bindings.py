"""The generated module `lib/tools.py`: it compiles and calls, whatever the tools are called and say."""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd.text import valid_text
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from agentd_skills.bindings import tools_module
from agentd_skills.documents import example_script, skill_document
from agentd_skills.signatures import ToolView
from agentd_testing import strategies as schemas
from agentd_tools import bind
from hypothesis import HealthCheck, example, given, settings, strategies as st


def load(tools: list[ToolSpec]) -> tuple[types.ModuleType, list[tuple[str, dict[str, Any]]]]:
    """Execute the generated module with a client that records calls."""
    calls: list[tuple[str, dict[str, Any]]] = []
    source = tools_module(bind(tools))
    module = types.ModuleType("lib.tools")
    module.__package__ = "lib"
    bridge = types.ModuleType("lib._bridge")

    def record(name: str, arguments: dict[str, Any]) -> None:
        calls.append((name, arguments))

    def record_given(name: str, arguments: dict[str, Any]) -> None:
        record(name, {k: v for k, v in arguments.items() if v is not ...})

    vars(bridge).update(call=record, call_given=record_given)
    for error in ("ToolDeniedError", "ToolError", "ToolInputError", "ToolTimeoutError", "UnknownToolError"):
        setattr(bridge, error, Exception)

    def import_(name: str, *rest: Any) -> Any:
        return bridge if name == "_bridge" else builtins.__import__(name, *rest)

    vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_}
    exec(compile(source, "lib/tools.py", "exec"), vars(module))
    return module, calls


def function_of(spec: ToolSpec) -> tuple[Callable[..., Any], list[tuple[str, dict[str, Any]]]]:
    module, calls = load([spec])
    return getattr(module, bind([spec])[0].python_name), calls


def spec(properties: dict[str, Any], *required: str, **more: Any) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(required), **more}
    return ToolSpec(name="f", input_schema=schema)


@pytest.mark.slow
@given(schemas.tool_lists)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_tools_give_a_module_that_runs_with_every_tool_in_it(tools: list[ToolSpec]) -> None:
    module, _ = load(tools)
    for binding in bind(tools):
        function = getattr(module, binding.python_name)
        inspect.signature(function)
        assert function.__doc__
        assert binding.python_name in module.__all__
    tree = ast.parse(tools_module(bind(tools)))
    typing_block = next(n for n in tree.body if isinstance(n, ast.If))
    for node in ast.walk(typing_block):
        if isinstance(node, ast.AnnAssign):
            ast.parse(ast.unparse(node.annotation))


@pytest.mark.slow
@given(schemas.tool_lists)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_examples_compile(tools: list[ToolSpec]) -> None:
    for binding in bind(tools):
        compile(example_script(ToolView(binding)), "example.py", "exec")


@pytest.mark.slow
@given(st.dictionaries(schemas.names, schemas.schemas, max_size=5), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_call_arrives_under_the_names_of_the_wire_whatever_they_are(
    properties: dict[str, Any], data: st.DataObject
) -> None:
    required = data.draw(st.sets(st.sampled_from(sorted(properties)))) if properties else set()
    function, calls = function_of(spec(properties, *sorted(required)))
    parameters = inspect.signature(function).parameters.values()
    function(**{p.name: n for n, p in enumerate(parameters) if p.kind is not p.VAR_KEYWORD})
    ((_, arguments),) = calls
    assert set(arguments) == set(properties)
    assert len(set(arguments.values())) == len(properties)


@given(schemas.texts)
@example("a\ud800b")
@settings(max_examples=300, deadline=None)
def test_the_docstring_says_what_the_description_said(text: str) -> None:
    function, _ = function_of(ToolSpec(name="f", description=text))
    shown = (function.__doc__ or "").strip()
    text = valid_text(text)
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")]
    if text.strip():
        assert _without_tabs(shown) == _without_tabs("\n".join(lines).strip())


def _without_tabs(text: str) -> list[str]:
    """CPython 3.13 makes spaces of the tabs in a docstring."""
    return [re.sub("[ \t]+", " ", line.strip()) for line in text.split("\n")]


# --- defects of 0.8, each by name ----------------------------------------------------------------


def test_one_bad_name_does_not_break_the_other_bindings() -> None:
    module, calls = load([ToolSpec(name="get-annotated-message"), ToolSpec(name="good")])
    module.get_annotated_message()
    module.good()
    assert calls == [("get_annotated_message", {}), ("good", {})]


def test_an_optional_parameter_before_a_required_one_goes_by_keyword() -> None:
    function, calls = function_of(spec({"limit": {"type": "integer"}, "path": {"type": "string"}}, "path"))
    function("x")
    function("x", limit=3)
    assert calls == [("f", {"path": "x"}), ("f", {"path": "x", "limit": 3})]
    with pytest.raises(TypeError):
        function("x", 3)


@pytest.mark.parametrize(
    "text", ['ends in a quote"', "ends in a backslash\\", 'has """ three', "'''", '"', "\\"]
)
def test_a_description_that_ends_in_a_quote_or_a_backslash_compiles(text: str) -> None:
    function, _ = function_of(ToolSpec(name="f", description=text))
    assert (function.__doc__ or "").strip() == text


def test_a_keyword_as_parameter_name_is_mapped_and_sent_under_its_own() -> None:
    properties = {
        n: {"type": "string", "description": "d"}
        for n in ("class", "from", "a-b", "", "__debug__", "_call", "ok")
    }
    function, calls = function_of(spec(properties, "class"))
    function("1", from_="2", a_b="3", arg="4", debug__="5", call="6", ok="7")
    assert calls == [
        ("f", {"class": "1", "from": "2", "a-b": "3", "": "4", "__debug__": "5", "_call": "6", "ok": "7"})
    ]
    assert "(the tool's 'class')" in (function.__doc__ or "")


def test_two_servers_of_one_tool_name_have_a_function_each() -> None:
    module, calls = load([ToolSpec(name="echo", source="a"), ToolSpec(name="echo", source="b")])
    module.echo()
    module.b_echo()
    assert calls == [("echo", {}), ("b_echo", {})]


def test_a_monster_of_three_hundred_parameters_works() -> None:
    properties = {f"p{i}": {"type": "integer", "default": i} for i in range(300)}
    function, calls = function_of(spec(properties, "p299", "p0"))
    function(p299=1, p0=2)
    assert calls == [("f", {"p299": 1, "p0": 2})]
    assert "    p150: (default: 150)\n" in (function.__doc__ or "")


# --- what the signatures say ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "annotation"),
    [
        ({"type": "string"}, "str"),
        ({"type": ["integer", "null"]}, "int | None"),
        ({"enum": ["a", "b", None]}, "Literal['a', 'b', None]"),
        ({"const": 3}, "Literal[3]"),
        ({"enum": [1.5, 2.5]}, "float"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}, {"type": "string"}]}, "str | None"),
        ({"oneOf": [{"type": "string"}, {}]}, "Any"),
        ({"oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]}, "Literal['a', 'b']"),
        ({"type": "string", "nullable": True}, "str | None"),
        (
            {"anyOf": [{"type": ["string", "null"]}, {"type": "integer", "nullable": True}]},
            "str | int | None",
        ),
        ({"type": "string", "anyOf": [{"format": "date"}, {"format": "time"}]}, "str"),
        (
            {"type": "array", "oneOf": [{"minItems": 1}, {"maxItems": 0}], "items": {"type": "integer"}},
            "list[int]",
        ),
        ({"type": "array", "items": {"type": "number"}}, "list[float]"),
        ({"type": "array"}, "list"),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}, "list[str | int]"),
        ({"type": "object"}, "dict"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
        ({"$ref": "#/$defs/colour"}, "Literal['red']"),
        ({"$ref": "#/$defs/loop"}, "Any"),
        ({"$ref": "#/nowhere"}, "Any"),
        ({"allOf": [{"type": "string"}]}, "str"),
        ({}, "Any"),
        ({"const": 10**5000}, "int"),
        (True, "Any"),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]}, "FX"),
        ({"$ref": "#/$defs/node"}, "Node"),
    ],
)
def test_a_schema_becomes_the_annotation_a_person_would_write(schema: Any, annotation: str) -> None:
    definitions = {
        "colour": {"enum": ["red"]},
        "loop": {"$ref": "#/$defs/loop"},
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}},
    }
    source = tools_module(bind([spec({"x": schema}, "x", **{"$defs": definitions})]))
    assert f"def f(x: {annotation}) -> Any:" in source


def test_nested_objects_are_typed_dicts_and_the_output_schema_is_the_return_type() -> None:
    output = {
        "type": "object",
        "properties": {
            "hits": {"type": "array", "items": {"type": "object", "properties": {"from": {"type": "string"}}}}
        },
        "required": ["hits"],
    }  # fmt: skip
    source = tools_module(bind([ToolSpec(name="search", output_schema=output)]))
    assert "class SearchResult(TypedDict):\n        hits: list[SearchResultHitsItem]" in source
    assert "SearchResultHitsItem = TypedDict('SearchResultHitsItem', {'from': 'NotRequired[str]'})" in source
    assert "def search(**arguments: Any) -> SearchResult:" in source


def test_only_arguments_that_the_code_gives_travel_and_sound_defaults_are_shown() -> None:
    properties = {
        "a": {"type": "integer", "default": 3},
        "b": {"type": "integer", "default": "a lie"},
        "c": {"type": "array", "default": [1, 2]},
        "d": {"type": "string"},
        "e": {"type": ["string", "null"], "default": None},
    }
    described = spec({**properties, "f": {"type": "string", "default": "None", "description": "A name."}})
    function, calls = function_of(described)
    assert {p.default for p in inspect.signature(function).parameters.values()} == {...}
    assert inspect.cleandoc(function.__doc__ or "").partition("Args:\n")[2].splitlines() == [
        "    a: (default: 3)", "    e: (default: None)", "    f: A name. (default: 'None')"
    ]  # fmt: skip
    (binding,) = bind([described])
    assert ToolView(binding).signature.short() == (
        "f(a: int = 3, b: int = ..., c: list = ..., d: str = ..., e: str | None = None, f: str = 'None')"
    )
    function()
    function(3, c=[1, 2], e=None, f="None")
    function(..., 4)
    assert calls == [
        ("f", {}), ("f", {"a": 3, "c": [1, 2], "e": None, "f": "None"}), ("f", {"b": 4})
    ]  # fmt: skip


def test_a_default_of_a_required_parameter_is_nothing_that_the_binding_gives() -> None:
    function, calls = function_of(spec({"a": {"type": "integer", "default": 3}}, "a"))
    with pytest.raises(TypeError):
        function()
    function(3)
    assert calls == [("f", {"a": 3})]


def test_the_shape_of_arguments_is_found_behind_references_and_choices() -> None:
    left = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}
    right = {"type": "object", "properties": {"a": {"type": "string"}, "c": {}}, "required": ["a", "c"]}
    for schema in (
        {"$ref": "#/$defs/l", "$defs": {"l": left}},
        {"anyOf": [left, right]},
        {"allOf": [left, right]},
    ):
        source = tools_module(bind([ToolSpec(name="f", input_schema=schema)]))
        assert "def f(a: str" in source


def test_arguments_without_names_are_taken_with_two_stars() -> None:
    function, calls = function_of(spec({"arguments": {"type": "string"}}, additionalProperties=True))
    function(arguments="x", **{"any thing": 1})
    assert calls == [("f", {"arguments": "x", "any thing": 1})]


def test_type_checkers_accept_the_generated_module(tmp_path: Path) -> None:
    tools = [
        spec(
            {"x": {"type": "object", "properties": {"a-b": {"type": "integer"}}}, "y": {"type": "integer"}},
            "x",
        ),
        ToolSpec(name="g", output_schema={"type": "object", "properties": {"ok": {"type": "boolean"}}}),
    ]
    AgentSkillsRenderer().render(tools, tmp_path / "skills")
    use = tmp_path / "skills" / "use.py"
    use.write_text("from lib.tools import f, g\nreveal_type(g())\nf({'a-b': 'no int'})\n")
    pytest.importorskip("mypy", reason="pip install mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "use.py"],
        cwd=tmp_path / "skills", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "GResult" in done.stdout or "'ok'" in done.stdout, done.stdout
    assert 'item "a-b" has type "int"' in done.stdout
    assert "tools.py" not in done.stdout


def test_importing_the_bindings_loads_no_typing_and_nothing_but_the_client(tmp_path: Path) -> None:
    AgentSkillsRenderer().render([spec({"x": {"type": "string"}})], tmp_path)
    program = (
        "import sys, json, socket, threading, struct; before = set(sys.modules); import lib.tools\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["__future__", "lib", "lib._bridge", "lib._channel", "lib.tools"]


def test_documents_are_deterministic() -> None:
    tools = [spec({"b": {}, "a": {}}), ToolSpec(name="echo", source="s")]
    assert tools_module(bind(tools)) == tools_module(bind(tools))
    made = [skill_document("s", "s", [ToolView(b) for b in bind(tools)[1:]]) for _ in range(2)]
    assert made[0] == made[1]
