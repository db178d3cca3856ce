from __future__ import annotations

from contextlib import suppress

import pytest
from agentd_cli.prompt.lines import Invocation, LineError, continues
from agentd_daemon.repl.completion import candidates
from agentd_daemon.repl.lines import COMMANDS, ShownMessage, parse
from hypothesis import given, strategies as st

AGENTS = ["news", "news desk", "mail"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("hello", ShownMessage("hello")),
        ("  hello\nthere\n", ShownMessage("hello\nthere")),
        ("mail: hello", ShownMessage("hello", "mail")),
        ("news desk: hello", ShownMessage("hello", "news desk")),
        ("news: desk: hello", ShownMessage("desk: hello", "news")),
        ("mail: /quit", ShownMessage("/quit", "mail")),
        ("note: this is no agent", ShownMessage("note: this is no agent")),
        ("//etc/hosts has a line", ShownMessage("/etc/hosts has a line")),
        ("quit the job", ShownMessage("quit the job")),
        ("", None),
        (" \n ", None),
    ],
)
def test_what_is_no_command_is_said_to_an_agent(line: str, meant: ShownMessage | None) -> None:
    assert parse(line, AGENTS) == meant


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/agents", "agents", ""),
        ("/use news desk", "use", "news desk"),
        (" /history 5 ", "history", "5"),
        ("quit", "quit", ""),
        ("exit", "quit", ""),
        ("/exit", "quit", ""),
    ],
)
def test_a_command_has_its_name_and_the_rest_of_the_line(line: str, name: str, argument: str) -> None:
    asked = parse(line, AGENTS)
    assert isinstance(asked, Invocation)
    assert (asked.command.name, asked.argument) == (name, argument)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/hlep", "unknown command '/hlep'; there are: /agents, .*did you mean '/help'"),
        ("/", "unknown command '/'"),
        ("/use", "/use needs an argument: /use NAME"),
        ("/allow", r"/allow needs an argument: /allow ID \[once\|session\|always\]"),
        ("/deny", r"/deny needs an argument: /deny ID \[REASON\]"),
        ("/tools all", "/tools takes no argument, got 'all'"),
        ("mail:", "nothing to tell 'mail': write mail: TEXT, or /use mail"),
    ],
)
def test_a_line_that_cannot_be_meant_says_what_is_wrong(line: str, complaint: str) -> None:
    with pytest.raises(LineError, match=complaint):
        parse(line, AGENTS)


@given(st.text(), st.lists(st.text()))
def test_every_line_is_a_message_a_command_nothing_or_a_complaint(line: str, agents: list[str]) -> None:
    with suppress(LineError):
        asked = parse(line, agents)
        assert (
            asked is None or isinstance(asked, Invocation) or (isinstance(asked, ShownMessage) and asked.text)
        )


def test_an_odd_number_of_backslashes_continues_a_line() -> None:
    assert [continues("a" + "\\" * n) for n in range(4)] == [False, True, False, True]
    assert not continues("")


def completed(text: str, checkpoints: list[str] | None = None) -> list[str]:
    return [text[: len(text) - c.replaces] + c.text for c in candidates(text, AGENTS, checkpoints or [])]


def test_commands_agents_and_checkpoints_are_completed_where_they_may_stand() -> None:
    assert completed("/h") == ["/history ", "/help "]
    assert completed("/use ne") == ["/use news", "/use news desk"]
    assert completed("/resume MA") == ["/resume mail"]
    assert completed("/rewind ", ["c1", "before"]) == ["/rewind before", "/rewind c1"]
    assert completed("/help re") == ["/help rewind", "/help resume"]
    assert completed("ma") == ["mail: "]
    assert len(completed("/")) == len(COMMANDS)


def test_the_ids_of_questions_are_completed() -> None:
    found = candidates("/allow 1k", AGENTS, [], ["1k2", "1k3", "2k1"])
    assert [candidate.text for candidate in found] == ["1k2", "1k3"]
    assert [candidate.text for candidate in candidates("/deny ", AGENTS, [], ["1k2"])] == ["1k2"]
    assert candidates("/allow 1k2 al", AGENTS, [], ["1k2"]) == []


def test_nothing_is_completed_where_anything_may_stand() -> None:
    for text in ("", "hello th", "/snapshot b", "/history ", "/nothing n", "first line\n/u", "/use mail"):
        assert completed(text) == []
