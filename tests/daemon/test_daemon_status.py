"""What a running daemon tells of itself: to `agentd status`, and to systemd."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from agentd_daemon.notify import Notifier
from agentd_daemon.status import StatusError, ask_status, serve_status
from fake_openai import Answer
from life import Home, eventually


def test_the_table_and_the_json_show_agents_servers_queues_and_errors(home: Home) -> None:
    watched = {"mcp_servers": [home.server(name="files")], "subscriptions": ["board://page", "board://more"]}
    home.post("page", "old")
    home.post("more", "old")
    home.model.answers[:] = [Answer(text="a [bold]fine[/] day", wait_after=4)]
    home.write(
        home.agent("busy", **watched),
        home.agent("lost", mcp_servers=[home.server(name="gone", command="no-such-program")]),
        *(home.agent(f"idle-{n}") for n in range(20)),
    )
    life = home.start()
    home.seen("page", "busy")
    home.seen("more", "busy")
    home.post("page", "new")
    home.requests(1)
    home.post("more", "new")
    busy = life.becomes("busy", state="running", queued=1)
    assert busy["servers"] == [{"name": "files", "state": "up", "error": ""}]

    told = home.run("status", "--state-dir", str(home.state), "--json")
    status = json.loads(told.stdout)
    assert told.returncode == 0
    assert status["pid"] == life.process.pid
    names = ["busy", "lost", *(f"idle-{n}" for n in range(20))]
    assert [agent["name"] for agent in status["agents"]] == names

    home.model.answers[0].gate.set()
    life.becomes("busy", state="idle", queued=0, turns=2)
    table = home.run("status", "--state-dir", str(home.state)).stdout
    assert f"daemon, pid {life.process.pid}" in table
    row = next(line for line in table.splitlines() if line.startswith("busy"))
    assert row.split("  ")[1:4] == ["idle", "0", "2"]
    assert row.split("  ")[6:] == ["files up", "-", "a [bold]fine[/] day"]
    heading = "daemon, pid {}\nagent  state  queued  turns  cost  last  servers  asks  result or error\n"
    assert table.startswith(heading.format(life.process.pid))
    assert "\nidle-0  idle  0  0  -  -  -  -  -\n" in table
    assert life.stop() == 0


def test_status_finds_the_daemon_by_its_configuration_even_a_broken_one(home: Home) -> None:
    home.write(home.agent(), state_dir=str(home.state))
    life = home.start()
    life.becomes("a", state="idle")
    assert home.run("status", "agents.yaml").returncode == 0
    life.stop()
    gone = home.run("status", "agents.yaml", "--json")
    assert gone.returncode == 1
    assert json.loads(gone.stdout) == {"agents": [], "pid": None}


def test_without_a_file_or_folder_status_says_what_it_needs(home: Home) -> None:
    result = home.run("status")
    assert result.returncode == 2
    assert "--state-dir" in result.stderr


def test_a_daemon_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd_daemon.status.TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "control.sock"))
        stopped.listen(0)
        for _ in range(3):  # the backlog fills up: then connecting fails already
            with pytest.raises(StatusError, match="does not answer within"):
                ask_status(tmp_path / "control.sock")


def test_a_full_table_of_descriptors_does_not_end_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agentd_daemon.status.ACCEPT_AGAIN_S", 0.01)
    path = tmp_path / "control.sock"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(serve_status, path, list)
            with socket.socket(socket.AF_UNIX) as client:
                free = os.dup(0)
                os.close(free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
                try:
                    client.connect(str(path))
                    with anyio.fail_after(30):
                        while "could not be taken: [Errno 24]" not in caplog.text:
                            await anyio.sleep(0.01)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            status = await anyio.to_thread.run_sync(ask_status, path)
            assert status is not None
            assert status["agents"] == []
            group.cancel_scope.cancel()

    anyio.run(main)
    assert not path.exists()


def test_those_who_ask_and_do_not_read_hold_nobody_up(home: Home) -> None:
    home.write(
        home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]),
        *(home.agent(f"agent-{n:02}", system_prompt="x") for n in range(60)),
    )
    home.post("page", "old")
    life = home.start()
    home.seen("page")
    askers = []
    for _ in range(50):
        asker = socket.socket(socket.AF_UNIX)
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        asker.connect(str(home.state / "control.sock"))
        askers.append(asker)
    home.post("page", "new")
    life.becomes("a", state="idle", turns=1)
    for asker in askers:
        asker.close()
    assert life.stop() == 0


# --- systemd -------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(60)
        yield receiver


def test_systemd_hears_of_ready_reload_life_and_stop(home: Home, manager: socket.socket) -> None:
    def next_state() -> dict[str, str]:
        while True:
            text = manager.recv(4096).decode()
            if text != "WATCHDOG=1":
                return dict(line.split("=", 1) for line in text.splitlines())
            signs.append(text)

    signs: list[str] = []
    home.env |= {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    home.write(home.agent(), home.agent("b"))
    life = home.start()
    assert next_state() == {"READY": "1", "STATUS": "2 agents"}
    before = time.monotonic_ns() // 1000
    home.write(home.agent())
    life.send(signal.SIGHUP)
    reloading = next_state()
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert next_state() == {"READY": "1", "STATUS": "1 agent"}
    assert manager.recv(4096) == b"WATCHDOG=1"
    life.send(signal.SIGTERM)
    assert next_state() == {"STOPPING": "1"}
    assert life.wait() == 0


def test_a_manager_that_does_not_read_holds_nobody_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    notifier = Notifier()
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            try:
                while True:
                    other.sendto(b"x", manager.getsockname())
            except BlockingIOError:
                notifier.ready(1)
        done.set()

    threading.Thread(target=send, daemon=True).start()
    assert done.wait(30)


@pytest.mark.parametrize(
    ("usec", "pid", "wanted"),
    [("2000000", "", 2.0), ("2000000", "own", 2.0), ("2000000", "1", 0.0), ("soon", "", 0.0), ("", "", 0.0)],
)
def test_the_watchdog_is_taken_from_the_environment_if_it_means_this_process(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, wanted: float
) -> None:
    from agentd_daemon.notify import _watchdog_s

    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert _watchdog_s() == wanted


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready(1)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().stopping()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0agentd-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@agentd-test-{os.getpid()}")
        Notifier().stopping()
        assert eventually(lambda: receiver.recv(100)) == b"STOPPING=1"
