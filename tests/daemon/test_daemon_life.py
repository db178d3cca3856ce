"""The daemon from its start to its end: what it reads, what it leaves, who else may use its folder."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from life import Home, said

pytestmark = pytest.mark.slow

# The example of agentd 0.8.6: a subscription to a tool of a server that offers no subscriptions, and a second
# server of which the agent has two tools.
OLD = """
agents:
  - name: news_agent
    model: gpt-4o-mini
    system_prompt: |
      You keep the news up to date.
    mcp_servers:
      - type: stdio
        command: {python}
        arguments: ["-S", "{server}", "{folder}", "polled"]
        env_vars: ["LOG_LEVEL=info"]
      - type: stdio
        command: {python}
        arguments: ["-S", "{server}", "{folder}", "kept"]
        tool_filter: ["post", "read"]
    subscriptions:
      - "tool://read/?name=page"
"""


def test_a_configuration_of_agentd_0_8_6_runs_unchanged(home: Home) -> None:
    python, script, folder = home.server("polled")["command"], home.server()["arguments"][1], home.board
    home.file.write_text(OLD.format(python=python, server=script, folder=folder))
    home.post("page", "the news")
    life = home.start("--once")
    assert life.wait() == 0, life.log
    (request,) = home.model.requests
    assert "<content>\nthe news\n</content>" in said(request)
    assert request["model"] == "gpt-4o-mini"


def test_a_file_is_the_same_as_the_command_daemon_with_it(home: Home) -> None:
    home.write(home.agent())
    short = home.run(str(home.file), "--once")
    long = home.run("daemon", str(home.file), "--once")
    assert (short.returncode, long.returncode) == (0, 0), short.stderr + long.stderr


def test_several_files_are_one_configuration(home: Home) -> None:
    home.write(home.agent("first"))
    second = home.cwd / "second.yml"
    second.write_text("agents: [{name: second, model: m}]")
    life = home.start(str(second))
    assert [agent["name"] for agent in life.status()["agents"]] == ["first", "second"]
    assert life.stop() == 0


def test_a_broken_configuration_prints_each_problem_on_a_line_of_its_own(home: Home) -> None:
    home.file.write_text("agents:\n  - name: a\n    moddel: m\n  - name: b\n    model: m\n    mode: code\n")
    result = home.run("agents.yaml")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines[-1] == "agentd: the configuration cannot be used"
    assert [line.split(": ")[0] for line in lines[:-1]] == [*("agents.yaml:3:5", "agents.yaml:6:11")]
    assert "did you mean 'model'?" in lines[0]


def test_a_file_that_is_not_there_is_named(home: Home) -> None:
    result = home.run("gone.yaml")
    assert result.returncode == 2
    assert "gone.yaml" in result.stderr
    assert "Traceback" not in result.stderr


# --- the state folder ----------------------------------------------------------------------------


def test_of_two_daemons_on_one_folder_the_second_refuses_and_names_the_first(home: Home) -> None:
    home.write(home.agent())
    first = home.start()
    assert first.status()["pid"] == first.process.pid
    second = home.start()
    assert second.wait() == 2
    assert f"a daemon with the pid {first.process.pid} already works in the state folder" in second.log
    assert "--state-dir" in second.log
    assert first.status()["pid"] == first.process.pid  # its socket is still its own
    assert first.stop() == 0


def test_a_file_that_there_is_not_is_told_as_such(home: Home) -> None:
    for command in (("status",), ("approvals", "list"), ("approvals", "allow", "1k1ec7ysh4c")):
        told = home.run(*command, "agnets.yaml")
        assert told.returncode == 2
        assert "there is no file 'agnets.yaml', and no daemon was started with it" in told.stderr


def test_the_next_daemon_takes_over_the_folder_of_one_that_was_killed(home: Home) -> None:
    home.write(home.agent())
    first = home.start()
    first.status()
    first.send(signal.SIGKILL)
    first.wait()
    socket = home.state / "control.sock"
    assert socket.exists()
    told = home.run("status", "--state-dir", str(home.state))
    assert (told.returncode, told.stderr.strip()) == (
        1,
        f"no daemon runs in {home.state}; `agentd FILE...` starts one",
    )
    second = home.start()
    assert second.status()["pid"] == second.process.pid
    assert second.stop() == 0
    assert not socket.exists()


def test_without_a_state_folder_the_files_have_one_of_their_own(home: Home) -> None:
    home.write(home.agent())
    assert home.run("agents.yaml", "--once").returncode == 0
    (folder,) = Path(home.env["XDG_STATE_HOME"], "agentd", "daemon").iterdir()
    assert folder.name.startswith("agents-")
    told = home.run("status", "agents.yaml")
    assert str(folder) in told.stderr


def test_others_can_read_nothing_of_what_the_daemon_keeps(home: Home) -> None:
    home.write(home.agent(mcp_servers=[home.server()], mode="ptc", checkpoints=True))
    os.umask(previous := os.umask(0))  # the one of the test, which the daemon inherits
    life = home.start(umask=0)
    life.becomes("a", state="idle")
    os.umask(previous)
    modes = {
        p.relative_to(home.state): stat.S_IMODE(p.lstat().st_mode)
        for p in [home.state, *home.state.iterdir()]
    }
    life.stop()
    assert Path("control.sock") in modes
    assert Path("journal.db") in modes
    open_to_others = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert open_to_others == {}


def test_a_state_folder_whose_path_is_too_long_for_a_socket_works(home: Home) -> None:
    home.state = home.cwd / ("long" * 30) / ("deep" * 30)
    home.write(home.agent())
    life = home.start()
    assert life.status()["agents"][0]["name"] == "a"
    assert home.run("status", "--state-dir", str(home.state)).returncode == 0
    assert life.stop() == 0
    assert not (home.state / "control.sock").exists()


def test_a_state_folder_that_cannot_be_made_is_named(home: Home) -> None:
    home.write(home.agent())
    home.state = home.file / "below-a-file"
    life = home.start()
    assert life.wait() == 4
    assert f"the state folder {str(home.state)!r} cannot be used" in life.log


# --- with and without a person -------------------------------------------------------------------


def test_without_a_terminal_there_is_no_prompt_and_the_daemon_just_works(home: Home) -> None:
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "old")
    life = home.start()  # with /dev/null as its standard input
    life.becomes("a", state="idle")
    home.seen("page")
    home.post("page", "new")
    home.requests(1)
    life.logs("done")
    life.becomes("a", state="idle")
    assert life.stop() == 0
    assert ">" not in (life.process.stdout.read() if life.process.stdout else "")
    assert "Traceback" not in life.log


def test_with_all_standard_streams_closed_it_works_and_ends(home: Home) -> None:
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "old")

    def close_all() -> None:
        for number in (0, 1, 2):
            os.close(number)

    command = home.command(str(home.file), "--state-dir", str(home.state))
    with subprocess.Popen(command, env=home.env, cwd=home.cwd, preexec_fn=close_all) as process:
        try:
            home.seen("page")
            home.post("page", "new")
            home.requests(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_quiet_logs_warnings_only(home: Home) -> None:
    home.write(home.agent(), home.agent("b", mcp_servers=[home.server()], subscriptions=["nowhere://x"]))
    life = home.start("--quiet", "--once")
    assert life.wait() == 1
    assert len(life.lines) == 1, life.log
    assert "ERROR b: " in life.log


# --- once ----------------------------------------------------------------------------------------


def test_once_handles_what_is_there_and_ends(home: Home) -> None:
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page", "board://other"]))
    home.post("page", "first")
    home.post("other", "second")
    assert home.start("--once").wait() == 0
    assert [("first" in said(r), "second" in said(r)) for r in home.model.requests] == [
        (True, False),
        (False, True),
    ]
    assert home.start("--once").wait() == 0  # nothing has changed since
    assert len(home.model.requests) == 2
    assert not home.living_servers()


def test_once_ends_with_1_if_something_failed(home: Home) -> None:
    home.write(
        home.agent(
            mcp_servers=[home.server()],
            subscriptions=["board://page"],
            on_error={"retries": 0},
            base_url="http://127.0.0.1:9/v1",
        ),
        home.agent("b", mcp_servers=[home.server()], subscriptions=["board://page"]),
    )
    home.post("page", "new")
    life = home.start("--once")
    assert life.wait() == 1
    assert "a: parked" in life.log
    assert len(home.model.requests) == 1  # b's


# --- output --------------------------------------------------------------------------------------


def test_json_prints_the_events_of_all_agents(home: Home) -> None:
    servers = {"mcp_servers": [home.server()], "subscriptions": ["board://page"]}
    home.write(home.agent("a", **servers), home.agent("b", **servers))
    home.post("page", "new")
    life = home.start("--once", "--json")
    assert life.process.stdout is not None
    events = [json.loads(line) for line in life.process.stdout]
    assert life.wait() == 0
    for agent in ("a", "b"):
        types = [event["type"] for event in events if event["agent"] == agent]
        assert types[0] == "run_start"
        assert types[-1] == "run_end"
        assert "well" in "".join(e.get("text", "") for e in events if e["agent"] == agent)


def test_a_reader_of_the_events_that_goes_away_ends_the_daemon(home: Home) -> None:
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "old")
    life = home.start("--json")
    home.seen("page")
    assert life.process.stdout is not None
    life.process.stdout.close()
    home.post("page", "new")
    assert life.wait() == 141
    assert "Traceback" not in life.log


def test_a_reader_of_the_events_that_pauses_holds_nobody_up(home: Home) -> None:
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "old")
    home.model.answers[0].text = "word " * 1_000  # more than a pipe holds
    life = home.start("--json")
    home.seen("page")
    for number in (1, 2):
        home.post("page", f"new {number}")
        life.logs(" done", number)
    assert life.stop() == 0


def test_env_files_are_not_read(home: Home) -> None:
    """agentd 0.8 read `.env` of the directory that it was started in; the environment alone counts now."""
    (home.cwd / ".env").write_text("OPENAI_BASE_URL=http://127.0.0.1:9/v1\nAGENT_NAME=other\n")
    home.write(home.agent("${AGENT_NAME:-mine}", mcp_servers=[home.server()], subscriptions=["board://page"]))
    home.post("page", "new")
    life = home.start("--once")
    assert life.wait() == 0, life.log
    assert "mine: " in life.log
    assert len(home.model.requests) == 1
