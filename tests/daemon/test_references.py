"""References to the environment and to files: resolved, and their values never shown."""

from __future__ import annotations

import copy
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd_daemon.config.loading import examine, load
from agentd_daemon.config.references import BadReferenceError, ConfigReferences, Substituted
from agentd_daemon.config.values import Secret
from hypothesis import given, strategies as st

Write = Callable[..., Path]
Errors = Callable[..., list[str]]

SECRET = "sk-5ecret"


def resolve(text: str, folder: Path = Path("/"), **environ: str) -> str:
    return ConfigReferences(environ, folder).resolve(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"), ("x${A}y${B}", "x1y"), ("${B}", ""), ("${B:-d}", "d"), ("${C:-d}", "d"), ("${C:-}", ""),
        ("${A:-d}", "1"), ("${C:-a b:-c}", "a b:-c"), ("$$", "$"), ("$${A}", "${A}"), ("$$$$", "$$"),
        ("$A $5 $", "$A $5 $"), ("$$${A}", "$1"),
    ],
)  # fmt: skip
def test_a_reference_is_replaced_and_other_dollars_stay(text: str, value: str) -> None:
    assert str(resolve(text, A="1", B="")) == value


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A", "${A-b}", "${A B}", "${ A }", "${A:?x}", "${a.b}"])
def test_what_is_no_reference_is_refused_and_says_how_to_write_a_dollar(text: str) -> None:
    with pytest.raises(BadReferenceError, match=r"\$\$ for a dollar"):
        resolve(text, A="1")


@given(st.text())
def test_a_text_with_doubled_dollars_comes_out_as_it_was(text: str) -> None:
    assert resolve(text.replace("$", "$$")) == text


def test_a_secret_of_a_file_is_its_text_without_the_line_break_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\r\n")
    assert resolve("${file:key}", tmp_path) == SECRET
    assert resolve(f"Bearer ${{file:{tmp_path}/key}}", Path("/nowhere")) == f"Bearer {SECRET}"
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    for name, words in [
        ("none", "No such file"), ("", "Is a directory"), ("bytes", "UTF-8"), ("large", "larger than"),
        ("a\0b", "no such path"), ("~nobody-has-this-name/x", "No such file"),
    ]:  # fmt: skip
        with pytest.raises(BadReferenceError, match=words):
            resolve(f"${{file:{name}}}", tmp_path)


def test_files_are_relative_to_the_configuration_and_open_ones_are_warned_of(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write(SECRET, "key.txt").chmod(0o644)
    write("be brief\n", "prompt.md").chmod(0o644)
    path = write(
        "agents: [{name: a, model: m, api_key: '${file:key.txt}', system_prompt: '${file:prompt.md}'}]"
    )
    with caplog.at_level(logging.WARNING, "agentd.daemon"):
        (agent,) = load(path, environ={}).agents
    assert agent.api_key == Secret(SECRET)
    assert agent.system_prompt == "be brief"
    key = path.parent / "key.txt"
    assert caplog.messages == [
        f"{path}:1:39: agents[0].api_key: others can read the secret in {key}; chmod 600 {key}"
    ]
    os.chmod(key, 0o600)
    assert examine(path).warnings == ()


def test_a_reference_may_stand_for_a_number_but_nothing_becomes_one_by_itself(write: Write) -> None:
    text = """
    agents:
      - name: agent-${N}
        model: ${N}
        poll_interval: ${SECONDS}
        checkpoints: ${ON}
        mode: ${MODE}
        budgets: {max_turns: "${N}", max_tokens: "${M:-9}"}
        model_options: {seed: "${N}", stop: ["${N}"]}
    """
    (agent,) = load(write(text), environ={"N": "7", "SECONDS": "0.5", "ON": "true", "MODE": "ptc"}).agents
    assert (agent.name, agent.model, agent.mode) == ("agent-7", "7", "ptc")
    assert (agent.poll_interval, agent.checkpoints) == (0.5, True)
    assert (agent.budgets.max_turns, agent.budgets.max_tokens) == (7, 9)
    assert agent.model_options == {"seed": "7", "stop": ["7"]}
    texts = [agent.name, agent.model, agent.model_options["seed"], agent.model_options["stop"][0]]
    assert [type(text) for text in texts] == [str] * 4  # msgspec and others take nothing derived from it


@pytest.mark.parametrize("value", ["", "x", "1.5", "010", "yes", "true", "9" * 100])
def test_a_reference_to_what_is_no_whole_number_is_refused_without_its_value(
    value: str, errors: Errors
) -> None:
    (line,) = errors("agents: [{name: a, model: m, budgets: {max_turns: '${N}'}}]", {"N": value})
    assert line == "agents.yaml:1:51: agents[0].budgets.max_turns: must be a whole number, got '${N}'"


# Each has the secret at a place that is wrong in one way or another.
WRONG = [
    "name: ${S}/x", "mode: ${S}", "base_url: ${S}", "poll_interval: ${S}", "checkpoints: ${S}", "api: x-${S}",
    "budgets: {max_turns: '${S}'}", "history: '${S}'", "on_error: {then: '${S}'}", "agents: ${S}",
    "api_key: [LITERAL]", "api_key: {LITERAL: LITERAL}", "executor_options: LITERAL", "model_options: [LITERAL]",
    "mcp_servers: '${S}'", "mcp_servers: [{command: x, env_vars: K=LITERAL}]",
    "mcp_servers: [{command: x, env_vars: [LITERAL]}]", "mcp_servers: [{command: x, env_vars: [[LITERAL]]}]",
    "mcp_servers: [{command: x, headers: {A: LITERAL}}]", "mcp_servers: [{command: x, headers: LITERAL}]",
    "mcp_servers: [{type: http, url: ftp://u:LITERAL@h}]", "mcp_servers: [{type: '${S}', url: 'http://h'}]",
    "mcp_servers: [{type: http, url: 'http://LITERAL', headers: {A: [LITERAL]}}]",
    "mcp_servers: [{command: x, env_vars: [K=LITERAL, K=LITERAL]}]", "mcp_servers: [{command: '', arguments: '${S}'}]",
    "subscriptions: ['${S}']", "subscriptions: ['tool://x/?k=LITERAL']", "subscriptions: ['tool://${S}/p?k']",
    "mcp_servers: [{command: x, tool_filter: [y]}]\n    subscriptions: ['tool://${S}/']",
    "mcp_servers: [{command: x}]\n    subscriptions: [{uri: 'a://b', server: '${S}'}]",
    "mcp_servers: [{command: x}]\n    subscriptions: ['tool://x/?LITERAL', 'not?LITERAL', 'tool://x/?a=%FFLITERAL']",
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_no_error_shows_a_secret(wrong: str, errors: Errors) -> None:
    name = "" if wrong.startswith("name:") else "    name: a\n"
    lines = wrong.replace("LITERAL", SECRET)
    found = errors(f"agents:\n  - model: m\n    {lines}\n{name}", {"S": SECRET})
    assert found
    assert SECRET not in "\n".join(found)


def test_no_repr_of_the_configuration_shows_a_secret(write: Write) -> None:
    text = """
    defaults: {api_key: "${S}", model_options: {k: "${S}"}}
    agents:
      - name: a
        model: ${S}
        system_prompt: ${S}
        base_url: https://${S}
        cwd: ${S}
        mcp_servers:
          - {command: "${S}", arguments: ["${S}"], env_vars: ["K=${S}"], name: s}
          - {type: http, url: "http://${S}", headers: {A: "${S}"}}
        subscriptions: [{uri: "a://${S}", prompt: "${S}"}, "b://${S}"]
        executor_options: {k: ["${S}"]}
        mode: ptc
    state_dir: ${S}
    """
    found = examine(write(text), environ={"S": SECRET})
    assert found.config is not None
    (agent,) = found.config.agents
    shown = [
        found,
        found.config,
        found.config.defaults,
        agent,
        *agent.mcp_servers,
        *agent.wakers(),
        agent.api_key,
    ]
    assert SECRET not in repr(shown) + str(shown)
    assert "AgentConfig(name='a', ...)" in repr(found.config)
    assert agent.api_key is not None
    assert agent.api_key.reveal() == SECRET


def test_a_substituted_text_stays_hidden_when_it_is_copied() -> None:
    text = resolve("k-${S}", S=SECRET)
    assert isinstance(text, Substituted)
    for other in (text, copy.copy(text), copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert repr(other) == "'k-${S}'"
        assert str(other) == f"k-{SECRET}"


def test_equal_secrets_are_equal_and_nothing_else_is() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize("text", ["${", "${a", "${a:-", "${file:", "$", "${a "])
def test_a_long_text_of_openings_is_read_in_one_pass_and_not_repeated(tmp_path: Path, text: str) -> None:
    """What takes less than a second here would take hours if it grew with the square."""
    many = text * 1_000_000
    if text == "$":
        assert ConfigReferences({}, tmp_path).resolve(many) == "$" * 500_000
        return
    with pytest.raises(BadReferenceError) as caught:
        ConfigReferences({}, tmp_path).resolve(many)
    assert len(str(caught.value)) < 500
