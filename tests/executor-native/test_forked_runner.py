"""As root, the runner is forked in its sandbox: confined as one that is executed there, with nothing of the host."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import native
import pytest
from agentd_executor_native import launching

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: of other users, the runner is executed in the sandbox"
)

LOOK = r"""
import os, re, socket, sys

def status(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    kept = ("Groups", "Cap", "NoNewPrivs", "Seccomp", "NStgid", "NSpgid", "Threads", "Sig", "Shd")
    return [line for line in lines if line.startswith(kept) and not line.startswith(("SigQ", "SigPnd"))]

print(status(1)[:1], [line for line in status(1) if not line.startswith("NS")])
print([line for line in status("self") if not line.startswith("NS")])
print(sorted(line.split(" ", 3)[3].split()[1:3] for line in open("/proc/self/mountinfo")))
print(open("/proc/self/setgroups").read(), open("/proc/sys/user/max_user_namespaces").read())
print(socket.gethostname(), sorted(os.listdir("/proc/self/fd"))[:-1])
for name in ("keys", "kmsg", "kallsyms"):
    try:
        print(name, len(open(f"/proc/{name}", "rb").read(1)))
    except OSError as error:
        print(name, error)
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream, stream.errors, stream.line_buffering, stream.write_through, stream.seekable(), stream.isatty())
print(sys.flags, sys.argv, sys.executable, sys.path[:4], os.getpriority(0, 0), os.umask(0))
"""

SEARCH = r"""
begins, ends, found, bytes_read = {begins!r}, {ends!r}, 0, 0  # the whole word is nowhere in this block
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
    for line in maps.read().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if "r" in line.split()[1] and "[v" not in line:
            memory.seek(begin)
            part = memory.read(end - begin)
            bytes_read += len(part)
            at = part.find(begins)
            while at >= 0:
                found += part[at + 16 : at + 32] == ends
                at = part.find(begins, at + 1)
print(found, bytes_read > 1 << 20)
"""


def _search(word: str) -> str:
    return SEARCH.format(begins=word[:16].encode(), ends=word[16:].encode())


def _is_forked(executor: native.NativeExecutor) -> bool:
    return "_agentd_launcher" in executor.execute_bash("tr '\\0' ' ' < /proc/1/cmdline")[0]


def _seen(executor: native.NativeExecutor, workspace: Path) -> str:
    output, code = executor.execute_python(LOOK)
    assert code == 0, output
    return re.sub("0x[0-9a-f]+", "", output.replace(str(workspace), "W"))


def test_it_is_confined_as_one_that_is_executed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "w"
    with native.make(workspace) as executor:
        assert _is_forked(executor)
        forked = _seen(executor, workspace)
    monkeypatch.setattr(launching, "folder_command", lambda _: [])
    with native.make(workspace) as executor:
        assert not _is_forked(executor)
        assert _seen(executor, workspace) == forked


def test_no_process_but_the_runner_s_is_there_when_code_runs(tmp_path: Path) -> None:
    show = "cd /proc; for p in [0-9]*; do read -r c < $p/comm && echo $c; done"
    for number in range(3):
        with native.make(tmp_path / str(number)) as executor:
            assert set(executor.execute_bash(show)[0].split()) == {"python", "bash"}


def test_its_memory_has_nothing_of_the_program_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = secrets.token_hex(16)
    monkeypatch.setenv("AGENTD_TEST_SECRET", word)
    for name in "ab":  # the second one is forked by a process that has seen a sandbox start
        with native.make(tmp_path / name, env={"OF_ONE_SESSION": word} if name == "a" else {}) as executor:
            assert _is_forked(executor)
            if name == "b":
                assert executor.execute_python(_search(word)) == ("0 True\n", 0)
                own = secrets.token_hex(16)
                code = f"own = {own[:16]!r} + {own[16:]!r}\nassert own.isalnum()\n{_search(own)}"
                assert not executor.execute_python(code)[0].startswith("0")  # it would be found


def test_another_interpreter_is_executed_in_the_sandbox(tmp_path: Path) -> None:
    with native.make(tmp_path / "w", python=os.path.realpath("/proc/self/exe")) as executor:
        assert not _is_forked(executor)
        assert executor.execute_python("print(6 * 7)") == ("42\n", 0)


def test_what_waits_for_it_ends_with_its_exit_code_and_takes_it_along(tmp_path: Path) -> None:
    with native.make(tmp_path / "w") as executor:
        assert executor.execute_bash("echo on") == ("on\n", 0)
        process = executor._connection.process
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1
        process.kill()
        assert process.wait(5.0) is not None
        pidfd = Path(f"/proc/{children[0]}")
        while pidfd.exists() and "Z" not in (pidfd / "stat").read_text().rpartition(")")[2].split()[0]:
            os.sched_yield()
