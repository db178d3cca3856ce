"""From files to the daemon's configuration: what is read, and how each mistake is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import attrs
import pytest
from agentd.errors import ConfigError
from agentd.registry.config import PluginConfig
from agentd.types import Budgets
from agentd_daemon.config.loading import examine, load
from agentd_daemon.config.problems import InvalidConfigError
from agentd_daemon.config.values import (
    AgentServerConfig,
    BudgetsConfig,
    HistoryConfig,
    OnErrorConfig,
    SubscriptionConfig,
    ToolFilterConfig,
)
from agentd_daemon.sessions import model_settings

Write = Callable[..., Path]
Errors = Callable[..., list[str]]

# The shape that agentd 0.8.6 documents, with every key that it knows.
OLD = """
agents:
  - name: page_watcher
    model: gpt-4o-mini
    system_prompt: |
      You look after a page. Whenever it is another one,
      put its text into ./kept/page.txt with the tool write_file.
    mcp_servers:
      - type: stdio
        command: uv
        arguments: ["run", "mcp_subscribe", "--poll-interval", "5", "--", "uvx", "mcp-server-fetch"]
        env_vars: ["LOG_LEVEL=info", "QUERY=a=b"]
      - type: stdio
        command: npx
        arguments: ["-y", "@modelcontextprotocol/server-filesystem", "./kept/"]
        tool_filter: ["read_file", "write_file"]
    subscriptions:
      - "tool://fetch/?url=https://example.com/page"
"""


def test_a_configuration_of_agentd_0_8_works_unchanged(write: Write) -> None:
    config = load(write(OLD), environ={})
    (agent,) = config.agents
    assert (agent.name, agent.model) == ("page_watcher", "gpt-4o-mini")
    assert agent.system_prompt.endswith("with the tool write_file.\n")
    assert agent.mode == "tools"
    assert agent.subscriptions == ("tool://fetch/?url=https://example.com/page",)
    assert agent.wakers()[0] == SubscriptionConfig(
        uri="tool://fetch/?url=https://example.com/page", poll_interval=60.0
    )
    proxy, files = agent.mcp_servers
    assert proxy.environment() == {"LOG_LEVEL": "info", "QUERY": "a=b"}
    assert files.filter() == ToolFilterConfig(allow=("read_file", "write_file"))


def test_a_server_becomes_what_the_bridge_takes(write: Write) -> None:
    from agentd_mcp_bridge.entries import read_entry

    text = """
    agents:
      - name: a
        model: m
        mcp_servers:
          - {type: stdio, command: uvx, arguments: [mcp-server-time], env_vars: [TZ=UTC], tool_filter: {deny: [x_*]}}
          - {type: http, url: "https://example.com/mcp", headers: {X-Team: blue}, name: far, timeout: 5}
          - {type: sse, url: "http://localhost:1/sse", tool_filter: [a]}
    """
    specs = [server.spec() for server in load(write(text)).agents[0].mcp_servers]
    stdio, http, sse = (read_entry(spec, {}) for spec in specs)
    assert (stdio.name, stdio.target.args, stdio.target.env) == (
        "mcp-server-time",
        ("mcp-server-time",),
        {"TZ": "UTC"},
    )
    assert not stdio.tool_filter.admits("x_1")
    assert stdio.tool_filter.admits("y")
    assert (http.name, http.timeout_s, http.target.kind, http.target.headers) == (
        "far", 5.0, "http", {"X-Team": "blue"},
    )  # fmt: skip
    assert (sse.target.kind, sse.tool_filter.allow) == ("sse", ("a",))


def test_the_budgets_are_those_of_a_run() -> None:
    assert BudgetsConfig().limits() == Budgets()
    assert [f.name for f in attrs.fields(BudgetsConfig)] == [f.name for f in attrs.fields(Budgets)]
    assert BudgetsConfig(max_turns=None).limits().max_turns is None


def test_every_error_comes_at_once_with_its_place(errors: Errors) -> None:
    found = errors(
        """\
        agents:
          - name: a
            model: m
            mcp_servers:
              - command: x
                type: sdtio
            poll_interval: fast
            budget: {}
            history: {max_tokens: 0}
            subscriptions: tool://fetch
          - model: m
        statedir: x
        """
    )
    assert found == [
        "agents.yaml:6:15: agents[0].mcp_servers[0].type: must be 'stdio', 'http' or 'sse', got 'sdtio'; "
        "did you mean 'stdio'?",
        "agents.yaml:7:20: agents[0].poll_interval: must be a number, got 'fast'",
        next(line for line in found if line.startswith("agents.yaml:8:5: agents[0].budget: unknown key")),
        "agents.yaml:9:27: agents[0].history.max_tokens: must be at least 1, got 0",
        "agents.yaml:10:20: agents[0].subscriptions: must be a list, got 'tool://fetch'",
        "agents.yaml:11:5: agents[1].name: is missing",
        "agents.yaml:12:1: statedir: unknown key; allowed: agents, defaults, plugins, state_dir, store; "
        "did you mean 'state_dir'?",
    ]
    assert "did you mean 'budgets'?" in found[2]


def test_a_required_key_that_is_misspelt_is_one_mistake(errors: Callable[..., list[str]]) -> None:
    found = errors(
        """
        agents:
          - {name: a, moddel: m}
          - {nmae: b, model: m}
          - {name: c, model: m, subscriptions: [{ur: "x://y"}], mcp_servers: [{comand: x}]}
          - {name: d, mode: ptc}
        """
    )
    told = [(line.split(": ")[1], line.split(": ")[2][:11]) for line in found]
    assert told == [
        ("agents[0].moddel", "unknown key"),
        ("agents[1].nmae", "unknown key"),
        ("agents[2].subscriptions[0].ur", "unknown key"),
        ("agents[2].mcp_servers[0].comand", "unknown key"),
        ("agents[3].model", "is missing;"),
    ]


def test_the_error_is_a_config_error_that_has_its_problems(write: Write) -> None:
    path = write("agents: [{name: a}]")
    with pytest.raises(InvalidConfigError) as caught:
        load(path)
    assert isinstance(caught.value, ConfigError)
    (problem,) = caught.value.problems
    assert (problem.file, problem.position.line, problem.position.column) == (str(path), 1, 10)  # type: ignore[union-attr]
    assert problem.path == "agents[0].model"
    assert str(caught.value) == f"{path}:1:10: agents[0].model: is missing; give it here or under `defaults:`"


AGENT = "agents:\n  - name: a\n    model: m\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "    executor: srt",
            "4:15: agents[0].executor: goes with `mode: ptc` only; with `mode: tools` no code is run",
        ),
        (
            "    on_error: {backoff_s: 9, max_backoff_s: 2}",
            "4:15: agents[0].on_error: max_backoff_s must not be below backoff_s",
        ),
        (
            "    mcp_servers: [{type: http, command: x}]",
            "4:19: agents[0].mcp_servers[0].url: is missing: a server of type 'http' has one",
        ),
        (
            "    mcp_servers: [{arguments: [x]}]",
            "4:19: agents[0].mcp_servers[0].command: is missing: a server of type 'stdio' has one",
        ),
        (
            "    mcp_servers: [{command: x, name: s}, {command: y, name: s}]",
            "4:61: agents[0].mcp_servers[1].name: another server of this agent, mcp_servers[0], has the name 's'",
        ),
        (
            "    mcp_servers: [{command: x, env_vars: [K=1, K=2]}]",
            "4:48: agents[0].mcp_servers[0].env_vars[1]: sets the variable of env_vars[0] a second time",
        ),
        (
            "    subscriptions: [tool://fetch/]",
            "4:21: agents[0].subscriptions[0]: no server could have it: this agent has no mcp_servers",
        ),
        (
            "    mcp_servers: [{command: x, tool_filter: [read_*]}]\n    subscriptions: [tool://fetch/]",
            "5:21: agents[0].subscriptions[0]: no server could have it: tool_filter leaves out the tool 'fetch'",
        ),
        (
            "    mcp_servers: [{command: x, name: one}]\n    subscriptions: [{uri: 'a://b', server: oen}]",
            "5:44: agents[0].subscriptions[0].server: must be the `name` of a server of this agent ('one'), "
            "got 'oen'; did you mean 'one'?",
        ),
        (
            "    mcp_servers: [{command: x}]\n    subscriptions: ['a://b', {uri: 'a://b'}]",
            "5:36: agents[0].subscriptions[1].uri: is the same as subscriptions[0]",
        ),
        (
            "    mcp_servers: [{command: x}]\n    subscriptions: [fetch]",
            "5:21: agents[0].subscriptions[0]: must be a URI such as tool://NAME/?argument=value or file:///path, "
            "got 'fetch'",
        ),
        (
            "    mcp_servers: [{command: x}]\n    subscriptions: ['tool://fetch/?url']",
            "5:21: agents[0].subscriptions[0]: an argument of tool://fetch has no '='; "
            "write %26 for '&' in the value of an argument",
        ),
        ("    budgets: {max_turns: 0}", "4:26: agents[0].budgets.max_turns: must be at least 1, got 0"),
        ("    budgets: {wall_time_s: -1}", "4:28: agents[0].budgets.wall_time_s: must be above 0, got -1"),
        ("    poll_interval: .inf", "4:20: agents[0].poll_interval: must be a finite number, got inf"),
        ("    checkpoints: 1", "4:18: agents[0].checkpoints: must be true or false, got 1"),
        (
            "    base_url: localhost:1",
            "4:15: agents[0].base_url: must be a URL that starts with http:// or https://, got a text",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named_at_its_place(lines: str, expected: str, errors: Errors) -> None:
    assert f"agents.yaml:{expected}" in errors(AGENT + lines + "\n")


def test_a_key_of_the_other_kind_of_server_is_named(errors: Errors) -> None:
    found = errors(
        AGENT
        + "    mcp_servers: [{command: x, url: 'http://h'}, {type: sse, url: 'http://h', arguments: [x]}]\n"
    )
    assert [line.partition(": ")[2] for line in found] == [
        "agents[0].mcp_servers[0].url: does not belong to a server of type 'stdio'",
        "agents[0].mcp_servers[1].arguments: does not belong to a server of type 'sse'",
    ]


@pytest.mark.parametrize("name", ["a b", "..", ".x", "-x", "a/b", "", "é", "x" * 65, "a\n"])
def test_a_name_that_is_no_folder_or_prompt_is_refused(name: str, errors: Errors) -> None:
    (line,) = errors(f"agents: [{{name: {name!r}, model: m}}]".replace("'", '"'))
    assert "agents[0].name: must " in line


def test_two_agents_of_one_name_are_named_with_both_places(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(AGENT, "one.yaml")
    monkeypatch.chdir(first.parent)
    write("agents: [{name: A, model: m}]", "two.yaml")  # one folder, where upper and lower case are the same
    found = examine(["one.yaml", "two.yaml"])
    assert list(map(str, found.problems)) == [
        "two.yaml:1:17: agents[0].name: there is an agent 'A' already, at one.yaml:2:11"
    ]


def test_a_file_without_agents_or_with_none_is_refused(errors: Errors) -> None:
    assert errors("") == ["agents.yaml: must be a mapping that has `agents:`; it is empty"]
    assert errors("# nothing\n") == ["agents.yaml: must be a mapping that has `agents:`; it is empty"]
    assert errors("[1]") == ["agents.yaml:1:1: must be a mapping that has `agents:`; got a list"]
    assert errors("text") == ["agents.yaml:1:1: must be a mapping that has `agents:`; got 'text'"]
    assert errors("agents: []") == ["agents.yaml: there is no agent; `agents:` lists them"]


# --- defaults, several files ---------------------------------------------------------------------


def test_an_agents_own_key_wins_and_some_mappings_are_put_together(write: Write) -> None:
    config = load(
        write(
            """
            defaults:
              model: shared
              mcp_servers: [{command: one}]
              budgets: {max_turns: 3, max_tokens: 500}
              history: {rule: summarise}
              on_error: {retries: 1}
              model_options: {temperature: 0.5}
              executor: srt
              executor_options: {timeout: 5}
            agents:
              - name: plain
              - name: own
                model: other
                mcp_servers: [{command: two}]
                budgets: {max_turns: 7}
                history: {keep_turns: 0}
                on_error: {then: skip}
                model_options: {seed: 1}
                mode: ptc
                executor_options: {profile: x}
              - {name: elsewhere, mode: ptc, executor: subprocess}
            """
        )
    )
    plain, own, elsewhere = config.agents
    assert (plain.model, own.model) == ("shared", "other")
    assert plain.mcp_servers == config.defaults.mcp_servers == (AgentServerConfig(command="one"),)
    assert own.mcp_servers == (AgentServerConfig(command="two"),)
    assert own.budgets == BudgetsConfig(max_turns=7, max_tokens=500)
    assert own.history == HistoryConfig(rule="summarise", keep_turns=0)
    assert own.on_error == OnErrorConfig(retries=1, then="skip")
    assert own.model_options == {"temperature": 0.5, "seed": 1}
    assert own.executor_options == {"timeout": 5, "profile": "x"}
    assert (elsewhere.executor, elsewhere.executor_options) == ("subprocess", {})


@pytest.mark.parametrize(
    ("defaults", "own", "options"),
    [
        ("executor_options: {a: 1}", "", {"a": 1}),
        ("executor_options: {a: 1}", "executor: subprocess", {"a": 1}),
        ("executor_options: {a: 1}", "executor: auto", {"a": 1}),
        ("executor_options: {a: 1}", "executor: srt", {}),
        ("executor_options: {a: 1}, executor: auto", "executor: subprocess", {}),
        (
            "executor_options: {a: 1}, executor: srt",
            "executor: subprocess, executor_options: {b: 2}",
            {"b": 2},
        ),
        ("executor_options: {a: 1}, executor: srt", "executor: srt, executor_options: {a: 2}", {"a": 2}),
        ("executor_options: {a: 1}, executor: [srt, {b: 2}]", "executor: srt", {"a": 1}),
        ("executor_options: {a: 1}, executor: srt", "executor: [srt, {b: 2}]", {}),
        ("executor_options: {a: 1}", "executor: [subprocess, {b: 2}], executor_options: {c: 3}", {"c": 3}),
    ],
)
def test_options_of_the_defaults_are_for_their_own_executor(
    defaults: str, own: str, options: dict[str, int], write: Write
) -> None:
    path = write(f"defaults: {{mode: ptc, {defaults}}}\nagents: [{{name: a, model: m, {own}}}]")
    assert load(path).agents[0].executor_options == options


PLUGINS = """
agents:
  - name: a
    model: [m, {region: eu}]
    provider: acme
    mode: ptc
    executor: [srt, {profile: strict}]
    parsers: [fence, [xml, {a: 1}]]
    renderer: [agentskills, {prompt_tokens: 9}]
    snapshots: [packs, {ignore: ["*.iso"]}]
    event_sinks: [console, [jsonl, {path: "${WHERE}"}]]
"""


def test_a_plugin_is_a_name_or_a_list_of_a_name_and_options(write: Write) -> None:
    agent = load(write(PLUGINS), environ={"WHERE": "runs"}).agents[0]
    assert (agent.model, agent.model_name) == (("m", {"region": "eu"}), "m")
    assert agent.executor == ("srt", {"profile": "strict"})
    assert agent.parsers == ("fence", ("xml", {"a": 1}))
    assert agent.renderer == ("agentskills", {"prompt_tokens": 9})
    assert agent.snapshots == ("packs", {"ignore": ["*.iso"]})
    assert agent.event_sinks == ("console", ("jsonl", {"path": "runs"}))
    assert model_settings(agent)["model"] == ("acme/m", {"region": "eu"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("executor: {srt: 1}", "executor: must be a string or a list, got a mapping"),
        ("executor: [srt]", "executor: must be a list of 2, got a list of 1"),
        ("executor: [srt, {}, 1]", "executor: must be a list of 2, got a list of 3"),
        ("executor: [1, {}]", "executor[0]: must be a string, got 1"),
        ("executor: [srt, profile]", "executor[1]: must be a mapping, got a text"),
        ("parsers: fence", "parsers: must be a list, got 'fence'"),
        ("parsers: [fence, {a: 1}]", "parsers[1]: must be a string or a list, got a mapping"),
        ("event_sinks: [[jsonl, 5]]", "event_sinks[0][1]: must be a mapping, got a number"),
        ("renderer: ['', {}]", "renderer[0]: must not be empty, got ''"),
        ("snapshots: 7", "snapshots: must be a string, got 7"),
        ("model: [m, {api: chat}]", "model[1].api: has a key of its own: write it as `api`, beside `model`"),
        ("model: [m, {request: {}}]", "model[1].request: has a key of its own: write it as `model_options`"),
    ],
)
def test_a_plugin_that_is_named_in_another_form_is_refused_at_its_place(
    line: str, expected: str, errors: Errors
) -> None:
    model = "" if line.startswith("model") else "model: m, "
    found = errors(f"agents: [{{name: a, mode: ptc, {model}{line}}}]")
    assert len(found) == 1
    assert f"agents[0].{expected}" in found[0]


@pytest.mark.parametrize("key", ["parsers: [fence]", "renderer: r", "executor: [srt, {}]"])
def test_plugins_for_code_need_the_mode_in_which_code_is_run(key: str, errors: Errors) -> None:
    assert "goes with `mode: ptc` only" in errors(f"agents: [{{name: a, model: m, {key}}}]")[0]


def test_several_files_are_one_configuration(write: Write) -> None:
    base = write(
        "defaults: {model: old, poll_interval: 5, budgets: {max_turns: 2}}\nplugins: {block: [a]}\nstate_dir: s\n",
        "base.yaml",
    )
    team = write(
        "defaults: {model: new, budgets: {max_tokens: 9}}\nagents: [{name: x}]\nplugins: {block: [b]}\n",
        "x.yaml",
    )
    more = write("agents: [{name: y, model: own}]\nplugins: {allow: [c]}\nstate_dir: s\n", "y.yaml")
    config = load([base, team, more])
    assert [(a.name, a.model, a.poll_interval) for a in config.agents] == [
        ("x", "new", 5.0),
        ("y", "own", 5.0),
    ]
    assert config.agents[1].budgets == BudgetsConfig(max_turns=2, max_tokens=9)
    assert config.plugins == PluginConfig(allow=("c",), block=("a", "b"))
    assert config.state_dir == "s"


def test_what_only_one_file_may_say_is_named_with_both_places(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(AGENT + "state_dir: a\nplugins: {allow: []}\n", "one.yaml").parent)
    write("state_dir: b\nplugins: {allow: [x]}\n", "two.yaml")
    assert list(map(str, examine(["one.yaml", "two.yaml"]).problems)) == [
        "two.yaml:1:12: state_dir: another file says otherwise, at one.yaml:4:12; one of them must go",
        "two.yaml:2:18: plugins.allow: another file says otherwise, at one.yaml:5:18; one of them must go",
    ]


def test_what_is_wrong_with_a_default_is_named_where_it_is_written(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write("defaults:\n  mcp_servers:\n    - type: http\n", "base.yaml").parent)
    write("agents: [{name: a, model: m}, {name: b, model: m}]", "team.yaml")  # and once, not for each agent
    assert list(map(str, examine(["base.yaml", "team.yaml"]).problems)) == [
        "base.yaml:3:7: defaults.mcp_servers[0].url: is missing: a server of type 'http' has one"
    ]


def test_a_broken_file_does_not_make_others_lack_its_defaults(write: Write) -> None:
    base = write("defaults: {model: m, executor: [}\n", "base.yaml")
    team = write("agents: [{name: a}, {name: b, mode: x}]", "team.yaml")
    messages = [problem.message for problem in examine([base, team]).problems]
    assert len(messages) == 2
    assert messages[0].startswith("is no YAML")
    assert messages[1].startswith("must be 'tools' or 'ptc'")


def test_a_scheme_that_is_nearly_tool_is_a_warning(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write(AGENT + "    mcp_servers: [{command: x}]\n    subscriptions: ['tools://fetch/?u=secret']\n")
    with caplog.at_level(logging.WARNING, "agentd.daemon"):
        assert load(path).agents[0].subscriptions == ("tools://fetch/?u=secret",)
    assert caplog.messages == [
        f"{path}:5:21: agents[0].subscriptions[0]: 'tools://fetch/?...' is read as a resource of a server; "
        "did you mean 'tool'?"
    ]


def test_the_top_has_room_for_anchors(write: Write) -> None:
    text = dedent(
        """
        x-server: &server {command: uvx, arguments: [a]}
        x-rules: &rules
          poll_interval: 7
          mode: ptc
        agents:
          - <<: *rules
            name: a
            model: m
            mode: tools
            mcp_servers: [*server, {<<: *server, arguments: [b]}]
        """
    )
    (agent,) = load(write(text)).agents
    assert (agent.poll_interval, agent.mode) == (7.0, "tools")
    assert [server.arguments for server in agent.mcp_servers] == [("a",), ("b",)]
