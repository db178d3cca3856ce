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
        "agents.yaml:10:39: agents[0].event_sinks[1]: unknown event_sink 'consol'",
        "agents.yaml:13:15: agents[1].renderer: unknown skill_renderer 'nowhere'",
        "agents.yaml:14:16: agents[1].snapshots: unknown snapshot_store 'nowhere'",
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
