"""What signals do to the daemon, and that nothing of it outlives it, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from fake_openai import Answer
from life import Home, Life, call, command_of, eventually, left_of, tree_of

pytestmark = pytest.mark.slow

BUSY = "```bash:execute\ntrap '' TERM; (setsid sleep 301 &); echo begun; sleep 300\n```\n"


def begin_block(home: Home) -> Life:
    """A daemon whose agent runs a block that ignores TERM and has left a process in a session of its own."""
    home.model.answers[:] = [Answer(text=BUSY)]
    watched = {"mcp_servers": [home.server()], "subscriptions": ["board://page"]}
    home.write(home.agent(mode="ptc", **watched))
    home.post("page", "old")
    life = home.start()
    home.seen("page")
    home.post("page", "new")
    home.requests(1)
    eventually(lambda: sleeping(life) == 2, lambda: life.log)
    return life


def sleeping(life: Life) -> int:
    """How many of the block's processes run below the daemon."""
    return sum(command_of(pid).startswith(b"sleep\x0030") for pid in tree_of(life.process.pid))


def begin_call(home: Home, *ways: str) -> Life:
    """A daemon whose agent waits for a tool that never answers."""
    home.model.answers[:] = [call("hang")]
    home.write(home.agent(mcp_servers=[home.server(*ways)], subscriptions=["board://page"]))
    home.post("page", "old")
    life = home.start()
    home.seen("page")
    home.post("page", "new")
    home.asked("tools/call hang")
    return life


def begin_stream(home: Home) -> Life:
    """A daemon whose model stops in the middle of its answer."""
    home.model.answers[:] = [Answer(text="a long answer", wait_after=4)]
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "old")
    life = home.start()
    home.seen("page")
    home.post("page", "new")
    home.requests(1)
    return life


@pytest.mark.parametrize(
    ("begin", "number"),
    [(begin_block, signal.SIGTERM), (begin_call, signal.SIGINT), (begin_stream, signal.SIGTERM)],
)
def test_a_signal_ends_what_runs_and_the_daemon_with_0(
    home: Home, begin: Callable[[Home], Life], number: signal.Signals
) -> None:
    life = begin(home)
    tree = tree_of(life.process.pid)
    life.send(number)
    assert life.wait() == 0, life.log
    assert left_of(tree) == []
    assert "Traceback" not in life.log
    assert "took too long" not in life.log


def test_a_server_that_ignores_term_ends_with_the_daemon(home: Home) -> None:
    life = begin_call(home, "stubborn")
    tree = tree_of(life.process.pid)
    assert life.stop() == 0
    assert left_of(tree) == []
    assert "took too long" not in life.log


@pytest.mark.parametrize("begin", [begin_block, begin_call])
def test_no_process_outlives_a_daemon_that_is_killed(home: Home, begin: Callable[[Home], Life]) -> None:
    life = begin(home)
    tree = tree_of(life.process.pid)
    life.send(signal.SIGKILL)
    assert life.wait() == -signal.SIGKILL
    assert left_of(tree) == []


def test_a_second_signal_ends_it_at_once(home: Home) -> None:
    life = begin_call(home, "stubborn")
    tree = tree_of(life.process.pid)
    life.send(signal.SIGTERM)
    life.logs("stopping")
    life.send(signal.SIGINT)
    assert life.wait() == 130
    assert left_of(tree) == []


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]])
def test_a_signal_ends_a_daemon_whose_log_nobody_reads(signals: list[signal.Signals], home: Home) -> None:
    """The log goes into a full pipe: the work goes on, and one signal is enough for an orderly end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 65_536)
    except BlockingIOError:
        os.set_blocking(writer, True)
    home.write(home.agent(mcp_servers=[home.server("stubborn")], subscriptions=["board://page"]))
    home.post("page", "old")
    life = home.start("--json", preexec_fn=lambda: os.dup2(writer, 2))
    try:
        home.seen("page")
        home.post("page", "new")
        home.requests(1)  # its end is logged
        for number in signals:
            life.send(number)
        assert life.wait() in ((0,) if len(signals) == 1 else (130, 143))
    finally:
        os.close(reader)
        os.close(writer)


def test_a_signal_while_once_works_is_told_by_the_exit_code(home: Home) -> None:
    home.model.answers[:] = [call("hang")]
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "new")
    life = home.start("--once")
    home.asked("tools/call hang")
    assert life.stop() == 143


# --- SIGHUP --------------------------------------------------------------------------------------


def test_hup_restarts_what_changed_and_leaves_the_rest_undisturbed(home: Home) -> None:
    def servers(way: str) -> dict[str, Any]:
        return {"mcp_servers": [home.server(way)], "subscriptions": [f"board://{way}"]}

    for name in ("one", "two", "three"):
        home.post(name, "old")
    gate = Answer(text="well", wait_after=2)
    home.model.answers[:] = [gate, Answer(text="changed"), Answer(text="added")]
    home.model.repeat = False
    home.write(home.agent("stays", **servers("one")), home.agent("changes", **servers("two")))
    life = home.start()
    home.seen("one", "stays")
    home.seen("two", "changes")
    home.post("one", "new")
    home.requests(1)  # `stays` is in the middle of a turn
    life.becomes("stays", state="running")
    (one,) = [pid for pid in home.servers() if b"\0one\0" in command_of(pid)]
    started = len(home.servers())

    home.write(
        home.agent("added", **servers("three")),
        home.agent("changes", system_prompt="Be brief.", **servers("two")),
        home.agent("stays", **servers("one")),
    )
    life.send(signal.SIGHUP)
    life.logs("the configuration was reloaded: 3 agents")
    eventually(lambda: len(home.servers()) == started + 2)
    assert [agent["name"] for agent in life.status()["agents"]] == ["added", "changes", "stays"]
    gate.gate.set()
    life.logs("stays: ")
    assert life.becomes("stays", state="idle")["last_result"] == "well"
    assert one in home.living_servers()
    assert len(home.living_servers()) == 3

    home.asked("resources/read", 4)
    home.post("two", "new")
    requests = home.requests(2)
    assert "Be brief." in str(requests[1]["messages"][0]["content"])
    assert life.becomes("changes", state="idle", last_result="changed")

    home.write(home.agent("stays", **servers("one")))
    life.send(signal.SIGHUP)
    eventually(lambda: home.living_servers() == [one])
    eventually(lambda: [agent["name"] for agent in life.status()["agents"]] == ["stays"])
    assert life.stop() == 0


def test_hup_with_a_broken_configuration_keeps_the_old_one_and_names_the_mistake(home: Home) -> None:
    home.write(home.agent())
    life = home.start()
    life.becomes("a", state="idle")
    home.file.write_text("agents: [{name: a, model: 7}]")
    life.send(signal.SIGHUP)
    life.logs("the old one stays")
    life.logs("agents.yaml:1:27: agents[0].model: must be a string, got 7")
    assert life.status("a")["model"] == "m"
    home.file.unlink()
    life.send(signal.SIGHUP)
    life.logs("the old one stays", 2)
    assert life.status("a")["state"] == "idle"
    assert life.stop() == 0


def test_a_change_reaches_agents_that_are_parked_or_wait_for_their_next_try(home: Home) -> None:
    watched = {"mcp_servers": [home.server()], "subscriptions": ["board://page"]}
    away = {"base_url": "http://127.0.0.1:9/v1"}
    slow = {"retries": 9, "backoff_s": 500.0, "max_backoff_s": 500.0}
    home.post("page", "old")
    home.write(
        home.agent("parked", on_error={"retries": 0}, **away, **watched),
        home.agent("waits", on_error=slow, **away, **watched),
    )
    life = home.start()
    home.seen("page", "parked", "waits")
    home.post("page", "new")
    life.becomes("parked", state="parked", queued=1)
    waiting = life.becomes("waits", state="retrying")
    assert waiting["next_try_at"] is not None
    assert "again in" in life.log
    home.write(home.agent("parked", **watched), home.agent("waits", **watched))
    life.send(signal.SIGHUP)
    for name in ("parked", "waits"):
        assert life.becomes(name, state="idle", last_result="well")["last_error"] == ""
    assert len(home.requests(2)) == 2  # the trigger of each, and none was lost
    assert life.stop() == 0


def test_hup_while_once_works_changes_nothing(home: Home) -> None:
    home.model.answers[:] = [slow := Answer(text="well", wait_after=2)]
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "new")
    life = home.start("--once")
    home.requests(1)
    home.write(home.agent("another"))
    life.send(signal.SIGHUP)
    slow.gate.set()
    assert life.wait() == 0
    assert "another" not in life.log
