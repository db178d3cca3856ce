"""Python names for tools with any names."""

from __future__ import annotations

import builtins
import keyword

import pytest
from agentd.types import ToolSpec
from agentd_tools import bind
from agentd_tools.naming import RESERVED, identifier
from hypothesis import given, strategies as st

words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "class", "None", "print", "a-b", "a_b", "a.b", "__init__", "_call", "2fa", "a_b_2", "s_a_b", "ToolError",
         "ﬁ", "\ud800", "x" * 300, "日本語", "__debug__", "_", "²", "tool", "tool_2"]
    ),
)  # fmt: skip
specs = st.lists(st.builds(ToolSpec, name=words, source=words), max_size=12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("calculate", "calculate"),
        ("get-annotated-message", "get_annotated_message"),
        ("class", "class_"),
        ("print", "print_"),
        ("2fa", "tool_2fa"),
        ("", "tool"),
        ("--", "tool"),
        ("__init__", "init__"),
        ("_call", "call"),
        ("ToolError", "ToolError_"),
        ("größe", "größe"),
        ("a b.c/d", "a_b_c_d"),
    ],
)
def test_a_name_is_changed_only_as_far_as_python_demands(name: str, expected: str) -> None:
    assert identifier(name, reserved=RESERVED) == expected


@given(specs)
def test_every_tool_gets_a_unique_identifier_that_shadows_nothing(tools: list[ToolSpec]) -> None:
    names = [b.python_name for b in bind(tools)]
    assert len(set(names)) == len(tools)
    for name in names:
        assert name.isidentifier()
        assert not keyword.iskeyword(name)
        assert not hasattr(builtins, name)
        assert not name.startswith("_")
        assert len(name.encode()) <= 140
        namespace: dict[str, object] = {}
        exec(f"{name} = 1", namespace)
        assert name in namespace, "Python itself reads the name in another form"


@given(specs, specs)
def test_tools_added_at_the_end_rename_none_of_the_earlier(
    tools: list[ToolSpec], more: list[ToolSpec]
) -> None:
    assert bind([*tools, *more])[: len(tools)] == bind(tools)


def test_of_two_servers_with_one_tool_name_the_second_gets_its_server_in_front() -> None:
    tools = [
        ToolSpec(name="echo", source="local"),
        ToolSpec(name="echo", source="every-thing"),
        ToolSpec(name="echo", source="other"),
        ToolSpec(name="echo", source="other"),
        ToolSpec(name="e-cho", source="other"),
        ToolSpec(name="e_cho", source="other"),
    ]
    assert [b.python_name for b in bind(tools)] == [
        "echo", "every_thing_echo", "other_echo", "other_echo_2", "e_cho", "e_cho_2",
    ]  # fmt: skip


def test_a_thousand_tools_of_one_name_are_named_in_linear_time() -> None:
    tools = [ToolSpec(name="x", source="s")] * 5000
    assert bind(tools)[-1].python_name == "x_5000"
