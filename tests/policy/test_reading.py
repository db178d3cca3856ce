"""What is said about a policy that cannot be used: all faults at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd.types import ToolSpec
from agentd_policy.matching import Ask
from agentd_policy.presets import PRESETS
from agentd_policy.reading import read_policy
from agentd_policy.rules import Rule, RuleList
from agentd_tools.policy import Decision, PolicyRequest

BROKEN = """\
default: maybe
timeout_s: -1
verdict: allow
rules:
  - verdict: alow
    kind: tol
  - name: x
  - verdict: deny
    nam: x
    read_only: "yes"
    name: []
  - 7
  - verdict: ask
    verdict: deny
    arguments: {to: 1}
"""


def test_all_faults_of_a_file_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(BROKEN)
    with pytest.raises(ConfigError) as caught:
        read_policy(str(path))
    said = [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]
    assert said == [
        "1:1: default: must be 'allow', 'deny' or 'ask', got 'maybe'",
        "2:1: timeout_s: must be a number of seconds above 0, got -1",
        "3:1: verdict: unknown key 'verdict'; there are: preset, rules, default, timeout_s",
        "5:5: rules[0].verdict: must be 'allow', 'deny' or 'ask', got 'alow'; did you mean 'allow'?",
        "6:5: rules[0].kind: must be 'tool', 'create' or 'host', got 'tol'; did you mean 'tool'?",
        "7:5: rules[1]: has no verdict; it must be 'allow', 'deny' or 'ask'",
        "9:5: rules[2].nam: unknown key; a rule has: verdict, kind, name, source, arguments, read_only, "
        "destructive, cost_over_usd, reason; did you mean 'name'?",
        "10:5: rules[2].read_only: must be true or false, got 'yes'",
        "11:5: rules[2].name: must be a pattern or a list of patterns, got an empty list",
        "12:5: rules[3]: must be a mapping such as {verdict: allow, kind: tool}, got 7",
        "14:5: rules[4].verdict: is given twice",
        "15:5: rules[4].arguments: 'to' must be a pattern or a list of patterns, got 1; put it in quotes",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1|: is empty"),
        ("rules: [", "is no YAML"),
        ("just a text", "must be a list of rules, or a mapping"),
        ("a: &a [*a]", "too much of it"),
        ("[" * 100, "nested more than 20 levels deep"),
        ("rules: !!python/object:x.Y {}", "has the tag"),
        ("- verdict: !!int x", "cannot be read as a value"),
        ("preset: [a]", ":1:1: preset: must be 'read-only', 'ask-writes' or 'yolo', got a list"),
        ("timeout_s: " + "9" * 400, ":1:1: timeout_s: must be a number of seconds above 0, got 9999"),
        ("- {verdict: ask, cost_over_usd: " + "9" * 400 + "}", "must be a number of US dollars from 0 on"),
        (
            "- {verdict: deny, name: on}",
            "[0].name: must be a pattern or a list of patterns, got True; put it in quotes",
        ),
        ("- {verdict: deny, name: 2026-01-01}", ":1:19: [0].name: is a date to YAML; put it in quotes"),
        ("- {verdict: deny, arguments: {}}", "got an empty one"),
        ("- &a {verdict: deny}\n- {<<: *a}", ":2:4: [1].<<: is a merge key, which is not read here"),
        ("- {verdict: deny, 5: x}", ":1:19: [0].5: a key must be a text; put it in quotes"),
    ],
)
def test_a_file_that_is_no_policy_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert any(part in str(caught.value) for part in said.split("|"))
    assert str(path) in str(caught.value)


def test_a_value_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("default: !mine ask\nrules: [{verdict: deny, name: 2026-01-01}]")
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_with_thousands_of_faults_has_a_message_of_hundreds(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("rules:\n" + "  - {verdict: alow}\n" * 1000)
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    said = str(caught.value).splitlines()
    assert (len(said), said[-1]) == (201, "... and 800 more problems")


def test_a_name_that_is_no_preset_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"neither a preset .* nor a file; did you mean 'read-only'\?"):
        read_policy("readonly")
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        read_policy("missing.yaml")

    async def policy(request: PolicyRequest) -> str:
        return "allow"

    with pytest.raises(ConfigError, match="must not be async"):
        read_policy(policy)


def ask(policy: object, request: PolicyRequest) -> str:
    judge, _ = read_policy(policy)
    said = judge.judge(request, lambda _: 0.0)
    return "ask" if isinstance(said, Ask) else "allow" if said.allowed else "deny"


def tool(name: str, **annotations: bool) -> PolicyRequest:
    spec = ToolSpec(name=name, source="files", annotations=dict(annotations))
    return PolicyRequest(kind="tool", name=name, source="files", spec=spec)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (tool("read", readOnlyHint=True), {"read-only": "allow", "ask-writes": "allow", "yolo": "allow"}),
        (tool("write", destructiveHint=False), {"read-only": "deny", "ask-writes": "ask", "yolo": "allow"}),
        (tool("unknown"), {"read-only": "deny", "ask-writes": "ask", "yolo": "allow"}),
        (PolicyRequest(kind="create", name="a.txt"), {"read-only": "deny", "ask-writes": "ask", "yolo": "allow"}),
        (
            PolicyRequest(kind="host", name="a.example:443", source="allowed_hosts"),
            {"read-only": "allow", "ask-writes": "allow", "yolo": "allow"},
        ),
        (
            PolicyRequest(kind="host", name="b.example:443"),
            {"read-only": "deny", "ask-writes": "ask", "yolo": "deny"},
        ),
    ],
)  # fmt: skip
def test_what_each_preset_says(request_: PolicyRequest, expected: dict[str, str]) -> None:
    assert {name: ask(name, request_) for name in PRESETS} == expected


def test_a_file_may_stand_on_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "preset: ask-writes\nrules:\n  - {verdict: allow, name: [write, note*], destructive: true}\n"
    )
    assert ask(path, tool("write")) == "allow"
    assert ask(path, tool("write", destructiveHint=False)) == "ask"
    assert ask(path, tool("other")) == "ask"
    judge, _ = read_policy(path)
    assert judge.judge(tool("write"), lambda _: None) == Decision(
        True, "allowed by rule 1 of mine.yaml", is_fixed=True
    )


def request(source: str, name: str, *, at_source: str = "", content: bytes = b"{}") -> PolicyRequest:
    spec = ToolSpec(name=at_source or name, description="", input_schema={"type": "object"}, source=source)
    return PolicyRequest(kind="tool", name=name, source=source, spec=spec, content=content)


@pytest.mark.parametrize(
    ("pattern", "source", "name", "matches"),
    [
        ("shop:search", "shop", "search", True),
        ("shop.search", "shop", "search", True),
        ("shop:search", "web", "search", False),
        ("shop:s*", "shop", "search", True),
        ("sh*:search", "shop", "search", True),
        ("*:search", "web", "search", True),
        ("search", "web", "search", True),
        ("mcp.example.com:search", "mcp.example.com", "search", True),
        ("mcp.example.com.search", "mcp.example.com", "search", True),
        ("fs.read", "files", "fs.read", True),  # the tool's own name
        ("shop:fs.read", "shop", "fs.read", True),
        ("*read*", "spreadsheets", "delete", False),  # no star goes from the server to the tool, or back
        ("shop*", "shop", "order", False),
        ("s*search", "shop", "search", False),
        ("[a.b]x", "[a", "b]x", False),  # no separator, but one of a set
        ("shop:", "shop", "search", False),
    ],
)
@pytest.mark.parametrize("kind", ["tool", None], ids=["kind-tool", "no-kind"])
def test_a_rule_names_a_tool_of_one_server_and_an_allow_says_that_it_means_a_tool(
    pattern: str, source: str, name: str, matches: bool, kind: str | None
) -> None:
    is_qualified = matches and pattern not in ("search", "fs.read")
    asked = request(source, name.replace(".", "_"), at_source=name, content=b'{"a": "x"}')
    for verdict, other in (("deny", "allow"), ("allow", "deny")):
        for arguments in (None, {"a": ("x",)}):  # the latter is compiled
            rule = Rule(verdict, kind=kind, name=pattern, arguments=arguments)  # type: ignore[arg-type]
            rules = RuleList([rule], other)  # type: ignore[arg-type]
            holds = matches and (kind == "tool" or verdict == "deny" or not is_qualified)
            for said in (
                rules.judge(asked, lambda _: 0.0),
                rules.for_tool(asked, lambda _: 0.0)(asked.content, ""),
            ):
                assert isinstance(said, Decision)
                assert said.allowed is ((verdict == "allow") is holds)


def test_two_servers_with_a_tool_of_one_name_are_told_apart_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "rules:\n  - {verdict: deny, name: 'web:search'}\n"
        "  - {verdict: allow, kind: tool, name: [search, 'shop.order']}\n"
        "  - {verdict: allow, name: 'api.example.com:*'}\n  - {verdict: allow, name: '*:44[0-9]'}\n"
        "default: deny\n"
    )
    judge, _ = read_policy(str(path))

    def allows(asked: PolicyRequest) -> bool:
        said = judge.judge(asked, lambda _: 0.0)
        assert isinstance(said, Decision)
        return said.allowed

    assert allows(request("shop", "search"))
    assert not allows(request("web", "web_search", at_source="search"))
    assert allows(request("shop", "order"))
    assert not allows(request("web", "order"))
    assert allows(PolicyRequest(kind="host", name="api.example.com:443"))
    assert not allows(request("api.example.com", "wipe"))  # that is a rule about hosts


def test_an_allow_that_may_mean_a_tool_or_a_file_is_a_fault() -> None:
    with pytest.raises(
        ConfigError, match=r"'shop:search' may name a tool of a server, or a file: say so with kind"
    ):
        read_policy([{"verdict": "allow", "name": ["x:1", "shop:search"]}])
    read_policy(
        [{"verdict": "allow", "kind": "create", "name": "shop:search"}, {"verdict": "deny", "name": "a:b"}]
    )
