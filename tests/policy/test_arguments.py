"""Rules on arguments, made ready for each tool: they say what the plain reading of them says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from agentd.types import ToolSpec
from agentd_policy import compiled
from agentd_policy.arguments import is_like, matcher, read_arguments, texts_in
from agentd_policy.policy import RulesPolicy
from agentd_policy.reading import read_policy
from agentd_policy.rules import Rule, RuleList
from agentd_tools import ToolSet
from agentd_tools.policy import Decision, PolicyRequest
from hypothesis import given, strategies as st
from policy_host import SessionStandIn

short = st.text("ab./*?[]!-\\\n", max_size=6)
patterns = st.lists(short, min_size=1, max_size=3).map(tuple)
scalar = st.one_of(short, st.integers(), st.floats(allow_nan=True), st.booleans(), st.none())
values = st.recursive(
    scalar, lambda v: st.lists(v, max_size=3) | st.dictionaries(short, v, max_size=3), max_leaves=6
)
arguments = st.dictionaries(st.sampled_from(["a", "b", "*"]), values, max_size=3)


@given(patterns, short)
def test_a_pattern_matches_what_a_pattern_of_file_names_matches(wanted: tuple[str, ...], text: str) -> None:
    assert bool(matcher(wanted)(text)) == any(fnmatchcase(text, pattern) for pattern in wanted)


def test_no_pattern_matches_nothing() -> None:
    assert not matcher(())("")


@given(arguments)
def test_arguments_are_read_as_json_reads_them(given: dict[str, Any]) -> None:
    text = json.dumps(given)
    assert texts_in(read_arguments(text.encode())) == texts_in(json.loads(text))


@pytest.mark.parametrize("content", [b"", b"[1]", b'"a"', b"{", b'{"a": 1} x', b"\xff", b"null"])
def test_what_is_no_object_of_arguments_has_none(content: bytes) -> None:
    assert read_arguments(content) is None


def test_what_only_the_json_module_reads_is_read() -> None:
    assert texts_in(read_arguments(b'{"a": NaN, "b": "\\ud800", "a": 12345678901234567890123}')) == texts_in(
        {"a": 12345678901234567890123, "b": "\ud800"}
    )


def plainly(rule: Rule, given: Mapping[str, Any]) -> bool:
    """Tell whether a rule matches, as its docstring says it."""

    def spellings(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return [json.dumps(value)]
        if value != int(value):
            return [json.dumps(value)]
        as_float = [repr(float(value))] if abs(value) < 1e300 else []
        return [json.dumps(value), str(int(value)), f"{int(value)}.0", *as_float]

    def texts(value: Any) -> list[list[str]]:
        if isinstance(value, dict):
            return [t for key, part in value.items() for t in ([key], *texts(part))]
        if isinstance(value, list):
            return [t for part in value for t in texts(part)]
        return [] if value is None else [spellings(value)]

    for name, wanted in (rule.arguments or {}).items():
        found = texts(given if name == "*" else given.get(name))
        like = [any(fnmatchcase(text, pattern) for text in same for pattern in wanted) for same in found]
        climbs = any(".." in same[0].replace("\\", "/").split("/") for same in found)
        if not (found and all(like) and not climbs if rule.verdict == "allow" else any(like)):
            return False
    return True


rules = st.builds(
    Rule,
    st.sampled_from(["allow", "deny"]),
    arguments=st.none() | st.dictionaries(st.sampled_from(["a", "b", "*"]), patterns, min_size=1, max_size=2),
)


@given(st.lists(rules, max_size=4), arguments)
def test_the_first_rule_counts_that_matches_by_its_plain_reading(
    some: Sequence[Rule], given: dict[str, Any]
) -> None:
    judge = RuleList(some, "deny")
    content = json.dumps(given).encode()
    expected = next((n for n, rule in enumerate(some, 1) if plainly(rule, json.loads(content))), None)
    told = "the default" if expected is None else f"rule {expected}"
    request = PolicyRequest(kind="tool", name="f", content=content, source="local")
    for _ in range(2):  # the second time, it knows the tool
        said = judge.judge(request, lambda action: 0.0)
        assert isinstance(said, Decision)
        assert said.told.endswith(f" by {told}")
    assert judge.for_tool(request, lambda action: 0.0)(content, "").told == said.told


SCHEMA = {
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "string"},
        "c": {"anyOf": [{"type": "number"}]},
        "d": {},
    }
}
number_text = st.sampled_from(
    ["7", "7.0", "-3", "-3.0", "07", "-0", "1e15", "10*", "*.0", "*7*", "?", "1" * 5000]
)
texts = st.one_of(number_text, st.text("ab./*?[]!-\\\n\"'{}\u00e9", max_size=6))
names = st.sampled_from(["a", "b", "c", "d", "e", "*"])
usual = st.one_of(texts, st.sampled_from([7, -3, 0, 100, 10**14]), st.none())
some_rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["allow", "deny", "ask"]),
        arguments=st.none()
        | st.dictionaries(
            names, st.lists(texts | st.just("*"), min_size=1, max_size=3).map(tuple), min_size=1, max_size=2
        ),
        cost_over_usd=st.none() | st.sampled_from([1.0, 3.0]),
    ),
    max_size=8,
)


@given(
    some_rules,
    st.dictionaries(names, usual | values, max_size=4),
    st.sampled_from([None, SCHEMA]),
    st.sampled_from([None, 2.0]),
)
def test_compiled_rules_say_what_their_plain_reading_says(
    some: Sequence[Rule], given: dict[str, Any], schema: Any, cost: float | None
) -> None:
    spec = None if schema is None else ToolSpec(name="f", source="local", input_schema=schema)
    judge = RuleList(some, "deny")
    content = json.dumps(given).encode()
    request = PolicyRequest(kind="tool", name="f", content=content, source="local", spec=spec)
    plainly_said = judge.judge(request, lambda action: cost)
    assert judge.for_tool(request, lambda action: cost)(content, "").told == plainly_said.told


def test_usual_arguments_need_no_plain_reading_and_unusual_ones_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[bytes] = []

    def first_match(*given: Any) -> Any:
        return lambda content, action: read.append(content) or Decision(False, "plainly")

    monkeypatch.setattr(compiled, "first_match", first_match)
    judge, _ = read_policy(
        {
            "rules": [
                {"verdict": "deny", "arguments": {"*": ["*secret*", "*.env"]}},
                {"verdict": "deny", "arguments": {"b": "/*"}},
                {"verdict": "deny", "arguments": {"b": "x?y"}, "cost_over_usd": 1},
                {"verdict": "allow", "arguments": {"a": ["7", "1*"], "b": "src/*"}},
            ],
            "default": "deny",
        }
    )
    assert isinstance(judge, RuleList)
    spec = ToolSpec(name="f", source="local", input_schema=SCHEMA)
    decide = judge.for_tool(
        PolicyRequest(kind="tool", name="f", source="local", spec=spec), lambda action: 2.0
    )
    expected = {
        b'{"a": 7, "b": "src/x"}': "allowed by rule 4",
        b'{"a": 12, "b": "src/x"}': "allowed by rule 4",
        b'{"a": 8, "b": "src/x"}': "denied by the default",
        b'{"a": 7, "b": "src/../x"}': "denied by the default",
        b'{"a": 7, "b": "/x"}': "denied by rule 2",
        b'{"a": 7, "b": "xxy"}': "denied by rule 3",
        b'{"a": 7, "b": "src/x", "e": "a secret"}': "denied by rule 1",
        b'{"a": null}': "denied by the default",
    }
    assert {content: decide(content, "").told for content in expected} == expected
    assert not read
    unusual = [b'{"a": "7"}', b'{"a": 7.0}', b'{"a": true}', b'{"b": ["src/x"]}', b"[]", b"{", b'{"e": {}}']
    assert {decide(content, "").told for content in unusual} == {"plainly"}
    assert read == unusual


@pytest.mark.parametrize("like", [("", "src*"), ("src*", ""), ("",), ("", "*src"), ("", "s?c")])
@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_the_empty_text_among_patterns_is_like_the_empty_text_alone(
    verdict: Any, like: tuple[str, ...]
) -> None:
    judge = RuleList([Rule(verdict, arguments={"a": like})], "ask")
    for content in (b'{"a": "/etc"}', b'{"a": ["/etc"]}', b'{"a": -7.5}'):
        request = PolicyRequest(kind="tool", name="f", content=content, source="local")
        assert judge.judge(request, lambda action: 0.0).told == "the default"
        assert judge.for_tool(request, lambda action: 0.0)(content, "").told == "the default"
    request = PolicyRequest(kind="tool", name="f", content=b'{"a": ""}', source="local")
    assert judge.judge(request, lambda action: 0.0).told.endswith("by rule 1")
    assert not is_like(like, "x")


@pytest.mark.parametrize(("cost", "limit"), [(float("nan"), 1.0), (1.0, float("nan"))])
def test_a_cost_that_is_no_number_is_more_than_any_limit(cost: float, limit: float) -> None:
    judge = RuleList([Rule("deny", arguments={"a": ("*",)}, cost_over_usd=limit)], "allow")
    request = PolicyRequest(kind="tool", name="f", content=b'{"a": "x"}', source="local")
    assert judge.judge(request, lambda action: cost).told == "denied by rule 1"
    assert judge.for_tool(request, lambda action: cost)(request.content, "").told == "denied by rule 1"


def test_more_rules_than_are_compiled_say_the_same() -> None:
    some = [Rule("deny", arguments={"b": (f"x{number}-*",)}) for number in range(compiled.MAX_RULES + 1)]
    request = PolicyRequest(kind="tool", name="f", source="local")
    decide = RuleList(some, "allow").for_tool(request, lambda action: 0.0)
    assert decide(b'{"b": "x200-and-more"}', "").told == "denied by rule 201"
    assert decide(b'{"b": "y"}', "").told == "allowed by the default"


def test_a_call_that_the_policy_allows_makes_no_question_and_an_answer_is_asked_for_once(
    tmp_path: Path,
) -> None:
    def save(path: str) -> str:
        return path

    asked: list[str] = []

    def approver(question: Any) -> str:
        asked.append(question.arguments()["path"])
        return "session"

    from agentd_policy.approvers import read_approver

    judge, _ = read_policy(
        {
            "rules": [
                {"verdict": "allow", "arguments": {"path": "src/*"}},
                {"verdict": "deny", "arguments": {"path": ["*.env", "/*"]}},
            ],
            "default": "ask",
        }
    )
    host = SessionStandIn(tmp_path)
    tools = ToolSet(
        [save], policy=RulesPolicy(judge, read_approver(approver), host), on_call=host.told.append
    )
    for path in ("src/a", "docs/a", "docs/b", "src/b", "c"):
        assert tools.call_sync("save", {"path": path}) == path
    with pytest.raises(PermissionError, match="rule 2 does not allow it"):
        tools.call_sync("save", {"path": "x.env"})
    assert asked == ["docs/a"]
    decisions = [event.decision for event in host.told if event.type == "tool_call"]
    by_answer = "allowed for the session by an answer"
    assert decisions == [
        *("allowed by rule 1", "", by_answer, "allowed by rule 1", by_answer, "denied by rule 2")
    ]
