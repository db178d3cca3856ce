"""What is wrong on the command line is told when the server starts, not to the first client that calls a tool."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from mcp_serving import command

pytestmark = pytest.mark.slow  # each test starts a server


@pytest.mark.parametrize("more", [[], ["--http", "0"]], ids=["stdio", "http"])
@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--policy", "nope", "neither a preset ('read-only', 'ask-writes', 'yolo') nor a file"),
        ("--policy", "bad.yaml", "bad.yaml:1:1: rules: must be a list of rules, got 3"),
        ("--executor", "subproces", "did you mean 'subprocess'?"),
        ("-o", "nope=1", "unknown option 'nope' of the executor 'subprocess'; there are: "),
        ("--mcp-config", "missing.json", "File 'missing.json' does not exist"),
        ("--mcp-config", "broken.json", "broken.json: is no JSON"),
        ("--mcp-config", "wrong.json", "must be"),
        ("--tool", "missing.py", "there is no file 'missing.py'"),
        ("--tool", "broken.py", "broken.py:1: SyntaxError"),
        ("--cwd", "/proc/none/here", "cannot be made"),
    ],
)
def test_what_is_wrong_is_told_at_the_start(
    tmp_path: Path, more: list[str], option: str, value: str, told: str
) -> None:
    (tmp_path / "bad.yaml").write_text("rules: 3\n")
    (tmp_path / "broken.json").write_text("{nope")
    (tmp_path / "wrong.json").write_text('{"mcpServers": {"shop": {"command": 3}}}')
    (tmp_path / "broken.py").write_text("def f(:\n")
    done = subprocess.run(
        [*command(tmp_path), *more, option, value],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode in (2, 4)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("where", ["99999", "-1", "abc", "", "127.0.0.1:", "[::1]:1e3", "٣"])
def test_what_is_no_port_is_told_with_those_that_are(tmp_path: Path, where: str) -> None:
    told = refused(tmp_path, "--http", where)
    assert f"PORT or HOST:PORT with a port from 1 to 65535, or 0 for a free one; got {where!r}" in told


def test_an_executor_that_cannot_run_is_told_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_SRT", "/no/srt")
    told = refused(tmp_path, "-e", "srt")
    assert "the executor 'srt' does not work: " in told
    assert "no such file: /no/srt; install it with: npm install -g" in told


def test_a_port_that_is_in_use_and_a_host_that_is_none_are_told_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(tmp_path, "--http", str(port))
    assert (
        f"--http 127.0.0.1:{port}: cannot listen on port {port} of 127.0.0.1: something listens there" in told
    )
    told = refused(tmp_path, "--http", "host.invalid:1", "--token-env", "HOME")
    assert "no address of 'host.invalid' is known" in told


def refused(folder: Path, *more: str) -> str:
    done = subprocess.run(
        command(folder, *more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_nothing_is_started_or_written_for_the_check(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(
        '{"mcpServers": {"marks": {"command": "touch", "args": ["%s"]}}}' % (tmp_path / "started")
    )
    done = subprocess.run(
        command(tmp_path, "--mcp-config", str(tmp_path / "servers.json")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "started").exists()
    assert list((tmp_path / "w").iterdir()) == []
