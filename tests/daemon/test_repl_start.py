"""When there is a REPL, and what is said when there is none."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from agentd_cli.prompt import prompt_possible
from agentd_daemon.repl import run_repl
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from repl_daemon import ToldDaemon


def test_a_pipe_a_file_and_a_closed_stream_make_no_repl(tmp_path: Path) -> None:
    terminal, other_end = os.openpty()
    with open(terminal, "w") as tty, open(os.devnull) as null, open(other_end) as source:
        assert prompt_possible(source, tty)
        assert not prompt_possible(null, tty)
        assert not prompt_possible(source, io.StringIO())
        assert not prompt_possible(None, tty)
    assert not prompt_possible(source, tty)


def test_a_process_in_the_background_of_a_terminal_has_no_repl() -> None:
    code = """
import fcntl, os, sys, termios
from agentd_cli.prompt import prompt_possible
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
print(prompt_possible(sys.stdin, sys.stdout), file=sys.stderr, flush=True)
if (child := os.fork()) == 0:
    os.setpgid(0, 0)
    print(prompt_possible(sys.stdin, sys.stdout), file=sys.stderr, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    master, slave = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=60,
            text=True,
        )
    finally:
        os.close(master)
        os.close(slave)
    assert done.stderr.split() == ["True", "False"]


def test_without_prompt_toolkit_the_error_has_the_pip_command() -> None:
    code = """
import sys
sys.modules["prompt_toolkit"] = None
import anyio
from agentd_cli.prompt import prompt_possible
from agentd_daemon.repl import run_repl
assert not prompt_possible(None, None)
try:
    anyio.run(run_repl, None)
except ImportError as exc:
    print(type(exc).__name__, exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("MissingPluginError")
    assert "pip install agentd-daemon[prompt]" in done.stdout


def test_the_repl_module_costs_nothing_before_it_is_run() -> None:
    code = "import sys, agentd_daemon.repl; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"prompt_toolkit", "rich", "anyio"} & set(done.stdout.split())


def test_lines_that_were_entered_before_quitting_are_carried_out(tmp_path: Path) -> None:
    async def talk(log: int) -> None:
        daemon = ToldDaemon(log)
        with create_pipe_input() as keys:
            keys.send_text("first\rsecond\r\x04")
            await run_repl(daemon, input=keys, output=DummyOutput(), agent="mail")
        assert daemon.stopped.is_set()

    reading, writing = os.pipe()
    anyio.run(talk, writing)
    os.close(writing)
    with open(reading) as log:
        assert log.read().splitlines() == [
            '["listen"]',
            '["submit", "mail", "first"]',
            '["submit", "mail", "second"]',
            '["stop", 0]',
        ]


@pytest.mark.parametrize("damage", [b"\xff\xfe no history\n+a\n", b"\n# then\n+kept\n" * 60_000])
def test_a_damaged_or_huge_history_file_is_no_hindrance(tmp_path: Path, damage: bytes) -> None:
    from agentd_cli.prompt.past import open_past

    file = tmp_path / "history"
    file.write_bytes(damage)
    past = open_past(file)
    past.append_string("newest\nline")
    assert next(iter(open_past(file).load_history_strings())) == "newest\nline"
    assert file.stat().st_size <= 512 * 1024
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_history_that_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    from agentd_cli.prompt.past import open_past

    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (None, link, tmp_path / "missing" / "history"):
        past = open_past(path)
        past.append_string("typed")
        assert past.get_strings() == ["typed"]
    assert not (tmp_path / "elsewhere").exists()
