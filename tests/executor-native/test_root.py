"""As root: code is an unprivileged user, and no file changes its owner."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import native
import pytest
from agentd.errors import RunnerDiedError
from agentd_executor_native import launching, root_launcher
from agentd_executor_native.root_mounts import exchanged
from life import started_at

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about what root's sandboxes do")


@ROOT_ONLY
def test_code_is_a_user_without_an_account_and_what_it_makes_is_the_owner_s(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    (workspace / "old").write_text("old")
    (workspace / "old").chmod(0o600)
    with native.make(workspace) as executor:
        uid = int(executor.execute_bash("id -u")[0])
        assert uid >= 1 << 30
        assert executor.execute_bash(
            "whoami; id -G; cat old; echo new > old; mkdir -p a/b; stat -c %u old"
        ) == (
            f"agentd\n{uid}\nold{uid}\n",
            0,
        )
        assert {path.lstat().st_uid for path in (workspace, workspace / "old", workspace / "a")} == {0}
        assert executor.execute_python("import getpass; print(getpass.getuser())") == ("agentd\n", 0)
    assert {path.lstat().st_uid for path in (workspace, *workspace.rglob("*"))} == {0}
    assert (workspace / "old").read_text() == "new\n"


@ROOT_ONLY
def test_a_workspace_of_another_user_stays_his_and_a_third_user_s_files_too(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    (workspace / "his").write_text("x")
    (workspace / "third").write_text("x")
    for path, owner in ((workspace, 12345), (workspace / "his", 12345), (workspace / "third", 777)):
        os.chown(path, owner, owner)
    with native.make(workspace) as executor:
        assert executor.execute_bash("echo y > his && echo z > new && echo done") == ("done\n", 0)
        assert executor.execute_bash("echo y > third")[1] != 0
        assert executor.execute_bash("rm -f third; echo done") == ("done\n", 0)  # the folder is his
    assert {path.name: path.stat().st_uid for path in workspace.iterdir()} == {"his": 12345, "new": 12345}


@ROOT_ONLY
def test_closed_folders_of_root_on_the_way_are_passed_through_and_not_laid_open(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "w").mkdir(parents=True)
    (closed / "secret").write_text("s3cr3t")
    closed.chmod(0o700)
    with native.make(closed / "w") as executor:
        assert executor.execute_bash("echo x > made && cat made") == ("x\n", 0)
        assert executor.execute_bash(f"cat {closed}/secret")[1] != 0
    assert (closed / "w/made").stat().st_uid == 0


@pytest.mark.parametrize(("owner", "uid"), [(0, 0), (0, 0x70000000), (1000, 0x70000001), (1000, 1001)])
def test_a_map_exchanges_two_ids_and_leaves_all_others(owner: int, uid: int) -> None:
    lines = [tuple(map(int, line.split())) for line in exchanged(owner, uid).splitlines()]
    assert sum(count for _, _, count in lines) == (1 << 32) - 1

    def through(number: int) -> int:
        return next(out + number - into for into, out, count in lines if into <= number < into + count)

    assert (through(owner), through(uid)) == (uid, owner)
    others = {0, 1, 999, 1000, 1001, 1002, 65534, 0x6FFFFFFF, 0x70000002, (1 << 32) - 2} - {owner, uid}
    assert all(through(number) == number for number in others)


def server_pid() -> int:
    server = launching._root_server._server
    assert server is not None
    return server._process.pid


@ROOT_ONLY
def test_sandboxes_are_forked_from_one_process_that_holds_nothing_of_them(tmp_path: Path) -> None:
    with native.make(tmp_path / "a", env={"MINE": "mine"}) as first:
        first.execute_bash("true")
        pid = server_pid()
        with native.make(tmp_path / "b") as second:
            assert second.execute_bash("echo on; cat /proc/1/stat | cut -d' ' -f4") == ("on\n0\n", 0)
            assert server_pid() == pid
        assert first.execute_bash("echo $MINE") == ("mine\n", 0)
        # One leads to the process that waits for the next sandbox, one to a view of mounts.
        assert len(os.listdir(f"/proc/{pid}/fd")) == 5
        assert b"mine" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert Path(f"/proc/{pid}/mountinfo").read_bytes() == Path("/proc/self/mountinfo").read_bytes()
        for namespace in ("mnt", "user", "net", "pid"):
            assert os.readlink(f"/proc/{pid}/ns/{namespace}") == os.readlink(f"/proc/self/ns/{namespace}")


@ROOT_ONLY
def test_if_it_is_killed_sandboxes_end_with_it_and_the_next_one_starts(tmp_path: Path) -> None:
    with native.make(tmp_path / "a") as executor:
        executor.execute_bash("true")
        sandbox = executor._connection.process.pid  # type: ignore[union-attr]
        os.kill(server_pid(), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while started_at(sandbox):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:
            executor.execute_bash("true")
        except RunnerDiedError:  # if it had not noticed yet
            pass
        output, code = executor.execute_bash("echo on")
        assert output.startswith("on\n")
        assert code == 0


@ROOT_ONLY
def test_without_it_a_sandbox_starts_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptors: object) -> None:
        return None

    monkeypatch.setattr(launching._root_server, "fork", refuse)
    with native.make(tmp_path / "a") as executor:
        assert executor.execute_bash("echo on") == ("on\n", 0)


@ROOT_ONLY
def test_descriptors_of_a_program_that_has_many_open_arrive(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    null = os.open(os.devnull, os.O_RDONLY)
    many = [os.dup(null) for _ in range(1200)]
    try:
        with native.make(tmp_path / "a") as executor:
            assert executor.execute_bash("echo on; cat /etc/passwd | grep -c agentd") == ("on\n1\n", 0)
    finally:
        for descriptor in (null, *many):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@ROOT_ONLY
def test_each_sandbox_has_a_network_of_its_own_with_a_loopback_and_nothing_else(tmp_path: Path) -> None:
    show = (
        "readlink /proc/self/ns/net; cut -d: -f1 -s /proc/net/dev; tail -n +2 /proc/net/route; "
        "ls /proc/sys/net/ipv4/conf"
    )
    serve = (
        "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(s.getsockname(), 5)\nprint('there')"
    )
    seen = {os.readlink("/proc/self/ns/net")}
    for name in "ab":
        with native.make(tmp_path / name) as executor:
            words = executor.execute_bash(show)[0].split()
            assert words[0] not in seen
            seen.add(words[0])
            assert words[1:] == ["lo", "all", "default", "lo"]
            assert executor.execute_bash("echo 1 > /proc/sys/net/ipv4/ip_forward")[1] != 0
            assert executor.execute_python(serve) == ("there\n", 0)


@ROOT_ONLY
def test_where_no_network_can_be_made_ahead_bubblewrap_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(root_launcher.__file__).parent
    source = (folder / "root_launcher.py").read_text()
    assert "_libc.unshare(_CLONE_NEWNET)" in source
    (tmp_path / "root_launcher.py").write_text(source.replace("_libc.unshare(_CLONE_NEWNET)", "1"))
    for name in ("root_mounts.py", "sandbox_fork.py"):
        shutil.copy(folder / name, tmp_path)
    boot = root_launcher.BOOT.format(packages={**launching._PACKAGES, "_agentd_launcher": str(tmp_path)})
    monkeypatch.setattr(launching, "_ROOT_LAUNCHER", (*launching._ROOT_LAUNCHER[:-1], boot))
    monkeypatch.setattr(launching, "_root_server", launching.RootForkServer())
    with native.make(tmp_path / "a") as executor:
        assert executor.execute_bash("readlink /proc/self/ns/net")[0].strip() != os.readlink(
            "/proc/self/ns/net"
        )
        assert executor.execute_bash("cut -d: -f1 -s /proc/net/dev")[0].split() == ["lo"]
    launching._root_server.close()


_FIRST_SANDBOX = """\
from agentd_runner.host.command_sandbox import CommandSandbox

import agentd_executor_native, agentd_runner
assert {folder!r} in agentd_executor_native.__file__ and {folder!r} in agentd_runner.__file__
with CommandSandbox("native", options={options!r}) as sandbox:
    print(sandbox.run_sync(["echo", "hi"]).stdout)
"""


@pytest.mark.parametrize("options", [{}, {"allowed_hosts": ["example.com"]}], ids=["no network", "hosts"])
def test_a_program_s_first_sandbox_starts_where_agentd_is_installed_in_tmp(options: dict[str, Any]) -> None:
    # the sandbox has a /tmp of its own: what a process imports behind that point is not there any more
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for name in ("agentd_executor_native", "agentd_runner"):
            package = importlib.util.find_spec(name)
            assert package is not None
            assert package.origin is not None
            shutil.copytree(Path(package.origin).parent, Path(folder, name))
        program = [sys.executable, "-c", _FIRST_SANDBOX.format(folder=folder, options=options)]
        done = subprocess.run(
            program, env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, timeout=60
        )
    assert (done.stdout, done.stderr) == ("b'hi\\n'\n", "")
