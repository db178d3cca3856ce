"""`agentd check` asks plugins about the options that a configuration gives them."""

from __future__ import annotations

from typing import Any

Command = Any

OPTIONS = """\
agents:
  - name: a
    model: [gpt-5, {pricse: {}}]
    mode: ptc
    executor: [subprocess, {timeuot: 5}]
    executor_options: {state: keep}
    parsers: [fenc, [xml, {strict: true}]]
    renderer: [agentskills, {tokens: 5}]
    snapshots: [packs, {ignore: 5}]
    event_sinks: [[jsonl, {path: 7}], [consol, {}]]
  - name: b
    model: gpt-5
    renderer: nowhere
    snapshots: nowhere
    mode: ptc
"""


def test_options_that_a_plugin_does_not_take_are_named_at_their_place(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(OPTIONS)
    done = agentd("check", "agents.yaml")
    assert done.returncode == 2
    for expected in (
        "agents.yaml:3:29: agents[0].model[1].pricse: unknown option 'pricse' of the model 'gpt-5'; there are: ",
        "agents.yaml:5:38: agents[0].executor[1].timeuot: unknown option 'timeuot' of the executor 'subprocess'",
        "agents.yaml:6:31: agents[0].executor_options.state: option 'state' of the executor 'subprocess': must be ",
        "agents.yaml:7:15: agents[0].parsers[0]: unknown parser 'fenc'",
        "agents.yaml:7:36: agents[0].parsers[1][1].strict: unknown option 'strict' of the parser 'xml'; there",
        "agents.yaml:8:38: agents[0].renderer[1].tokens: unknown option 'tokens' of the skill renderer",
        "agents.yaml:9:33: agents[0].snapshots[1].ignore: option 'ignore' of the snapshot store 'packs': must be",
        "agents.yaml:10:19: agents[0].event_sinks[0]: jsonl sink: path must name",
        "agents.yaml:10:39: agents[0].event_sinks[1]: unknown event sink 'consol'",
        "agents.yaml:13:15: agents[1].renderer: unknown skill renderer 'nowhere'",
        "agents.yaml:14:16: agents[1].snapshots: unknown snapshot store 'nowhere'",
    ):
        assert expected in done.stderr, expected
    assert done.stderr.endswith("agentd: 11 errors\n"), done.stderr


def test_options_that_fit_are_right_and_nothing_is_left_behind(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(
        "agents: [{name: a, model: [gpt-5, {prices: {gpt-5: [1, 2]}}], mode: ptc, "
        "executor: [subprocess, {timeout: 5}], parsers: [xml], "
        "renderer: [agentskills, {prompt_tokens: 900}], snapshots: [packs, {ignore: ['*.iso']}]}]\n"
    )
    agentd.env.pop("OPENAI_API_KEY", None)
    done = agentd("check", "agents.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in agentd.cwd.iterdir()] == ["agents.yaml"]


def test_what_is_in_options_is_never_shown(agentd: Command) -> None:
    agentd.env["SECRET"] = "sk-5ecret-value"
    (agentd.cwd / "agents.yaml").write_text(
        "agents: [{name: a, model: m, mode: ptc, executor: [subprocess, {timeout: '${SECRET}', state: sk-6ecret}]}]\n"
    )
    done = agentd("check", "agents.yaml")
    assert done.returncode == 2
    assert "ecret" not in done.stdout + done.stderr
    assert "executor[1].timeout: option 'timeout'" in done.stderr


MIXED = """\
plugins: {block: x}
defaults:
  poll_interval: soon
  event_sinks: [nowhere]
agents:
  - name: a
    modell: gpt-5
    mode: ptc
    executor: srtt
    parsers: [[xml, {strict: true}]]
  - model: gpt-5
    renderer: lound
    budgets: {max_turns: many}
    snapshots: pack
  - name: c
    model: 5
    executor: {srt: {}}
    executor_options: {whose: unknown}
    subscriptions: [nowhere, "tool://t/", {uri: "file:///x", server: files}, {uri: "file:///x", server: filez},
      {uri: nope, poll_interval: -1}, {poll_interval: soon}]
    mcp_servers: [{command: x, arguments: y, name: files}, {command: x, name: files}, {type: stdio}]
    on_error: {backoff_s: 20, max_backoff_s: 10}
"""


def test_mistakes_of_every_kind_are_named_at_once_in_the_order_of_the_file(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(MIXED)
    for command in (["check", "agents.yaml"], ["agents.yaml"]):
        done = agentd(*command)
        assert done.returncode == 2
        told = [line.partition(": ") for line in done.stderr.splitlines() if line.startswith("agents.yaml:")]
        assert [(place.removeprefix("agents.yaml:"), text.partition(";")[0]) for place, _, text in told] == [
            ("1:18", "plugins.block: must be a list, got 'x'"),
            ("3:18", "defaults.poll_interval: must be a number, got 'soon'"),
            ("4:17", "defaults.event_sinks[0]: unknown event sink 'nowhere'"),
            ("7:5", "agents[0].modell: unknown key"),
            ("9:15", "agents[0].executor: unknown executor 'srtt'"),
            ("10:30", "agents[0].parsers[0][1].strict: unknown option 'strict' of the parser 'xml'"),
            ("11:5", "agents[1].name: is missing"),
            ("12:15", "agents[1].renderer: goes with `mode: ptc` only"),
            ("12:15", "agents[1].renderer: unknown skill renderer 'lound'"),
            ("13:26", "agents[1].budgets.max_turns: must be a whole number, got 'many'"),
            ("14:16", "agents[1].snapshots: unknown snapshot store 'pack'"),
            ("16:12", "agents[2].model: must be a string, got 5"),
            ("17:15", "agents[2].executor: must be a string or a list, got a mapping"),
            ("17:15", "agents[2].executor: goes with `mode: ptc` only"),
            ("18:23", "agents[2].executor_options: goes with `mode: ptc` only"),
            (
                "19:21",
                "agents[2].subscriptions[0]: must be a URI such as tool://NAME/?argument=value or file:///path, "
                "got 'nowhere'",
            ),
            (
                "19:105",
                "agents[2].subscriptions[3].server: must be the `name` of a server of this agent ('files', 'files'), "
                "got 'filez'",
            ),
            (
                "20:13",
                "agents[2].subscriptions[4].uri: must be a URI such as tool://NAME/?argument=value or file:///path, "
                "got 'nope'",
            ),
            ("20:34", "agents[2].subscriptions[4].poll_interval: must be above 0, got -1"),
            ("20:39", "agents[2].subscriptions[5].uri: is missing"),
            ("20:55", "agents[2].subscriptions[5].poll_interval: must be a number, got 'soon'"),
            ("21:43", "agents[2].mcp_servers[0].arguments: must be a list, got 'y'"),
            (
                "21:79",
                "agents[2].mcp_servers[1].name: another server of this agent, mcp_servers[0], has the name 'files'",
            ),
            ("21:87", "agents[2].mcp_servers[2].command: is missing: a server of type 'stdio' has one"),
            ("22:15", "agents[2].on_error: max_backoff_s must not be below backoff_s"),
        ]
