"""What the model is offered: legal names, schemas that providers take, strict ones where it is possible."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from agentd.protocols import ModelToolCall
from agentd.types import ToolSpec
from agentd_model_openai.chat_calls import as_tool
from agentd_model_openai.strict_schema import OpenAIStrictSchemas, strict_schema, without_nulls
from agentd_tools import ToolSet
from agentd_tools.offers import NativeOffers
from hypothesis import given, settings, strategies as st
from kit import FakeSource, add

pytestmark = pytest.mark.anyio
LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")


async def offers_of(*specs: ToolSpec, answer: Any = None, **more: Any) -> NativeOffers:
    source = FakeSource("s", specs, answer or (lambda name, **given: json.dumps(given)))
    tools = ToolSet([], [source])
    await tools.start()
    return NativeOffers(tools, **more)


def tool(name: str, **schema: Any) -> ToolSpec:
    return ToolSpec(name=name, input_schema={"type": "object", **schema})


# --- names ------------------------------------------------------------------------------------------------


async def test_a_legal_name_is_kept_even_if_it_is_no_identifier() -> None:
    offers = await offers_of(tool("get-annotated-message"), tool("class"), tool("print"))
    assert [o.name for o in offers.offered] == ["get-annotated-message", "class", "print"]


async def test_tools_of_one_name_are_told_apart() -> None:
    one, two = FakeSource("one", [tool("t")], lambda n: "1"), FakeSource("two", [tool("t")], lambda n: "2")
    tools = ToolSet([], [one, two])
    await tools.start()
    offers = NativeOffers(tools)
    names = [o.name for o in offers.offered]
    assert names == ["t", "two_t"]
    replies = [await offers.run(ModelToolCall(id="c", name=n), "a") for n in names]
    assert [r.payload for r in replies] == [b'"1"', b'"2"']
    assert offers.origin("two_t") == ("two", "t")


names = st.text(min_size=1, max_size=90) | st.sampled_from(
    ["a" * 64, "a" * 65, "a.b", "a_b", "a b", "bash", "é"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(names, max_size=12), st.lists(st.sampled_from(["a_b", "bash", "tool"]), max_size=3))
async def test_names_are_legal_and_unlike_each_other_and_the_callers(
    given: list[str], taken: list[str]
) -> None:
    offers = await offers_of(*map(tool, given), bash=True, taken=taken)
    offered = [o.name for o in offers.offered]
    assert all(LEGAL.fullmatch(n) for n in offered)
    assert len(set(offered)) == len(offered)
    assert not set(offered[1:]) & {*taken, "bash"}
    assert [offers.origin(n)[1] for n in offered[1:]] == [s.name for s in offers.tools.specs()]  # type: ignore[union-attr]


# --- schemas ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "shape"),
    [
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": "string"}, {"type": "object", "properties": {}}),
        (
            {"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}], "properties": {"c": {}}},
            {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}},
        ),
    ],
)
async def test_schemas_have_the_shape_that_providers_insist_on(schema: Any, shape: Any) -> None:
    offers = await offers_of(ToolSpec(name="t", input_schema=schema))
    got = offers.offered[0].parameters
    assert {k: got[k] for k in shape} == shape
    assert not {"anyOf", "oneOf", "allOf", "enum", "not"} & set(got)


STRING: Any = {"type": "string"}
NULL: Any = {"type": "null"}
NUMBER: Any = {"type": "integer"}
KEYS = ["type", "properties", "items", "anyOf", "$ref", "enum", "required", "a", "$defs"]


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"a": STRING}, {"a": {"type": ["string", "null"]}}),
        ({"a": {**NUMBER, "default": 3, "title": "d"}}, {"a": {"type": ["integer", "null"], "title": "d"}}),
        ({"a": {"enum": ["x", "y"]}}, {"a": {"anyOf": [{"enum": ["x", "y"]}, NULL]}}),
        ({"a": {"anyOf": [STRING, NULL]}}, {"a": {"anyOf": [STRING, NULL]}}),
        ({"a": {"oneOf": [STRING, NUMBER]}}, {"a": {"anyOf": [STRING, NUMBER, NULL]}}),
        ({"a": {"type": "array", "items": STRING}}, {"a": {"type": ["array", "null"], "items": STRING}}),
        ({"a": {"$ref": "#/$defs/X", "title": "d"}}, {"a": {"anyOf": [{"$ref": "#/$defs/X"}, NULL]}}),
    ],
)  # fmt: skip
def test_optional_parameters_become_nullable_in_a_strict_schema(schema: Any, strict: Any) -> None:
    original = {"type": "object", "properties": schema}
    before = json.dumps(original)
    made = strict_schema(original)
    assert made is not None
    assert made["properties"] == strict
    assert (made["required"], made["additionalProperties"]) == (["a"], False)
    assert json.dumps(original) == before


def test_nested_objects_become_strict_too() -> None:
    inner = {"type": "object", "properties": {"x": STRING, "y": STRING}, "required": ["x"]}
    made = strict_schema({"type": "object", "properties": {"o": inner}, "required": ["o"]})
    assert made is not None
    assert made["properties"]["o"] == {
        "type": "object",
        "properties": {"x": STRING, "y": {"type": ["string", "null"]}},
        "required": ["x", "y"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"type": "object"},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": STRING},
        {"type": "object", "patternProperties": {"a": STRING}},
        {"type": "array", "items": {}},
        {"not": STRING},
        {"allOf": [STRING, {"minLength": 1}]},
        True,
        7,
    ],
)
async def test_a_tool_without_a_strict_form_is_offered_as_it_is(part: Any) -> None:
    offers = await offers_of(
        tool("t", properties={"a": part}), tool("u", properties={"a": STRING}), strict=OpenAIStrictSchemas()
    )
    assert [o.strict for o in offers.offered] == [False, True]
    assert offers.offered[0].parameters["properties"] == {"a": part}


OPTIONAL: Any = {
    "type": "object",
    "properties": {
        "need": STRING,
        "may": STRING,
        "null_too": {"type": ["string", "null"]},
        "deep": {"$ref": "#/$defs/D"},
        "list": {"type": "array", "items": {"$ref": "#/$defs/D"}},
        "either": {"anyOf": [STRING, {"$ref": "#/$defs/D"}]},
    },
    "required": ["need"],
    "$defs": {"D": {"type": "object", "properties": {"x": STRING, "y": STRING}, "required": ["x"]}},
}


def test_nulls_that_say_not_given_are_dropped_and_all_others_stay() -> None:
    given = {
        "need": None,
        "may": None,
        "null_too": None,
        "deep": {"x": None, "y": None},
        "list": [{"x": "1", "y": None}],
        "either": {"x": "1", "y": None},
        "unknown": None,
    }
    assert without_nulls(given, OPTIONAL) == {
        "need": None,
        "null_too": None,
        "deep": {"x": None},
        "list": [{"x": "1"}],
        "either": {"x": "1"},
        "unknown": None,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(KEYS) | st.text(max_size=3),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values, st.dictionaries(st.sampled_from("ab"), json_values, max_size=2))
async def test_no_schema_however_odd_raises(schema: Any, given: Any) -> None:
    spec = ToolSpec(name="t", input_schema=schema if isinstance(schema, dict) else {"properties": schema})
    offers = await offers_of(spec, strict=OpenAIStrictSchemas())
    reply = await offers.run(ModelToolCall(id="c", name="t", arguments=json.dumps(given)), "a")
    assert isinstance(reply.ok, bool)


async def test_arrays_say_what_is_in_them_because_providers_insist() -> None:
    rows = {"type": ["array", "null"], "default": {"type": "array"}}
    pairs = {"type": "array", "prefixItems": [{"type": "array"}]}
    schema = {"properties": {"default": {"type": "array"}, "rows": rows, "pairs": pairs}}
    (offer,) = (await offers_of(tool("t", **schema))).offered
    assert as_tool(offer)["function"]["parameters"]["properties"] == {
        "default": {"type": "array", "items": {}},
        "rows": {**rows, "items": {}},
        "pairs": {"type": "array", "prefixItems": [{"type": "array", "items": {}}]},
    }


async def test_a_description_that_is_cut_says_so() -> None:
    (offer,) = (await offers_of(ToolSpec(name="t", description="word " * 2000))).offered
    assert len(offer.description) == 4096
    assert offer.description.endswith(" ... [cut here; it has 10000 characters]")


async def test_a_call_of_an_offered_function_gives_its_result() -> None:
    offers = NativeOffers(ToolSet([add]))
    assert offers.handles("add")
    assert offers.handles("anything")
    assert not offers.handles("")
    assert not NativeOffers(None, taken=["x"]).handles("y")
    assert (await offers.run(ModelToolCall(id="c", name="add", arguments='{"a": 1}'), "a")).payload == b"2"
