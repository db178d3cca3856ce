"""What agentd adds to srt: a filter of system calls and an IPC namespace. What is tried is harmless if it works."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sandbox
from agentd.errors import SandboxUnavailableError
from agentd.types import BashAction
from agentd_executor_srt import additions
from agentd_executor_srt.additions import filtered, lacking_additions
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_executor_srt.inside.write_guard import can_guard_writes, writable_mounts
from agentd_executor_srt.requirements import list_requirements
from agentd_runner import call_filter
from agentd_runner.call_filter import filter_program
from agentd_testing.escapes.system_v import bait_system_v, has_system_v

Run = Callable[[str], Any]

KINDS = {"SOCK_STREAM": "works", "SOCK_SEQPACKET": "works", "SOCK_DGRAM": "EPERM", "SOCK_RAW": "EPERM"}
PAIRS = """
import errno, json, socket
def pair(kind):
    try:
        one, other = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
    except OSError as error:
        return errno.errorcode[error.errno]
    one.send(b"works")
    return other.recv(10).decode()
print(json.dumps({kind: pair(kind) for kind in ("SOCK_STREAM", "SOCK_SEQPACKET", "SOCK_DGRAM", "SOCK_RAW")}))
"""
FAMILIES = """
import errno, json, socket
def make(family, kind, protocol=0):
    try:
        socket.socket(getattr(socket, family), kind, protocol).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "made"
print(json.dumps({
    **{family: make(family, socket.SOCK_DGRAM) for family in ("AF_INET", "AF_INET6")},
    "AF_NETLINK": make("AF_NETLINK", socket.SOCK_RAW),
    **{f"AF_UNIX {kind.name}": make("AF_UNIX", kind) for kind in socket.SocketKind},
    "MPTCP": make("AF_INET", socket.SOCK_STREAM, 262),
    "NETLINK_NETFILTER": make("AF_NETLINK", socket.SOCK_RAW, 12),
}))
"""
# keyctl, add_key, request_key, io_uring_setup, ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd,
# fanotify_init; each without arguments that would do anything
CALLS = """
import ctypes, errno, json, os
numbers = {
    "x86_64": (250, 248, 249, 425, 101, 310, 311, 312, 438, 300),
    "aarch64": (219, 217, 218, 425, 117, 270, 271, 272, 438, 262),
}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    return "done" if libc.syscall(ctypes.c_long(number), -1, 0, 0, 0, 0) >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps([call(number) for number in numbers]))
"""


@pytest.fixture(scope="module", params=["filter", "sandbox"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A function that runs a program with the filter alone, or in the whole sandbox, and returns what it prints."""
    if request.param == "sandbox":
        with sandbox.make(tmp_path_factory.mktemp("additions"), timeout=20) as executor:
            yield lambda code: json.loads(executor.execute_python(code)[0])
    else:
        command = [sys.executable, "-I", "-c"]
        yield lambda code: json.loads(subprocess.check_output(filtered([*command, code]), text=True))


def test_pairs_of_sockets_that_stay_connected_work_and_others_cannot_be_made(run: Run) -> None:
    assert run(PAIRS) == KINDS


def test_sockets_of_the_internet_and_of_routes_can_be_made_and_unix_ones_of_no_kind(run: Run) -> None:
    refused = {f"AF_UNIX {kind.name}": "EPERM" for kind in socket.SocketKind}
    refused |= {"MPTCP": "EPERM", "NETLINK_NETFILTER": "EPERM"}
    assert run(FAMILIES) == {"AF_INET": "made", "AF_INET6": "made", "AF_NETLINK": "made", **refused}


def test_keyrings_rings_for_system_calls_and_looking_into_other_processes_are_refused(run: Run) -> None:
    assert run(CALLS) == ["EPERM"] * 10


def test_the_filter_holds_for_programs_that_code_starts(run: Run) -> None:
    nested = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {PAIRS!r}], text=True))"
    assert run(nested) == KINDS


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is an ABI of that machine alone")
def test_numbers_of_another_abi_do_not_exist() -> None:
    code = "import ctypes, json; c = ctypes.CDLL(None, use_errno=True); "
    code += "print(json.dumps([c.syscall(ctypes.c_long(0x40000000 + 39)), ctypes.get_errno()]))"  # getpid
    command = filtered([sys.executable, "-I", "-c", code])
    assert json.loads(subprocess.check_output(command, text=True)) == [-1, errno.ENOSYS]


def test_programs_that_pass_messages_inside_still_work(tmp_path: Path) -> None:
    code = """
import asyncio, json, multiprocessing
async def echo():
    async def answer(reader, writer):
        writer.write(await reader.readline()); await writer.drain(); writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"tcp\\n")
    said = (await reader.readline()).decode().strip()
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    return [said, (await process.communicate(b"pipe"))[0].decode()]
with multiprocessing.get_context("fork").Pool(2) as pool:
    squares = pool.map(abs, [-1, -2])
print(json.dumps([*asyncio.run(echo()), *squares]))
"""
    with sandbox.make(tmp_path, timeout=30) as executor:
        output, exit_code = executor.execute_python(code)
        assert exit_code == 0, output
        assert json.loads(output) == ["tcp", "pipe", 1, 2]
        if shutil.which("node"):
            spawn = "require('child_process').execFile('echo', ['node'], (_, out) => console.log(out.trim()))"
            assert executor.execute_bash(f'node -e "{spawn}"') == ("node\n", 0)


def test_system_v_memory_queues_and_semaphores_are_the_sandbox_s_own_and_end_with_it(tmp_path: Path) -> None:
    if not has_system_v():
        pytest.skip("this kernel or container has no System V IPC")
    code = """
import ctypes, json
libc = ctypes.CDLL(None)
made = [libc.shmget(0x4A6D, 4096, 0o1666), libc.msgget(0x4A6D, 0o1666), libc.semget(0x4A6D, 1, 0o1666)]
print(json.dumps([number >= 0 for number in made]))
"""
    seen = "grep -hc . /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem"
    with bait_system_v("s3cr3t"), sandbox.make(tmp_path) as executor:
        assert executor.execute_bash(seen)[0].split() == ["1"] * 3, "a line for each of the host's"
        assert json.loads(executor.execute_python(code)[0]) == [True] * 3
        assert executor.execute_bash(seen)[0].split() == ["2"] * 3
    for kind in ("shm", "msg", "sem"):
        keys = [line.split()[0] for line in Path("/proc/sysvipc", kind).read_text().splitlines()[1:]]
        assert str(0x4A6D) not in keys


def test_a_filter_that_cannot_be_had_ends_the_start_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additions, "filter_program", lambda *_args, **_options: bytes(8))  # it never returns
    command = filtered([sys.executable, "-I", "-c", "print('ran without it')"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("agentd: the sandbox is not safe without a filter of system calls: ")
    assert "this kernel does not take a filter of system calls" in done.stderr


def test_an_interpreter_without_ctypes_is_refused_with_a_sentence() -> None:
    command = filtered([sys.executable, "-I", "-c", "print('ran without it')"])
    command[-1] = "import sys; sys.modules['ctypes'] = None\n" + command[-1]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("agentd: the sandbox is not safe without")
    assert "ctypes" in done.stderr


def test_a_machine_whose_calls_are_not_known_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filter_program.cache_clear()
    monkeypatch.setattr(call_filter, "MACHINES", {})
    with (
        sandbox.make(tmp_path / "w") as executor,
        pytest.raises(SandboxUnavailableError, match="no filter of system calls for the processor"),
    ):
        executor.execute_bash("true")


def test_what_is_added_is_among_the_requirements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert list(lacking_additions().values()) == ["", "", ""]
    assert {"system call filter", "IPC namespaces"} <= {each.name for each in list_requirements() if each.ok}
    script = tmp_path / "bubblewrap.sh"
    script.touch(0o644)
    monkeypatch.setattr(additions, "BUBBLEWRAP", script)
    lacking = {each.name: each.remedy for each in list_requirements() if not each.ok}
    assert f"{script} cannot be run: chmod +x it" == lacking["bubblewrap.sh"]
    with sandbox.make(tmp_path / "w") as executor:
        holds, reason = executor.verify()
    assert not holds
    assert "chmod +x" in reason


def test_verify_says_so_if_what_is_added_is_not_in_force(
    executor: SandboxRuntimeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_executor_srt.executor.filtered", list)
    holds, reason = executor.verify()
    assert not holds
    assert "filter of system calls is not in force" in reason


def test_a_fifo_of_the_host_is_as_closed_as_any_file_and_those_inside_work(tmp_path: Path) -> None:
    if not can_guard_writes():
        pytest.skip("this kernel has no Landlock: Linux 5.19 or newer with CONFIG_SECURITY_LANDLOCK")
    fifo = tmp_path / "outside" / "pipe"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    for path, mode in ((tmp_path, 0o711), (fifo.parent, 0o755), (fifo, 0o666)):
        path.chmod(mode)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with sandbox.make(tmp_path / "w", allow_read=[fifo.parent]) as executor:
            code = f"import os; os.open({str(fifo)!r}, os.O_WRONLY | os.O_NONBLOCK)"
            assert "PermissionError" in executor.execute_python(code)[0]
            inside = (
                "mkfifo p && (echo fifo > p &) && cat p; "
                "mkdir a b && echo moved > a/f && mv a/f b/g && ln b/g a/h && cat a/h; "
                "echo error > /dev/stderr; echo null > /dev/null; diff <(echo 1) <(echo 1) && echo same"
            )
            result = executor.run_sync(BashAction(command=inside))
            assert (result.stdout, result.stderr) == (b"fifo\nmoved\nsame\n", b"error\n")
    finally:
        os.close(reading)


def test_where_something_is_mounted_writable() -> None:
    lines = (
        "1 0 8:1 / / ro,relatime shared:1 - ext4 /dev/sda rw",
        "2 1 8:1 /a /a\\040b rw,nosuid - ext4 /dev/sda rw",
        "3 1 8:1 /c /c rw - ext4 /dev/sda rw",
        "4 1 8:1 /c /c ro - ext4 /dev/sda rw",
        "5 1 0:1 / /d\u00e9 rw - tmpfs none rw",
    )
    assert list(writable_mounts("\n".join(lines).encode())) == [b"/a b", "/d\u00e9".encode()]
