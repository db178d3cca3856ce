"""`--fleet`: what is told where it cannot be had, and what of a configuration goes to other machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd_daemon.config.loading import load
from agentd_daemon.sessions import sent_settings
from agentd_policy.reading import read_policy
from command_process import Command

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("keys", "arguments", "code", "says"),
    [
        (
            "",
            ["--fleet", "auto"],
            2,
            "--fleet: there is no store, where agents are kept and all nodes find them",
        ),
        ("", ["--store", "file:///x"], 2, "--store goes with --fleet"),
        (
            "store: file:///x",
            ["--fleet", "auto"],
            None,
            "'--fleet' comes with the distribution 'agentd-ray', which is not installed",
        ),
    ],
    ids=["no store", "no fleet", "no agentd-ray"],
)
def test_what_a_fleet_needs_is_told(
    keys: str, arguments: list[str], code: int | None, says: str, agentd: Command
) -> None:
    (agentd.cwd / "agents.yaml").write_text(f"{keys}\nagents: [{{name: a, model: m}}]\n")
    for command, expected in (((), code), (("check",), 2)):
        done = agentd(*command, "agents.yaml", *arguments)
        assert done.returncode == expected if expected is not None else done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_what_goes_with_one_machine_is_refused_where_it_stands(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(
        "defaults:\n  cwd: ./here\nagents:\n  - {name: a, model: m}\n  - name: b\n    model: m\n    snapshots: other\n"
    )
    for command in ((), ("check",)):
        done = agentd(*command, "agents.yaml", "--fleet", "auto", "--store", "file:///x")
        assert done.returncode == 2
        assert (
            "agents.yaml:2:8: defaults.cwd: does not go with --fleet: an agent's workspace is" in done.stderr
        )
        assert (
            "agents.yaml:7:16: agents[1].snapshots: does not go with --fleet: checkpoints are" in done.stderr
        )


def test_what_is_sent_is_data_without_the_daemons_own_secrets(write: Write, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("default: deny\nrules:\n  - {kind: tool, name: look, verdict: allow}\n")
    path = write(
        f"""
        agents:
          - name: a
            model: m
            mode: ptc
            api_key: ${{KEY}}
            skills: [skills]
            policy: {rules}
            approver: [webhook, {{url: "http://127.0.0.1:9/", token: "${{TOKEN}}"}}]
            mcp_servers: [{{command: serve, env_vars: ["PASSWORD=${{PASSWORD}}"], name: s, tool_filter: [look]}}]
            triggers: [{{kind: webhook, options: {{secret: "${{SECRET}}"}}}}]
        """
    )
    secrets = {name: f"{name.lower()}-value" for name in ("KEY", "TOKEN", "PASSWORD", "SECRET")}
    (agent,) = load(path, environ=secrets).agents
    sent = sent_settings(agent)
    assert sent["api_key"] == "key-value"
    (server,) = sent["mcp_servers"]
    assert (server["env"], server["tool_filter"]["allow"]) == ({"PASSWORD": "password-value"}, ["look"])
    assert not any(secrets[name] in repr(sent) for name in ("TOKEN", "SECRET"))
    assert sent["policy"] == {
        "timeout_s": 7 * 86_400.0,
        "default": "deny",
        "rules": [{"kind": "tool", "name": "look", "verdict": "allow"}],
    }
    assert read_policy(sent["policy"])[1] == 7 * 86_400.0
    assert sent["executor"] == "native", "on a fleet nothing falls back to no sandbox"
    assert sent["skills"] == [str(Path("skills").absolute())]


@pytest.mark.parametrize("policy", ["ask-writes", [{"verdict": "ask"}], {"preset": "yolo", "timeout_s": 5}])
def test_a_policy_that_is_sent_judges_as_it_does_here(policy: Any, write: Write) -> None:
    (agent,) = load(write("agents: [{name: a, model: m}]")).agents
    sent = sent_settings(attrs.evolve(agent, policy=policy))["policy"]
    here, there = read_policy(policy)[0], read_policy(sent)[0]
    assert there.rules == here.rules  # type: ignore[attr-defined]
    assert there.default == here.default  # type: ignore[attr-defined]
